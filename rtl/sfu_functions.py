"""Units of the special-function unit: streams of FP32 operands to streams of results, one a cycle.

    ExpUnit          e^x of x <= 0
    ReciprocalUnit   1 / x of normal x > 0
    RsqrtUnit        1 / sqrt(x) of normal x > 0

Values are those of ``arch/numerics.md``, Functions, to the bit; outside the functions' domains they mean nothing.
"""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.special_functions import (
    EXP2,
    FIXED_POINT_STAGES,
    LOG2_E_SIGNIFICAND,
    RECIPROCAL,
    RSQRT_EVEN,
    RSQRT_ODD,
    STAGES,
)
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32, SIGNIFICAND
from mixflight.rtl.sfu_tables import TableInterpolation

INDEX_BITS = 8
SIGNIFICAND_REST = 15
"""Bits of a significand below the 8 that choose a table's interval."""
EXP_REST = 16


class FunctionUnit(wiring.Component):
    """A stream ``x`` of operands to a stream ``y`` of results, in order.

    A unit takes an operand a cycle. It advances in every cycle in which it does not offer a result that is not taken;
    else all of it stands still, and ``x.ready`` is low. An operand taken in cycle t is offered as a result in
    t + ``latency`` (advancing cycles). ``x.ready`` follows from ``y.ready`` within the cycle.
    """

    def __init__(self, function: str):
        self.function = function
        self.latency = STAGES[function]
        super().__init__({"x": In(stream.Signature(FP32)), "y": Out(stream.Signature(FP32))})

    def interpolate(self, m: Module, advance) -> TableInterpolation:
        """The interpolation at the end of the pipeline, with its operands driven from ``x.p``."""
        raise NotImplementedError

    def elaborate(self, platform):
        """Handshakes around the pipeline."""
        m = Module()
        advance = Signal()
        m.submodules.interpolation = interpolation = self.interpolate(m, advance)
        m.d.comb += [
            advance.eq(~self.y.valid | self.y.ready),
            interpolation.en.eq(advance),
            self.x.ready.eq(advance),
            self.y.valid.eq(delayed(m, advance, self.x.valid, self.latency, "valid", reset=True)),
            self.y.p.eq(interpolation.value),
        ]
        return m


class ReciprocalUnit(FunctionUnit):
    """1 / x of x >= 2^-126; +0 where that is below 2^-126. The sign of x is not looked at."""

    def __init__(self):
        super().__init__("reciprocal")

    def interpolate(self, m: Module, advance):
        """Exponent field 253 - that of x: with it and the carry of a whole power of two, 2^-e comes out."""
        table = TableInterpolation(tables=[RECIPROCAL], rest_bits=SIGNIFICAND_REST)
        x = self.x.p
        m.d.comb += [Cat(table.rest, table.index).eq(x.fraction), table.exponent.eq(253 - x.exponent)]
        return table


class RsqrtUnit(FunctionUnit):
    """1 / sqrt(x) of x >= 2^-126. The sign of x is not looked at."""

    def __init__(self):
        super().__init__("rsqrt")

    def interpolate(self, m: Module, advance):
        """The table by the exponent's parity (a field that is even is an odd exponent), and half the exponent."""
        table = TableInterpolation(tables=[RSQRT_EVEN, RSQRT_ODD], rest_bits=SIGNIFICAND_REST)
        x = self.x.p
        m.d.comb += [
            Cat(table.rest, table.index).eq(Cat(x.fraction, ~x.exponent[0])),
            table.exponent.eq(190 - x.exponent[1:] - x.exponent[0]),
        ]
        return table


class ExpUnit(FunctionUnit):
    """e^x of x <= 0: +0 below about -87.34. The sign of x is not looked at: it is e^-|x|; -infinity gives +0."""

    def __init__(self):
        super().__init__("exp")

    def interpolate(self, m: Module, advance):
        """2^n times the table at the 24 bits of fraction."""
        m.submodules.fixed = fixed = PowerOfTwo()
        table = TableInterpolation(tables=[EXP2], rest_bits=EXP_REST)
        m.d.comb += [
            fixed.en.eq(advance), fixed.x.eq(self.x.p),
            Cat(table.rest, table.index).eq(fixed.fraction), table.exponent.eq(fixed.exponent),
        ]
        return table


