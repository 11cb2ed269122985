"""FP16 to FP32, which is exact, and FP32 to FP16, rounded to nearest, ties to even; both with gradual underflow."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import FP16_ROUND_STAGES, FP16_WIDEN_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP16, FP32, SIGNIFICAND
from mixflight.rtl.leading_zeros import leading_zeros

_BIAS = 127 - 15
_FRACTION = 10


class Fp16Widen(wiring.Component):
    """FP32 of a finite FP16 value times 2^``lift``; ``FP16_WIDEN_STAGES`` steps, one value a step.

    ``lift`` and ``other`` do not change while a value is under way. With ``other`` it is ``word`` a step later instead.
    """

    LATENCY = FP16_WIDEN_STAGES

    def __init__(self):
        super().__init__({
            "en": In(1), "half": In(16), "lift": In(4), "other": In(1), "word": In(32), "value": Out(32),
        })

    def elaborate(self, platform):
        """Count the zeros of a subnormal; move it up."""
        m = Module()
        half = data.View(FP16, self.half)
        zeros, taken = Signal(4, reset_less=True), Signal(16, reset_less=True)
        with m.If(self.en & ~self.other):
            m.d.sync += [zeros.eq(leading_zeros(m, half.fraction, "zeros")), taken.eq(self.half)]
        held = data.View(FP16, taken)
        moved, result = Signal(_FRACTION), Signal(FP32)
        tiny = held.exponent == 0
        m.d.comb += [
            moved.eq((held.fraction << 1) << zeros),
            result.sign.eq(held.sign),
            result.fraction.eq(Mux(tiny, moved, held.fraction) << (SIGNIFICAND - 1 - _FRACTION)),
            result.exponent.eq(Mux(tiny, _BIAS - zeros, _BIAS + held.exponent) + self.lift),
        ]
        with m.If(self.en):
            m.d.sync += self.value.eq(Mux(
                self.other, self.word, Mux(taken[:15] == 0, Cat(Const(0, 31), held.sign), result.as_value())))
        return m


class Fp16Round(wiring.Component):
    """FP16(value) of an FP32 value of at least 0; ``FP16_ROUND_STAGES`` steps. From 65,520 on it means nothing."""

    LATENCY = FP16_ROUND_STAGES

    MOST = 31
    """Places moved down; from 25 on nothing is left."""

    def __init__(self):
        super().__init__({"en": In(1), "value": In(31), "half": Out(16)})

    def elaborate(self, platform):
        """How far down; move; round."""
        m = Module()
        exponent, fraction = self.value[23:], self.value[:23]
        down, significand, field = (Signal(5, reset_less=True), Signal(SIGNIFICAND, reset_less=True),
                                    Signal(5, reset_less=True))
        below = Signal(signed(9))
        m.d.comb += below.eq(_BIAS + 1 - exponent)
        with m.If(self.en):
            m.d.sync += [
                significand.eq(Cat(fraction, exponent != 0)),
                down.eq(Mux(below[-1], 0, Mux(below[4:8].any(), self.MOST, below[:5]))),
                field.eq(Mux(below[-1] | (below == 0), 1 - below, 0)),
            ]
        cut = SIGNIFICAND - 1 - _FRACTION
        wide = Signal(SIGNIFICAND + self.MOST)
        kept, later = Signal(_FRACTION + 3, reset_less=True), delayed(m, self.en, field, 1, "field")
        m.d.comb += wide.eq((significand << self.MOST) >> down)
        with m.If(self.en):
            m.d.sync += kept.eq(Cat(wide[:self.MOST + cut - 1].any(), wide[self.MOST + cut - 1:]))
        up = kept[1] & (kept[0] | kept[2])
        with m.If(self.en):
            m.d.sync += self.half.eq(Cat(kept[2:-1], later) + up)
        return m
