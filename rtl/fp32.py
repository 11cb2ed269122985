"""FP32 from integers and FP32 addition, rounded to nearest, ties to even.

Neither knows infinities, NaNs, subnormals or overflow: callers show that none can occur. Zeros carry the
signs of IEEE 754.
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.array_pipeline import ADD_STAGES

FP32 = data.StructLayout({"fraction": 23, "exponent": 8, "sign": 1})
FP16 = data.StructLayout({"fraction": 10, "exponent": 5, "sign": 1})

SIGNIFICAND = 24
KEPT = SIGNIFICAND + 2
"""Bits that decide a rounding: the significand, the next bit, and whether any bit below it is set."""


def fp16_integer(m: Module, bits, name: str):
    """``(sign, significand, exponent)`` of a finite FP16 value ``significand * 2**(exponent - 25)``.

    The significand is an 11-bit integer; a subnormal has exponent 1 and no hidden bit, so nothing is
    normalised.
    """
    parts = data.View(FP16, bits)
    normal = Signal(name=f"{name}_normal")
    significand = Signal(11, name=f"{name}_significand")
    exponent = Signal(5, name=f"{name}_exponent")
    m.d.comb += [
        normal.eq(parts.exponent != 0),
        significand.eq(Cat(parts.fraction, normal)),
        exponent.eq(Mux(normal, parts.exponent, 1)),
    ]
    return parts.sign, significand, exponent


class Fp32Round(wiring.Component):
    """``magnitude * 2**(exponent - 127 - origin)`` rounded once to FP32; 2 steps, one value a step.

    ``exponent`` is thus the biased exponent of a value whose leading one is bit ``origin`` of ``magnitude``.
    The result's biased exponent must lie in 1..254. A zero magnitude gives the zero of ``sign``. The lowest
    bit of a magnitude of ``KEPT`` or more bits may stand for all bits below it.
    """

    LATENCY = 2

    def __init__(self, *, magnitude_bits: int, origin: int = 0):
        self.magnitude_bits = magnitude_bits
        self.origin = origin
        super().__init__({
            "en": In(1),
            "sign": In(1),
            "magnitude": In(magnitude_bits),
            "exponent": In(8),
            "value": Out(32),
        })

    def elaborate(self, platform):
        """Normalise into a register, round into the next."""
        m = Module()
        width = max(self.magnitude_bits, KEPT)
        shifted = Signal(width)
        m.d.comb += shifted.eq(self.magnitude << (width - self.magnitude_bits))
        zeros = []
        for level in reversed(range(ceil_log2(width))):
            empty = Signal(name=f"empty_{1 << level}")
            moved = Signal(width, name=f"moved_{1 << level}")
            m.d.comb += [
                empty.eq(shifted[-(1 << level):] == 0),
                moved.eq(Mux(empty, shifted << (1 << level), shifted)),
            ]
            zeros.insert(0, empty)
            shifted = moved

        kept_sign = Signal(reset_less=True)
        nonzero = Signal(reset_less=True)
        kept = Signal(KEPT, reset_less=True)
        kept_exponent = Signal(8, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                kept_sign.eq(self.sign),
                nonzero.eq(shifted[-1]),
                kept.eq(Cat(shifted[:width - KEPT + 1].any(), shifted[width - KEPT + 1:])),
                kept_exponent.eq(self.exponent + (self.magnitude_bits - 1 - self.origin) - Cat(zeros)),
            ]

        up = Signal()
        rounded = Signal(31)
        result = Signal(FP32)
        m.d.comb += [
            up.eq(kept[1] & (kept[0] | kept[2])),
            rounded.eq(Cat(kept[2:-1], kept_exponent) + up),
            result.sign.eq(kept_sign),
            Cat(result.fraction, result.exponent).eq(Mux(nonzero, rounded, 0)),
        ]
        with m.If(self.en):
            m.d.sync += self.value.eq(result)
        return m


class Fp32Add(wiring.Component):
    """``f32(a + b)`` of finite FP32 values; 4 steps, one sum a step.

    Operands and sum must be zero or normal, the larger operand at least 2**-100, and the sum below 2**128.
    Equal magnitudes of opposite sign give +0, as does +0 + -0; -0 + -0 gives -0.
    """

    LATENCY = 2 + Fp32Round.LATENCY

    def __init__(self):
        if self.LATENCY != ADD_STAGES:
            raise AssertionError(f"an addition has {self.LATENCY} registers, timing counts {ADD_STAGES}")
        super().__init__({"en": In(1), "a": In(32), "b": In(32), "sum": Out(32)})

    def elaborate(self, platform):
        """Order by magnitude; shift the smaller and add; normalise; round."""
        m = Module()
        a, b = data.View(FP32, self.a), data.View(FP32, self.b)
        swap = Signal()
        large, small = Signal(FP32), Signal(FP32)
        m.d.comb += [
            swap.eq(self.a[:31] < self.b[:31]),
            large.eq(Mux(swap, self.b, self.a)),
            small.eq(Mux(swap, self.a, self.b)),
        ]

        # A shift by 26 leaves of the smaller operand only the sticky bit; larger shifts do the same.
        distance = Signal(8)
        shift = Signal(5, reset_less=True)
        sign = Signal(reset_less=True)
        subtract = Signal(reset_less=True)
        exponent = Signal(8, reset_less=True)
        large_significand = Signal(SIGNIFICAND, reset_less=True)
        small_significand = Signal(SIGNIFICAND, reset_less=True)
        m.d.comb += distance.eq(large.exponent - small.exponent)
        with m.If(self.en):
            m.d.sync += [
                shift.eq(Mux(distance > KEPT, KEPT, distance)),
                subtract.eq(a.sign ^ b.sign),
                sign.eq(Mux(self.a[:31] == self.b[:31], a.sign & b.sign, large.sign)),
                exponent.eq(large.exponent),
                large_significand.eq(Cat(large.fraction, large.exponent != 0)),
                small_significand.eq(Cat(small.fraction, small.exponent != 0)),
            ]

        # Three bits below the significand: two are kept exactly, the third is the sticky bit. One bit above.
        extended = Signal(SIGNIFICAND + 3 + KEPT)
        aligned = Signal(SIGNIFICAND + 3)
        widened = Signal(SIGNIFICAND + 3)
        total = Signal(SIGNIFICAND + 4, reset_less=True)
        total_sign = Signal(reset_less=True)
        total_exponent = Signal(8, reset_less=True)
        below = KEPT
        m.d.comb += [
            widened.eq(large_significand << 3),
            extended.eq((small_significand << (3 + below)) >> shift),
            aligned.eq(Cat(extended[:below + 1].any(), extended[below + 1:])),
        ]
        with m.If(self.en):
            m.d.sync += [
                total.eq(Mux(subtract, widened - aligned, widened + aligned)),
                total_sign.eq(sign),
                total_exponent.eq(exponent),
            ]

        m.submodules.round = rounding = Fp32Round(magnitude_bits=SIGNIFICAND + 4, origin=SIGNIFICAND + 2)
        m.d.comb += [
            rounding.en.eq(self.en),
            rounding.sign.eq(total_sign),
            rounding.magnitude.eq(total),
            rounding.exponent.eq(total_exponent),
            self.sum.eq(rounding.value),
        ]
        return m
