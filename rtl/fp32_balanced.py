"""FP32 rounding and addition as :mod:`mixflight.rtl.fp32` has them, their logic dealt evenly to the same registers.

Same values in the same cycles, half the LUT levels. The arrays keep the others, whose resources are recorded.
"""

from amaranth import *

from mixflight.rtl.fp32 import FP32, KEPT, SIGNIFICAND, Fp32Add, Fp32Round

_TOP = KEPT + 3
"""Bits that may still be kept where the leading one is among the first four."""
_SHIFT_BITS = 5
"""Of a shift that leaves nothing of a significand but that it was there."""


class BalancedRound(Fp32Round):
    """The first step shifts by multiples of 4, the second to the bit, and rounds. At most 64 bits."""

    def elaborate(self, platform):
        """Sixteens and fours into a register; the rest and the rounding into the next."""
        m = Module()
        width = max(self.magnitude_bits, _TOP)
        shifted = Signal(width)
        m.d.comb += shifted.eq(self.magnitude << (width - self.magnitude_bits))
        sixteens, by_16 = _shifted(m, shifted, 16)
        fours, by_4 = _shifted(m, by_16, 4)

        sign, top, below = Signal(reset_less=True), Signal(_TOP, reset_less=True), Const(0)
        exponent, fours_left = Signal(8, reset_less=True), Signal(2, reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                sign.eq(self.sign), top.eq(by_4[width - _TOP:]), fours_left.eq(fours),
                exponent.eq(self.exponent + (self.magnitude_bits - 1 - self.origin) - (sixteens << 4)),
            ]
            if width > _TOP:
                rest = Signal(width - _TOP, reset_less=True)
                m.d.sync += rest.eq(by_4[:width - _TOP])
                below = rest.any()

        ones, by_1 = _shifted(m, top, 1)
        fraction, guard, odd = by_1[_TOP - SIGNIFICAND:-1], by_1[_TOP - SIGNIFICAND - 1], by_1[_TOP - SIGNIFICAND]
        up, less, rounded, result = Signal(), Signal(8), Signal(31), Signal(FP32)
        m.d.comb += [
            up.eq(guard & (odd | by_1[:_TOP - SIGNIFICAND - 1].any() | below)),
            less.eq(exponent - Cat(ones, fours_left)),
            rounded.eq(Cat(fraction, less) + up),
            result.sign.eq(sign),
            Cat(result.fraction, result.exponent).eq(Mux(top[-4:].any(), rounded, 0)),
        ]
        with m.If(self.en):
            m.d.sync += self.value.eq(result)
        return m


def _shifted(m: Module, value, step: int):
    """(n, ``value`` n x ``step`` to the left): groups of ``step`` bits at the top that are zero, at most three."""
    width = len(value)
    groups = min(4, -(-width // step))
    number, moved = Signal(2, name=f"number_{step}"), Signal(width, name=f"by_{step}")
    empty = [value[width - step * (group + 1):width - step * group] == 0 for group in range(groups - 1)]
    m.d.comb += [
        number.eq(sum((Cat(empty[:group + 1]).all() for group in range(groups - 1)), Const(0))),
        moved.eq(value),
    ]
    with m.Switch(number):
        for group in range(1, groups):
            with m.Case(group):
                m.d.comb += moved.eq(value << step * group)
    return number, moved


class BalancedAdd(Fp32Add):
    """Distances of exponents are there both ways before it is known which operand is larger."""

    def elaborate(self, platform):
        """Order by magnitude; shift the smaller and add; normalise; round."""
        m = Module()
        large, small, shift, sign, subtract = self._ordered(m)
        # Three bits below the significand: two are kept exactly, the third says whether any below is set.
        total, width = Signal(SIGNIFICAND + 4, reset_less=True), SIGNIFICAND + 4
        total_sign, total_exponent = Signal(reset_less=True), Signal(8, reset_less=True)
        aligned, sticky, other = Signal(SIGNIFICAND + 2), Signal(), Signal(width)
        m.d.comb += [
            aligned.eq((Cat(small.fraction, small.exponent != 0) << 2) >> shift),
            sticky.eq(Cat(bit & (shift >= place + 3)
                          for place, bit in enumerate(Cat(small.fraction, small.exponent != 0))).any()),
            other.eq(Cat(sticky, aligned)),
        ]
        # One adder for both: the complement's one comes in from the right.
        both = Cat(Const(1, 1), Const(0, 3), large.fraction, large.exponent != 0, Const(0, 1))
        with m.If(self.en):
            m.d.sync += [
                total.eq((both + Cat(subtract, other ^ subtract.replicate(width)))[1:width + 1]),
                total_sign.eq(sign), total_exponent.eq(large.exponent),
            ]
        m.submodules.round = rounding = BalancedRound(magnitude_bits=width, origin=SIGNIFICAND + 2)
        m.d.comb += [
            rounding.en.eq(self.en), rounding.sign.eq(total_sign), rounding.magnitude.eq(total),
            rounding.exponent.eq(total_exponent), self.sum.eq(rounding.value),
        ]
        return m

    def _ordered(self, m):
        """Registers: the larger and the smaller operand, their distance, the sign of the sum."""
        a, b = (Signal(FP32, name=name) for name in ("first", "second"))
        swap, distance = Signal(), Signal(8)
        forth, back = Signal(8), Signal(8)
        m.d.comb += [
            a.eq(self.a), b.eq(self.b), swap.eq(self.a[:31] < self.b[:31]),
            forth.eq(a.exponent - b.exponent), back.eq(b.exponent - a.exponent), distance.eq(Mux(swap, back, forth)),
        ]
        large, small = (Signal(FP32, name=name, reset_less=True) for name in ("large", "small"))
        shift = Signal(_SHIFT_BITS, reset_less=True)
        sign, subtract = Signal(reset_less=True), Signal(reset_less=True)
        with m.If(self.en):
            m.d.sync += [
                large.eq(Mux(swap, self.b, self.a)), small.eq(Mux(swap, self.a, self.b)),
                shift.eq(distance[:_SHIFT_BITS] | distance[_SHIFT_BITS:].any().replicate(_SHIFT_BITS)),
                subtract.eq(a.sign ^ b.sign),
                sign.eq(Mux(self.a[:31] == self.b[:31], a.sign & b.sign, Mux(swap, b.sign, a.sign))),
            ]
        return large, small, shift, sign, subtract
