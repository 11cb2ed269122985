"""The dequantisation lane: group sums in, scaled FP32 outputs out."""

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.array_pipeline import (
    LANE_ZEROS,
    SELECT_TO_PRODUCT,
    lane_latency,
    loop_latency,
    row_sum_bits,
    scaled_bits,
    sum_bits,
)
from mixflight.arch.errors import InputError
from mixflight.arch.formats import ZERO_BITS
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import Fp32Add, Fp32Round, fp16_integer


class DequantLane(wiring.Component):
    """Scale the group sums of up to ``elements`` outputs and add each into its output's FP32 accumulator.

    An element a step (a cycle with ``en``) is taken while ``i.valid``: integer ``sum`` I, FP16 ``scale`` d
    and ``scale_a`` s_a, with zero points also ``zero`` and ``row_sum`` R. With f32 = one rounding to nearest,
    ties to even, the accumulator of output ``element`` becomes, from +0 if ``first``:

    - ``none``     acc = f32(acc + f32(f32(d * s_a) * f32(I)))
    - ``int4``     the same with the exact integer I - zero * R
    - ``f16-min``  the first, then acc = f32(acc + f32(f32(zero * s_a) * f32(R))), ``zero`` an FP16 minimum

    If ``last``, it is offered on ``out`` ``lane_latency`` steps after the element was presented. An output's
    elements must be ``loop_latency`` or more steps apart. ``out.valid`` falls when the value is taken, also
    without ``en``, and ``en`` must be 0 while a value is offered and not taken; nothing else changes without
    ``en``.

    ``centred``: ``sum`` is I - 8 R, of codes less 8 (:mod:`mixflight.rtl.pe_centred`), and the lane adds 8 R: for
    ``int4`` it subtracts (zero - 8) * R, no wider a product, for ``f16-min`` it adds R shifted by 3, for
    ``none`` it knows no R and I - 8 R is what is scaled.

    Why few special cases are needed. d, s_a and FP16 minima are finite (their source must refuse infinities
    and NaNs), so each is an 11-bit integer times 2**-24 or a larger power of two. Their product has 22 bits:
    f32(d * s_a) is exact. I has at most 24 bits, which the constructor checks: f32(I) is exact. So the
    product is one rounding of an integer product. Every value is a multiple of 2**-48, and rounding a
    multiple of 2**-48 to 24 bits gives one again, so no non-zero value is smaller and no subnormal occurs; a
    product is below 2**56, so no sum of fewer than 2**71 groups overflows. A sum that starts from +0 is never
    -0, so the sign of a zero product is of no consequence.
    """

    def __init__(self, *, elements: int, group_max: int = 128, zero: str = "none", two_pass: bool = False,
                 w_bits: int = 4, a_bits: int = 8, centred: bool = False):
        if zero not in LANE_ZEROS:
            raise InputError(f"zero must be one of {', '.join(LANE_ZEROS)}, not {zero!r}, in a lane")
        if elements < 1:
            raise InputError(f"elements must be at least 1, not {elements}, in a lane")
        codes = {"group_max": group_max, "w_bits": w_bits, "a_bits": a_bits, "passes": 1 + two_pass}
        self.magnitude_bits = scaled_bits(**codes, zero=zero)
        self.elements = elements
        self.zero = zero
        self.centred = centred
        self.row_bits = row_sum_bits(group_max=group_max, a_bits=a_bits)
        self.lane_latency = lane_latency(zero)
        self.loop_latency = loop_latency(zero)
        fields = {
            "valid": 1, "first": 1, "last": 1, "element": range(elements),
            "scale_a": 16, "scale": 16, "sum": signed(sum_bits(**codes)),
        }
        if zero != "none":
            fields |= {"zero": ZERO_BITS[zero], "row_sum": signed(self.row_bits)}
        super().__init__({
            "en": In(1),
            "i": In(data.StructLayout(fields)),
            "out": Out(stream.Signature(unsigned(32))),
        })

    def elaborate(self, platform):
        """The product path, the accumulator loop, the output register's valid bit."""
        m = Module()
        tag_layout = data.StructLayout({"valid": 1, "first": 1, "last": 1, "element": range(self.elements)})
        offered = Signal(tag_layout)
        m.d.comb += [offered[field].eq(self.i[field]) for field in ("valid", "first", "last", "element")]

        products = [self._main_product(m)]
        if self.zero == "f16-min":
            products.append(self._minimum_product(m))

        read = delayed(m, self.en, offered, SELECT_TO_PRODUCT, "tag", reset=True)
        added = delayed(m, self.en, read, Fp32Add.LATENCY * len(products), "tag_added", reset=True)
        accumulators = memory.Memory(shape=32, depth=max(2, self.elements), init=[])
        m.submodules.accumulators = accumulators
        read_port = accumulators.read_port(domain="comb")
        write_port = accumulators.write_port()

        total = Signal(32, name="total")
        m.d.comb += [
            read_port.addr.eq(read.element),
            total.eq(Mux(read.first, 0, read_port.data)),
        ]
        for number, product in enumerate(products):
            m.submodules[f"add_{number}"] = add = Fp32Add()
            m.d.comb += [
                add.en.eq(self.en),
                add.a.eq(total),
                add.b.eq(delayed(m, self.en, product, Fp32Add.LATENCY * number, f"product_{number}")),
            ]
            total = add.sum

        m.d.comb += [
            write_port.addr.eq(added.element),
            write_port.data.eq(total),
            write_port.en.eq(self.en & added.valid),
        ]

        # ``taken``: the value in the last adder's register has left while everything stood still.
        taken = Signal()
        m.d.comb += [
            self.out.payload.eq(total),
            self.out.valid.eq(added.valid & added.last & ~taken),
        ]
        with m.If(self.en):
            m.d.sync += taken.eq(0)
        with m.Elif(self.out.valid & self.out.ready):
            m.d.sync += taken.eq(1)
        return m

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
        registers = 1 + 3 + Fp32Round.LATENCY
        if registers != SELECT_TO_PRODUCT:
            raise AssertionError(f"a product has {registers} registers, timing counts {SELECT_TO_PRODUCT}")
        sign, significand, exponent = fp16_integer(m, scale, f"{name}_scale")
        sign_a, significand_a, exponent_a = fp16_integer(m, scale_a, f"{name}_scale_a")

        def register(value, shape, suffix):
            result = Signal(shape, name=f"{name}_{suffix}", reset_less=True)
            with m.If(self.en):
                m.d.sync += result.eq(value)
            return result

        scales = register(significand * significand_a, 22, "scales")
        scales_sign = register(sign ^ sign_a, 1, "scales_sign")
        # significand * 2**(exponent - 25), twice: bit 0 of the product weighs 2**(exponents - 50).
        exponents = register(exponent + exponent_a + (127 - 50), 8, "exponents")

        wide = Signal(signed(magnitude_bits + 1), name=f"{name}_wide")
        m.d.comb += wide.eq(integer)
        magnitude = register(Mux(wide[-1], -wide, wide), magnitude_bits, "magnitude")
        scales_2 = register(scales, 22, "scales_2")
        sign_2 = register(scales_sign ^ wide[-1], 1, "sign_2")
        exponents_2 = register(exponents, 8, "exponents_2")

        m.submodules[f"round_{name}"] = rounding = Fp32Round(magnitude_bits=22 + magnitude_bits)
        m.d.comb += [
            rounding.en.eq(self.en),
            rounding.magnitude.eq(register(scales_2 * magnitude, 22 + magnitude_bits, "product")),
            rounding.sign.eq(register(sign_2, 1, "sign_3")),
            rounding.exponent.eq(register(exponents_2, 8, "exponents_3")),
        ]
        return rounding.value
