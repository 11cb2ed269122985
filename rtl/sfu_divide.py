"""The two divisions of a quantised group, correctly rounded, and the group's FP16 scale."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import DIVIDE_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import SIGNIFICAND
from mixflight.rtl.increment import incremented

TAG_BITS = 6
_HALF = 12
"""Bits of the lower half of a subtraction, whose borrow chooses the upper one: half the carry chain."""
_STEPS = SIGNIFICAND
"""Bits of the quotient behind its first: 23 of the significand and one to round by."""


class Divide(wiring.Component):
    """``f32(a / b)`` of positive normal FP32 values, for quotients of at least 2^-126; ``DIVIDE_STAGES`` cycles, one
    quotient a cycle.

    The quotient of 25 bits is rounded by its last one alone, so there must be no ties: there are none where a or b is
    an odd integer of fewer than 24 bits times a power of two, as 127. A tie is A·2^s = B·Q of significands A, B, an
    odd Q of 25 bits and s of 24 or 25: Q would divide A's odd part, and B be a multiple of 2^s.
    """

    LATENCY = DIVIDE_STAGES

    def __init__(self):
        super().__init__({
            "valid": In(1), "tag": In(TAG_BITS), "a": In(31), "b": In(31),
            "done": Out(1), "done_tag": Out(TAG_BITS), "quotient": Out(31), "busy": Out(1),
        })

    def elaborate(self, platform):
        """Compare; a bit of the quotient a stage, by trial subtraction; round."""
        m = Module()
        stages = self.LATENCY
        on = Signal(stages)
        m.d.comb += [self.busy.eq(self.valid | on.any()), self.done.eq(on[-1])]
        m.d.sync += on.eq(Cat(self.valid, on))
        en = self.busy
        significands = [Cat(word[:23], Const(1, 1)) for word in (self.a, self.b)]
        smaller = Signal()
        m.d.comb += smaller.eq(significands[0] < significands[1])
        rest = Signal(SIGNIFICAND + 1, name="rest_0", reset_less=True)
        divisor = Signal(SIGNIFICAND, name="divisor_0", reset_less=True)
        exponent, less = Signal(8, reset_less=True), Signal(8, reset_less=True)
        with m.If(en):
            m.d.sync += [
                rest.eq(significands[0] << smaller), divisor.eq(significands[1]),
                exponent.eq(self.a[23:] - self.b[23:]),
                less.eq(exponent + 127 - delayed(m, en, smaller, 1, "smaller")),
            ]
        quotient = None
        for step in range(_STEPS + 1):
            rest, divisor, quotient = self._step(m, en, rest, divisor, quotient, step)
        exponent = delayed(m, en, less, _STEPS, "exponent")
        tag = delayed(m, en, self.tag, stages, "tag")
        m.d.comb += self.done_tag.eq(tag)
        with m.If(en):
            m.d.sync += self.quotient.eq(incremented(m, Cat(quotient[1:-1], exponent), quotient[0], "rounded"))
        return m

    def _step(self, m: Module, en, rest, divisor, quotient, step: int):
        """``rest`` below twice ``divisor``, less it where it can be, doubled; the quotient with a bit more."""
        upper = SIGNIFICAND + 2 - _HALF
        low, fits = Signal(_HALF + 1, name=f"low_{step}"), Signal(name=f"fits_{step}")
        first, second = (Signal(upper, name=f"{name}_{step}") for name in ("without", "with"))
        less = Cat(low[:_HALF], Mux(low[-1], second, first))
        m.d.comb += [
            low.eq(rest[:_HALF] - divisor[:_HALF]), first.eq(rest[_HALF:] - divisor[_HALF:]),
            second.eq(rest[_HALF:] + ~Cat(divisor[_HALF:], Const(0, 2))),
            # Of the last step nothing but the bit is used.
            fits.eq(rest >= divisor if step == _STEPS else ~Mux(low[-1], second[-1], first[-1])),
        ]
        next_rest = Signal(SIGNIFICAND + 1, name=f"rest_{step + 1}", reset_less=True)
        next_divisor = Signal(SIGNIFICAND, name=f"divisor_{step + 1}", reset_less=True)
        next_quotient = Signal(step + 1, name=f"quotient_{step}", reset_less=True)
        with m.If(en):
            m.d.sync += [
                next_rest.eq(Mux(fits, less[:SIGNIFICAND], rest[:SIGNIFICAND]) << 1),
                next_divisor.eq(divisor),
                next_quotient.eq(fits if quotient is None else Cat(fits, quotient)),
            ]
        return next_rest, next_divisor, next_quotient
