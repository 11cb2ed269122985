"""The lane of FP32 group sums: scaled by an FP16 value and added up."""

from amaranth import *
from amaranth.lib import data

from mixflight.arch.array_pipeline import SELECT_TO_PRODUCT
from mixflight.arch.errors import InputError
from mixflight.rtl.accumulating_lane import AccumulatingLane
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32, SIGNIFICAND, Fp32Round, fp16_integer

PRODUCT_BITS = SIGNIFICAND + 11


class FloatLane(AccumulatingLane):
    """Scale the FP32 group sums of up to ``elements`` outputs and add each into its output's FP32 accumulator.

    An element is an FP32 ``sum`` S and an FP16 ``scale`` d, with ``f16-min`` also an FP16 minimum ``zero`` m and the
    FP32 ``row_sum`` A of the activations alone. With f32 = one rounding to nearest, ties to even, the accumulator of
    output ``element`` becomes, from +0 if ``first``:

    - ``none``     acc = f32(acc + f32(d * S))
    - ``f16-min``  the first, then acc = f32(acc + f32(m * A))

    Where K is one group and d = 1 it is S itself. Steps are those of a lane of integers: the 24 x 11 bit multiplier
    has two registers, so that one formula times arrays of every PE.

    Why few special cases are needed: S, of exact products of finite FP16 values, is a multiple of 2**-48, so d * S is
    one of 2**-72 and no rounded value is subnormal; S is below 2**111 for any sum that can be run, d * S below 2**127.
    """

    def __init__(self, *, elements: int, zero: str = "none"):
        if zero not in ("none", "f16-min"):
            raise InputError(f"zero must be none or f16-min, not {zero!r}, in a lane of FP32 sums")
        operands = {"scale": 16, "sum": 32}
        if zero != "none":
            operands |= {"zero": 16, "row_sum": 32}
        super().__init__(elements=elements, zero=zero, operands=operands)

    def products(self, m):
        """d * S, and with minima m * A."""
        element = delayed(m, self.en, self.i, 1, "selected")
        found = [self._scaled(m, element.scale, element.sum, "main")]
        if self.zero == "f16-min":
            found.append(self._scaled(m, element.zero, element.row_sum, "minimum"))
        return found

    def _scaled(self, m, scale, word, name):
        """f32(scale * word) of an FP16 and an FP32 value."""
        registers = 1 + 3 + Fp32Round.LATENCY
        if registers != SELECT_TO_PRODUCT:
            raise AssertionError(f"a product has {registers} registers, timing counts {SELECT_TO_PRODUCT}")
        sign, significand, exponent = fp16_integer(m, scale, f"{name}_scale")
        value = data.View(FP32, word)
        parts = Signal(data.StructLayout({"scale": 11, "sum": SIGNIFICAND, "sign": 1, "exponent": 8}),
                       name=f"{name}_parts")
        m.d.comb += [
            parts.scale.eq(significand),
            parts.sum.eq(Cat(value.fraction, value.exponent != 0)),
            parts.sign.eq(sign ^ value.sign),
            # significand * 2**(exponent - 25) times significand * 2**(exponent - 150); of a zero it does not matter.
            parts.exponent.eq(exponent + value.exponent - (25 + 150 - 127)),
        ]
        parts = delayed(m, self.en, parts, 1, f"{name}_unpacked")
        product = Signal(PRODUCT_BITS, name=f"{name}_product")
        m.d.comb += product.eq(parts.scale * parts.sum)
        m.submodules[f"round_{name}"] = rounding = Fp32Round(magnitude_bits=PRODUCT_BITS)
        m.d.comb += [
            rounding.en.eq(self.en),
            rounding.magnitude.eq(delayed(m, self.en, product, 2, f"{name}_product")),
            rounding.sign.eq(delayed(m, self.en, parts.sign, 2, f"{name}_sign")),
            rounding.exponent.eq(delayed(m, self.en, parts.exponent, 2, f"{name}_exponent")),
        ]
        return rounding.value
