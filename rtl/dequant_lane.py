"""The dequantisation lane: group sums in, scaled FP32 outputs out."""

from amaranth import *

from mixflight.arch.array_pipeline import LANE_ZEROS, row_sum_bits, scaled_bits, sum_bits
from mixflight.arch.errors import InputError
from mixflight.arch.formats import ZERO_BITS
from mixflight.rtl.accumulating_lane import AccumulatingLane
from mixflight.rtl.delay import delayed
from mixflight.rtl.scaled_product import scaled_product


class DequantLane(AccumulatingLane):
    """Scale the group sums of up to ``elements`` outputs and add each into its output's FP32 accumulator.

    An element a step (a cycle with ``en``) is taken while ``i.valid``: integer ``sum`` I, FP16 ``scale`` d
    and ``scale_a`` s_a, with zero points also ``zero`` and ``row_sum`` R. With f32 = one rounding to nearest,
    ties to even, the accumulator of output ``element`` becomes, from +0 if ``first``:

    - ``none``     acc = f32(acc + f32(f32(d * s_a) * f32(I)))
    - ``int4``     the same with the exact integer I - zero * R
    - ``f16-min``  the first, then acc = f32(acc + f32(f32(zero * s_a) * f32(R))), ``zero`` an FP16 minimum

    ``centred``: ``sum`` is I - 8 R, of codes less 8 (:mod:`mixflight.rtl.pe_centred`), and the lane adds 8 R: for
    ``int4`` it subtracts (zero - 8) * R, no wider a product, for ``f16-min`` it adds R shifted by 3, for
    ``none`` it knows no R and I - 8 R is what is scaled.

    ``aligned_bits`` (None: none): activations are integers in units of ``2**-aligned_bits`` of what ``scale_a`` says
    (:mod:`mixflight.rtl.pe_align`), codes are unsigned where there are integer zero points, and every scale_a above is
    2**-aligned_bits of the one given.

    Why few special cases are needed. d, s_a and FP16 minima are finite (their source must refuse infinities
    and NaNs), so each is an 11-bit integer times 2**-24 or a larger power of two. Their product has 22 bits:
    f32(d * s_a) is exact. I has at most 24 bits, which the constructor checks: f32(I) is exact. So the
    product is one rounding of an integer product. Every value is a multiple of 2**-48 (with aligned activations of
    2**-77 at worst), and rounding such a
    multiple to 24 bits gives one again, so no non-zero value is smaller and no subnormal occurs; a
    product is below 2**56, so no sum of fewer than 2**71 groups overflows. A sum that starts from +0 is never
    -0, so the sign of a zero product is of no consequence.
    """

    def __init__(self, *, elements: int, group_max: int = 128, zero: str = "none", two_pass: bool = False,
                 w_bits: int = 4, a_bits: int = 8, centred: bool = False, aligned_bits: int | None = None):
        if zero not in LANE_ZEROS:
            raise InputError(f"zero must be one of {', '.join(LANE_ZEROS)}, not {zero!r}, in a lane")
        codes = {"group_max": group_max, "w_bits": w_bits, "a_bits": a_bits, "passes": 1 + two_pass}
        self.magnitude_bits = scaled_bits(**codes, zero=zero, signed_codes=aligned_bits is None)
        self.centred = centred
        self.aligned_bits = aligned_bits or 0
        self.row_bits = row_sum_bits(group_max=group_max, a_bits=a_bits)
        operands = {"scale_a": 16, "scale": 16, "sum": signed(sum_bits(**codes))}
        if zero != "none":
            operands |= {"zero": ZERO_BITS[zero], "row_sum": signed(self.row_bits)}
        super().__init__(elements=elements, zero=zero, operands=operands)

    def products(self, m):
        """The scaled group sum, and with minima the scaled row sum."""
        found = [self._main_product(m)]
        if self.zero == "f16-min":
            found.append(self._minimum_product(m))
        return found

    def _main_product(self, m):
        """f32(f32(d * s_a) * f32(I - zero * R)), the subtraction only for an integer zero point."""
        element = delayed(m, self.en, self.i, 1, "selected")
        integer = delayed(m, self.en, element.sum, 1, "integer")
        if self.zero == "int4":
            offset = Signal(signed(self.row_bits + 4), reset_less=True)
            zero = Cat(element.zero[:-1], ~element.zero[-1]).as_signed() if self.centred else element.zero
            with m.If(self.en):
                m.d.sync += offset.eq(element.row_sum * zero)
            integer = integer - offset
        elif self.zero == "f16-min" and self.centred:
            integer = integer + (delayed(m, self.en, element.row_sum, 1, "centre") << 3)
        return self._scaled(m, element.scale, element.scale_a, integer, self.magnitude_bits, "main")

    def _minimum_product(self, m):
        """f32(f32(zero * s_a) * f32(R))."""
        element = delayed(m, self.en, self.i, 1, "with_minimum")
        integer = delayed(m, self.en, element.row_sum, 1, "row_sum")
        return self._scaled(m, element.zero, element.scale_a, integer, self.row_bits, "minimum")

    def _scaled(self, m, scale, scale_a, integer, magnitude_bits, name):
        """f32(f32(scale * scale_a) * integer), given the FP16 scales and, a step later, the integer."""
        return scaled_product(m, self.en, scale, scale_a, integer, magnitude_bits=magnitude_bits, name=name,
                              aligned_bits=self.aligned_bits)
