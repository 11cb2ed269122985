"""FP32 to a code of a byte: rounded to the nearest integer, ties to even, and clamped."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import CODE_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32, SIGNIFICAND

_HALF = 126
"""Exponent field of 1/2: below it everything rounds to 0."""


class CodeRound(wiring.Component):
    """clamp(RNE(value), -levels, levels) of |value| < 256, 0 with ``dead``; ``CODE_STAGES`` steps, one value a step.

    ``levels`` is at most 127 and does not change within a vector; ``dead`` comes with the value.
    """

    LATENCY = CODE_STAGES

    def __init__(self):
        super().__init__({
            "en": In(1), "value": In(FP32), "dead": In(1), "levels": In(7), "code": Out(signed(8)),
        })

    def elaborate(self, platform):
        """Move to the integer, the half and the rest; round; clamp and negate."""
        m = Module()
        value = self.value
        # At _HALF the significand's leading one is the half; each exponent more moves it up by one.
        place, wide = Signal(8), Signal(SIGNIFICAND + 8)
        m.d.comb += [place.eq(value.exponent - _HALF), wide.eq(Cat(value.fraction, Const(1, 1)) << place[:4])]
        kept, small = Signal(10, reset_less=True), Signal(reset_less=True)
        magnitude = Signal(9, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                kept.eq(Cat(wide[:SIGNIFICAND - 1].any(), wide[SIGNIFICAND - 1:])),
                small.eq((value.exponent < _HALF) | self.dead),
                magnitude.eq(Mux(small, 0, kept[2:] + (kept[1] & (kept[0] | kept[2])))),
            ]
        sign = delayed(m, self.en, value.sign, 2, "sign")
        clamped = Signal(7)
        m.d.comb += clamped.eq(Mux(magnitude > self.levels, self.levels, magnitude))
        with m.If(self.en):
            m.d.sync += self.code.eq(Mux(sign, -clamped, clamped))
        return m
