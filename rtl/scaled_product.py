"""The product path of a dequantisation lane: two FP16 scales times an exact integer, rounded once to FP32."""

from operator import mul

from amaranth import *

from mixflight.arch.array_pipeline import SELECT_TO_PRODUCT
from mixflight.rtl.fp32 import Fp32Round, fp16_integer


def scaled_product(m: Module, en, scale, scale_a, integer, *, magnitude_bits: int, name: str, aligned_bits: int = 0,
                   rounding_unit=Fp32Round, multiplied=mul):
    """f32(f32(scale * scale_a) * integer), given the FP16 scales and, a step (cycle with ``en``) later, the integer.

    The scales are finite, so each is an 11-bit integer times a power of two; their product has 22 bits and is exact.
    ``integer`` has at most ``magnitude_bits`` of magnitude, of which 24 are significant, so one rounding is all there
    is. ``scale_a`` counts 2**-aligned_bits times. ``rounding_unit``: what rounds, ``multiplied``: the product of two
    integers. ``SELECT_TO_PRODUCT`` - 1 steps.
    """
    registers = 1 + 3 + rounding_unit.LATENCY
    if registers != SELECT_TO_PRODUCT:
        raise AssertionError(f"a product has {registers} registers, timing counts {SELECT_TO_PRODUCT}")
    sign, significand, exponent = fp16_integer(m, scale, f"{name}_scale")
    sign_a, significand_a, exponent_a = fp16_integer(m, scale_a, f"{name}_scale_a")

    def register(value, shape, suffix):
        result = Signal(shape, name=f"{name}_{suffix}", reset_less=True)
        with m.If(en):
            m.d.sync += result.eq(value)
        return result

    scales = register(significand * significand_a, 22, "scales")
    scales_sign = register(sign ^ sign_a, 1, "scales_sign")
    # significand * 2**(exponent - 25), twice: bit 0 of the product weighs 2**(exponents - 50).
    exponents = register(exponent + exponent_a + (127 - 50 - aligned_bits), 8, "exponents")

    wide = Signal(signed(magnitude_bits + 1), name=f"{name}_wide")
    m.d.comb += wide.eq(integer)
    magnitude = register(Mux(wide[-1], -wide, wide), magnitude_bits, "magnitude")
    scales_2 = register(scales, 22, "scales_2")
    sign_2 = register(scales_sign ^ wide[-1], 1, "sign_2")
    exponents_2 = register(exponents, 8, "exponents_2")

    m.submodules[f"round_{name}"] = rounding = rounding_unit(magnitude_bits=22 + magnitude_bits)
    m.d.comb += [
        rounding.en.eq(en),
        rounding.magnitude.eq(register(multiplied(scales_2, magnitude), 22 + magnitude_bits, "product")),
        rounding.sign.eq(register(sign_2, 1, "sign_3")),
        rounding.exponent.eq(register(exponents_2, 8, "exponents_3")),
    ]
    return rounding.value
