"""The dequantisation lane of a core: sums of any length, a minimum that may be zero."""

from amaranth import *

from mixflight.arch.array_pipeline import EXACT_FP32_INTEGER_BITS
from mixflight.rtl.accumulating_lane import AccumulatingLane
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import SIGNIFICAND
from mixflight.rtl.fp32_balanced import BalancedAdd, BalancedRound
from mixflight.rtl.scaled_product import scaled_product

DSP_BITS = 17
"""Of the narrower factor of a DSP48E2's product, without its sign."""


class CoreLane(AccumulatingLane):
    """``acc = f32(acc + f32(f32(d s_a) f32(I)))``, then ``acc = f32(acc + f32(f32(m s_a) f32(R)))``.

    As :class:`~mixflight.rtl.dequant_lane.DequantLane` with FP16 minima, but ``sum`` may have more than 24 bits: it is
    I rounded to 24 significant ones, which :func:`rounded_integer` does in a step before. Without a minimum m is +0,
    which changes no bit: an accumulator is never -0. ``row_sum`` R has at most 24 bits.
    """

    adder = BalancedAdd

    def __init__(self, *, elements: int, sum_bits: int, row_bits: int):
        if row_bits > EXACT_FP32_INTEGER_BITS + 1:
            raise AssertionError(f"row sums of {row_bits} bits are not exact in FP32")
        self.sum_bits, self.row_bits = sum_bits, row_bits
        super().__init__(elements=elements, zero="f16-min", operands={
            "scale_a": 16, "scale": 16, "minimum": 16, "sum": signed(sum_bits), "row_sum": signed(row_bits)})

    def products(self, m):
        """Of the sum, then of the row's sum."""
        element = delayed(m, self.en, self.i, 1, "selected")
        integer = delayed(m, self.en, element.sum, 1, "integer")
        rows = delayed(m, self.en, element.row_sum, 1, "row_sum")
        return [
            scaled_product(m, self.en, element.scale, element.scale_a, integer, magnitude_bits=self.sum_bits - 1,
                           name="main", rounding_unit=BalancedRound, multiplied=in_halves),
            scaled_product(m, self.en, element.minimum, element.scale_a, rows, magnitude_bits=self.row_bits - 1,
                           name="minimum", rounding_unit=BalancedRound, multiplied=in_halves),
        ]


def in_halves(scales, magnitude):
    """Their product from those of the lower 17 bits of ``magnitude`` and of the rest: a DSP48E2 each, 26 x 17 bits
    without signs. Left to itself Yosys cuts both factors, for up to four DSPs and more additions."""
    low, high = scales * magnitude[:DSP_BITS], scales * magnitude[DSP_BITS:]
    return Cat(low[:DSP_BITS], low[DSP_BITS:] + high)


def rounded_integer(m: Module, value, name: str):
    """f32(value) as an integer of the same width: bits below the 24 significant ones rounded, RNE. Combinational.

    A magnitude that rounds up to the width's own power of two would not fit: callers have a bit to spare.
    """
    # In two's complement: what is below a place is rounded alike on both sides. The leading bit is looked for in the
    # ones' complement of what is negative: one less is shorter only where nothing is to be rounded.
    places = range(1, len(value) - SIGNIFICAND)
    ones = value[:-1] ^ value[-1].replicate(len(value) - 1)
    here = [Signal(name=f"{name}_by_{place}") for place in places]
    up = [Signal(name=f"{name}_up_{place}") for place in places]
    for place, found, add in zip(places, here, up, strict=True):
        m.d.comb += [
            found.eq(ones[SIGNIFICAND + place - 1] & ~ones[SIGNIFICAND + place:].any()),
            add.eq(found & value[place - 1] & (value[place] | value[:place - 1].any())),
        ]
    kept = Cat(value[bit] & ~Cat(here[bit:]).any() for bit in range(len(places)))
    result = Signal(signed(len(value)), name=f"{name}_rounded")
    m.d.comb += result.eq(Cat(kept, value[len(places):]) + Cat(Const(0, 1), *up))
    return result
