"""FP32 addition with gradual underflow, rounded to nearest, ties to even."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import ADD_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32, SIGNIFICAND
from mixflight.rtl.increment import incremented
from mixflight.rtl.leading_zeros import leading_zeros

_TOTAL = SIGNIFICAND + 4
"""Three bits below the significand, the lowest for all that are not kept, and the carry above it."""
_MOST = 31
"""Places that the smaller operand is moved down at most; from 27 on only its sticky bit is left."""

_HALF = 15
"""Bits of a lower half, whose carry chooses the upper one: half the carry chain."""


class Fp32Sum(wiring.Component):
    """``f32(a + b)`` of finite FP32 values, subnormal ones too; ``ADD_STAGES`` steps, one sum a step.

    A sum of 2^128 or more, infinities and NaN mean nothing. Equal magnitudes of opposite sign give +0, as does
    +0 + -0; -0 + -0 gives -0.
    """

    LATENCY = ADD_STAGES

    def __init__(self):
        super().__init__({"en": In(1), "a": In(32), "b": In(32), "sum": Out(32)})

    def elaborate(self, platform):
        """Order by magnitude; align the smaller; add; count zeros; move up, not below exponent 1; round."""
        m = Module()
        large, small, distance, exponent, sign, subtract = self._ordered(m)
        wide, aligned = Signal(SIGNIFICAND + 3 + _MOST), Signal(SIGNIFICAND + 3, reset_less=True)
        far = distance[5:].any()
        m.d.comb += wide.eq((small << (3 + _MOST)) >> distance[:5])
        with m.If(self.en):
            m.d.sync += aligned.eq(Cat(Mux(far, small.any(), wide[:_MOST + 1].any()), Mux(far, 0, wide[_MOST + 1:])))

        total = Signal(_TOTAL, reset_less=True)
        first, second = Signal(SIGNIFICAND + 3), delayed(m, self.en, subtract, 1, "subtract")
        m.d.comb += first.eq(delayed(m, self.en, large, 1, "large") << 3)
        a, b = Cat(first, Const(0, 1)), aligned ^ second.replicate(_TOTAL)
        low, high = Signal(_HALF + 2), [Signal(_TOTAL - _HALF, name=f"high_{carry}") for carry in range(2)]
        m.d.comb += low.eq(Cat(Const(1), a[:_HALF]) + Cat(second, b[:_HALF]))
        m.d.comb += [part.eq((Cat(Const(1), a[_HALF:]) + Cat(Const(carry), b[_HALF:]))[1:])
                     for carry, part in enumerate(high)]
        with m.If(self.en):
            m.d.sync += total.eq(Cat(low[1:-1], Mux(low[-1], high[1], high[0])))
        exponent = delayed(m, self.en, exponent, 1, "exponent")
        zeros = self._zeros(m, total, exponent)
        total = delayed(m, self.en, total, 1, "total")
        exponent = delayed(m, self.en, exponent, 2, "later")

        moved, kept, field = Signal(_TOTAL), Signal(SIGNIFICAND + 2, reset_less=True), Signal(8, reset_less=True)
        m.d.comb += moved.eq(total << zeros)
        with m.If(self.en):
            m.d.sync += [
                kept.eq(Cat(moved[:3].any(), moved[3:])),
                field.eq(Mux(moved[-1], exponent + 1 - zeros, 0)),
            ]
        rounded = incremented(m, Cat(kept[2:-1], field), kept[1] & (kept[0] | kept[2]), "rounded")
        with m.If(self.en):
            m.d.sync += self.sum.eq(Cat(rounded, delayed(m, self.en, sign, 4, "sign")))
        return m

    def _ordered(self, m: Module):
        """After a step: significands of the larger and the smaller magnitude, how far their exponents lie apart, the
        larger one's exponent (1 of subnormal numbers), the sum's sign, and whether magnitudes are subtracted."""
        a, b = data.View(FP32, self.a), data.View(FP32, self.b)
        swap, below, above, alike = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            below.eq(self.a[:_HALF] < self.b[:_HALF]), above.eq(self.a[_HALF:31] < self.b[_HALF:31]),
            alike.eq(self.a[_HALF:31] == self.b[_HALF:31]), swap.eq(above | alike & below),
        ]
        significands, exponents = [], []
        for name, value in (("a", a), ("b", b)):
            normal, significand, exponent = Signal(name=f"{name}_normal"), Signal(SIGNIFICAND), Signal(8)
            m.d.comb += [normal.eq(value.exponent != 0), significand.eq(Cat(value.fraction, normal)),
                         exponent.eq(Cat(value.exponent[0] | ~normal, value.exponent[1:]))]
            significands.append(significand)
            exponents.append(exponent)
        # A subnormal number has the exponent 1, not 0: one less between it and a normal one, which comes as the carry.
        apart = [Signal(8, name=f"apart_{i}") for i in range(2)]
        for part, larger, smaller in ((apart[0], a, b), (apart[1], b, a)):
            carry = (smaller.exponent != 0) | (larger.exponent == 0)
            m.d.comb += part.eq((Cat(Const(1, 1), larger.exponent) + Cat(carry, ~smaller.exponent))[1:9])
        large, small = (Signal(SIGNIFICAND, name=name, reset_less=True) for name in ("larger", "smaller"))
        distance, exponent = Signal(8, reset_less=True), Signal(8, reset_less=True)
        sign, subtract = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                large.eq(Mux(swap, significands[1], significands[0])),
                small.eq(Mux(swap, significands[0], significands[1])),
                distance.eq(Mux(swap, apart[1], apart[0])),
                exponent.eq(Mux(swap, exponents[1], exponents[0])),
                subtract.eq(a.sign ^ b.sign),
                sign.eq(Mux(self.a[:31] == self.b[:31], a.sign & b.sign, Mux(swap, b.sign, a.sign))),
            ]
        return large, small, distance, exponent, sign, subtract

    def _zeros(self, m: Module, total, before):
        """After a step: zeros above the leading one of ``total``, and no more than ``before``, a step earlier."""
        limits, guide = Signal(_TOTAL, reset_less=True), Signal(_TOTAL)
        zeros = Signal(5, reset_less=True)
        m.d.comb += guide.eq(total | limits)
        with m.If(self.en):
            m.d.sync += [
                limits.eq(Const(1 << _TOTAL - 1, _TOTAL) >> before),
                zeros.eq(leading_zeros(m, guide, "zeros")),
            ]
        return zeros
