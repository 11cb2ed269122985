"""FP16 activations as integers: aligned to their group's largest exponent at the array's edge."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.errors import InputError
from mixflight.rtl.fp32 import fp16_integer


def aligned_bits(extra_bits: int) -> int:
    """Bits of an aligned activation in two's complement: an 11-bit significand, ``extra_bits`` below it, a sign."""
    if not 0 <= extra_bits <= 29:
        raise InputError(f"extra_bits must be in 0..29, not {extra_bits}, in an alignment of activations")
    return 12 + extra_bits


class GroupAlign(wiring.Component):
    """``±significand * 2**(e - 25)`` as the integer ``±RNE(significand * 2**extra_bits / 2**(exponent - e))``.

    Once a row of the array and step, so that the PEs behind it are integer PEs with activations of ``12 +
    extra_bits`` bits (one way of FIGNA, whose text gives no rounding; this one is ours). ``exponent`` is the
    group's largest exponent field, at least 1, known before the group enters as an activation scale is; a
    larger field in ``a`` gives no defined value. An all-ones exponent is an ordinary one. The result comes a
    step after its operands; without ``en`` nothing changes.

    A group of exact integer sum I is worth ``I * 2**(exponent - 25 - extra_bits)``: the dequantisation lane
    takes the FP16 value 2**(exponent - 25) as its activation scale, and the constant ``2**-extra_bits`` goes
    with the weight scales. Each activation is off by at most half a unit, 2**-(11 + extra_bits) of the group's
    largest activation where that is normal; none is off where the group's exponents differ by at most
    ``extra_bits``, and none ever with 29 extra bits. With 2, sums of 128 codes below 16 are below 2**24, which
    an FP32 holds exactly.
    """

    def __init__(self, *, extra_bits: int = 2):
        self.extra_bits = extra_bits
        self.out_bits = aligned_bits(extra_bits)
        super().__init__({
            "en": In(1),
            "a": In(unsigned(16)),
            "exponent": In(unsigned(5)),
            "value": Out(signed(self.out_bits)),
        })

    def elaborate(self, platform):
        """Shift right with guard and sticky bits, round, negate."""
        m = Module()
        sign, significand, exponent = fp16_integer(m, self.a, "a")
        bits = 11 + self.extra_bits
        distance = Signal(5)
        m.d.comb += distance.eq(self.exponent - exponent)
        # One bit below the unit decides, what falls below that is sticky.
        moved = Cat(Const(0, 1 + self.extra_bits), significand)
        sticky = Const(0, 1)
        for level in range(5):
            step = 1 << level
            later = Signal(bits + 1, name=f"moved_{step}")
            fallen = Signal(name=f"fallen_{step}")
            m.d.comb += [
                later.eq(Mux(distance[level], moved >> step, moved)),
                fallen.eq(sticky | (distance[level] & moved[:step].any())),
            ]
            moved, sticky = later, fallen
        magnitude = Signal(bits)
        m.d.comb += magnitude.eq(moved[1:] + (moved[0] & (sticky | moved[1])))
        with m.If(self.en):
            m.d.sync += self.value.eq(Mux(sign, -magnitude, magnitude))
        return m
