"""FP32 multiplication with gradual underflow, rounded to nearest, ties to even."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import MULTIPLY_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32, KEPT, SIGNIFICAND
from mixflight.rtl.increment import incremented

_LOW_BITS = 17
"""Of one factor in the first of two products: unsigned, they fit the 18-bit signed port of a DSP."""
_PRODUCT = 2 * SIGNIFICAND
_HALF = 14
_MOST = 31
"""Places that a significand is moved down at most: more than it has."""


class Fp32Multiply(wiring.Component):
    """``f32(a * b)`` of finite FP32 values, subnormal ones too; ``MULTIPLY_STAGES`` steps, one product a step.

    A product of 2^128 or more, infinities and NaN mean nothing. Zeros have the sign of the product.
    """

    LATENCY = MULTIPLY_STAGES

    def __init__(self):
        super().__init__({"en": In(1), "a": In(32), "b": In(32), "product": Out(32)})

    def elaborate(self, platform):
        """Order; normalise a subnormal factor; multiply; scale down what is below 2^-126; round."""
        m = Module()
        sign, small, other, exponent, zero = self._normalised(m)
        product, leading, shift_if, exponent_if = self._product(m, small, other, exponent)
        kept, shift, field = self._leading_one(m, product, leading, shift_if, exponent_if)
        self._rounded(m, kept, shift, field, delayed(m, self.en, sign, 6, "sign"), delayed(m, self.en, zero, 4, "zero"))
        return m

    def _normalised(self, m: Module):
        """After 1, 3 and 3 steps: the sign; the factor that may be subnormal, normalised, and the other one.

        Then also the biased exponent of a product whose leading one is its bit 46, and whether the product is 0 or less
        than half of the smallest FP32 number.
        """
        a, b = data.View(FP32, self.a), data.View(FP32, self.b)
        below = Signal()
        m.d.comb += below.eq(b.exponent == 0)
        sign, both = Signal(reset_less=True), Signal(reset_less=True)
        small, other = (Signal(SIGNIFICAND, name=name, reset_less=True) for name in ("small", "other"))
        fields = Signal(10, reset_less=True)
        of_a, of_b = (Signal(SIGNIFICAND, name=name) for name in ("of_a", "of_b"))
        m.d.comb += [of_a.eq(Cat(a.fraction, a.exponent != 0)), of_b.eq(Cat(b.fraction, ~below))]
        with m.If(self.en):
            m.d.sync += [
                sign.eq(a.sign ^ b.sign),
                small.eq(Mux(below, of_b, of_a)), other.eq(Mux(below, of_a, of_b)),
                both.eq(below & ~of_a[-1]),
                fields.eq(a.exponent + b.exponent + 1),     # a subnormal factor counts as exponent 1
            ]
        empty = []
        for level, steps in enumerate(((16, 8), (4, 2, 1))):
            moved = Signal(SIGNIFICAND, name=f"normal_{level}", reset_less=True)
            found = Signal(len(steps), name=f"empty_{level}", reset_less=True)
            bits = []
            for by in steps:
                bare, shifted = Signal(name=f"bare_{by}"), Signal(SIGNIFICAND, name=f"by_{by}")
                m.d.comb += [bare.eq(small[-by:] == 0), shifted.eq(Mux(bare, small << by, small))]
                bits.insert(0, bare)
                small = shifted
            with m.If(self.en):
                m.d.sync += [moved.eq(small), found.eq(Cat(bits))]
            small = moved
            empty.insert(0, delayed(m, self.en, found, 1 - level, f"empties_{level}"))
        denormal = delayed(m, self.en, both, 2, "both")
        exponent = Signal(signed(11), reset_less=True)
        fields = delayed(m, self.en, fields, 1, "fields")
        subnormal = delayed(m, self.en, below | (a.exponent == 0), 2, "subnormal")
        with m.If(self.en):
            m.d.sync += exponent.eq(fields - Mux(subnormal, 127, 128))
        biased = Signal(signed(11))
        m.d.comb += biased.eq(exponent - Cat(*empty))
        return sign, small, delayed(m, self.en, other, 2, "other"), biased, denormal | ~small[-1]

    def _product(self, m: Module, small, other, exponent):
        """After 3 steps more the product; whether it has a bit 47; for both cases its exponent and a shift down."""
        low, high = (delayed(m, self.en, small * part, 2, name)
                     for part, name in ((other[:_LOW_BITS], "low"), (other[_LOW_BITS:], "high")))
        product = Signal(_PRODUCT, reset_less=True)
        held = delayed(m, self.en, exponent, 2, "exponent")
        shifts, fields = [], []
        for carry in (0, 1):
            below, down, field = Signal(signed(12), name=f"below_{carry}"), Signal(5, name=f"down_{carry}"), Signal(8)
            above = Signal(signed(12), name=f"above_{carry}")
            m.d.comb += [
                above.eq(held + carry), field.eq(Mux(above[-1], 0, above)),
                below.eq(1 - carry - held), down.eq(Mux(below[-1], 0, below[:5] | below[5:].any().replicate(5))),
            ]
            shifts.append(delayed(m, self.en, down, 1, f"shift_{carry}"))
            fields.append(delayed(m, self.en, field, 1, f"field_{carry}"))
        # The upper half of the sum for both carries, then chosen: half the carry chain.
        upper = low[_LOW_BITS:]
        lower = Signal(_HALF + 1)
        sums = [Signal(len(high) - _HALF, name=f"sum_{carry}") for carry in range(2)]
        m.d.comb += lower.eq(upper[:_HALF] + high[:_HALF])
        m.d.comb += [part.eq((Cat(Const(1), upper[_HALF:]) + Cat(Const(carry), high[_HALF:]))[1:])
                     for carry, part in enumerate(sums)]
        with m.If(self.en):
            m.d.sync += product.eq(Cat(low[:_LOW_BITS], lower[:_HALF], Mux(lower[-1], sums[1], sums[0])))
        return product, product[-1], shifts, fields

    def _leading_one(self, m: Module, product, leading, shifts, fields):
        """After a step more: significand, next bit and sticky bit of the product, its shift down and exponent."""
        kept = Signal(KEPT, reset_less=True)
        shift, field = Signal(5, reset_less=True), Signal(8, reset_less=True)
        below = _PRODUCT - KEPT + 1
        with m.If(self.en):
            m.d.sync += [
                kept.eq(Cat(product[:below - 1].any() | (leading & product[below - 1]),
                            Mux(leading, product[below:], product[below - 1:-1]))),
                shift.eq(Mux(leading, shifts[1], shifts[0])),
                field.eq(Mux(leading, fields[1], fields[0])),
            ]
        return kept, shift, field

    def _rounded(self, m: Module, kept, shift, field, sign, zero):
        """Two steps more: moved down with what falls out kept as one bit, then rounded."""
        wide, moved, exponent = Signal(KEPT + _MOST), Signal(KEPT, reset_less=True), Signal(8, reset_less=True)
        m.d.comb += wide.eq((kept << _MOST) >> shift)
        with m.If(self.en):
            m.d.sync += [
                moved.eq(Mux(zero, 0, Cat(wide[:_MOST + 1].any(), wide[_MOST + 1:]))),
                exponent.eq(Mux(zero, 0, field)),
            ]
        rounded = incremented(m, Cat(moved[2:-1], exponent), moved[1] & (moved[0] | moved[2]), "rounded")
        with m.If(self.en):
            m.d.sync += self.product.eq(Cat(rounded, delayed(m, self.en, sign, 1, "final")))
        return m