class PowerOfTwo(wiring.Component):
    """floor(f32(-|x|·log2 e)·2^24) as ``fraction`` and, in units of 2^24 and biased by 127, ``exponent``; 9 steps.

    From |x| = 128 the exponent is 0. It is 0 or less for any result that is below the normal numbers.
    """

    LATENCY = FIXED_POINT_STAGES

    LOW_BITS = 19
    """Of the constant in the first of two products. Its upper three are 0: 16 fit the 18-bit signed port of a DSP."""
    WHOLE = 8
    """Bits of |x|·log2 e before the point: it is below 184.7."""
    LIMIT = 134
    """Exponent field of 128."""
    FAR = 40
    """A shift that leaves nothing of the significand."""

    def __init__(self):
        super().__init__({"en": In(1), "x": In(FP32), "fraction": Out(24), "exponent": Out(signed(9))})

    def elaborate(self, platform):
        """Multiply; round to FP32; shift to fixed point; negate with the floor."""
        m = Module()
        low, total = self._product(m)
        rounded = self._rounded(m, low, total)
        shift, zero = self._shift(m, total[-1])
        fine, fine_lost = self._shifted(m, rounded.shift_left(self.WHOLE), shift[:3], 1, "fine")
        eights = delayed(m, self.en, shift[3:], 1, "eights")
        coarse, lost = self._shifted(m, fine, eights, 8, "coarse", before=fine_lost)
        zero = delayed(m, self.en, zero, 2, "small")

        # floor(-(v + what was lost)) is ~v, or -v = ~v + 1 where nothing was. The whole part apart: a carry chain less.
        carry = Signal()
        m.d.comb += carry.eq(~(lost | coarse[:24].any()))
        with m.If(self.en):
            m.d.sync += [
                self.fraction.eq(~coarse[:24] + ~lost),
                self.exponent.eq(Mux(zero, 0, 126 - coarse[24:] + carry)),
            ]
        return m

    def _product(self, m):
        """The significand times log2 e in 4 steps: whether any of the lowest 19 bits is set, and the 29 above."""
        significand = delayed(m, self.en, Cat(self.x.fraction, self.x.exponent != 0), 1, "significand")
        parts = [Const(LOG2_E_SIGNIFICAND & (1 << self.LOW_BITS) - 1), Const(LOG2_E_SIGNIFICAND >> self.LOW_BITS)]
        low, high = (delayed(m, self.en, significand * part, 2, name)
                     for part, name in zip(parts, ("low", "high"), strict=True))
        # Above the low product the high one is only counted up: chosen, not carried through.
        above = len(low) - self.LOW_BITS
        both = Signal(above + 1)
        m.d.comb += both.eq(low[self.LOW_BITS:] + high[:above])
        any_low, total = Signal(reset_less=True), Signal(len(high), reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                any_low.eq(low[:self.LOW_BITS].any()),
                total.eq(Cat(both[:above], Mux(both[above], high[above:] + 1, high[above:])[:len(high) - above])),
            ]
        return any_low, total

    def _rounded(self, m, low, total):
        """The product's 24 bits from its leading one, or the bit below it, RNE; 2 steps. A carry is a bit more."""
        below = len(total) - SIGNIFICAND
        top = total[-1]
        kept, guard, sticky = Signal(SIGNIFICAND, reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        rounded = Signal(SIGNIFICAND + 1, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                kept.eq(Mux(top, total[below:], total[below - 1:-1])),
                guard.eq(Mux(top, total[below - 1], total[below - 2])),
                sticky.eq(low | total[:below - 2].any() | (top & total[below - 2])),
                rounded.eq(kept + (guard & (sticky | kept[0]))),
            ]
        return rounded

    def _shift(self, m, top):
        """How far the rounded product lies from fixed point, and whether |x| is 128 or more; both beside it.

        ``top``, whether the product is 2 or more, comes after 4 steps.
        """
        field = delayed(m, self.en, self.x.exponent, 3, "field")
        distance, beyond, shift = Signal(6, reset_less=True), Signal(reset_less=True), Signal(6, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                distance.eq(Mux(field < self.LIMIT - self.FAR, self.FAR, self.LIMIT - field)),
                beyond.eq(field >= self.LIMIT),
                shift.eq(distance - top),
            ]
        return delayed(m, self.en, shift, 1, "shift"), delayed(m, self.en, beyond, 2, "beyond")

    def _shifted(self, m, value, amount, unit, name, before=0):
        """``value`` moved right by ``amount`` times ``unit``, and whether a bit that is set fell out or did ``before``;
        1 step."""
        groups = [value[at:at + unit].any() for at in range(0, min(7 * unit, len(value)), unit)]
        moved, lost = Signal(len(value), name=name, reset_less=True), Signal(name=f"{name}_lost", reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                moved.eq(value >> Cat(Const(0, unit.bit_length() - 1), amount)),
                lost.eq(Cat((amount > k) & group for k, group in enumerate(groups)).any() | before),
            ]
        return moved, lost
