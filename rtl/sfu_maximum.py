"""The largest of a segment's values, V of them a step."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.rtl.delay import delayed


class Maximum(wiring.Component):
    """The largest FP32 value of a segment, or with ``absolute`` the largest magnitude.

    A step with ``valid`` offers ``values``, of which those in ``mask`` count; ``first`` and ``last`` mark a segment's
    ends, one segment after another. ``done`` comes with ``largest``, log2 V + 2 steps after ``last``, for one step.
    Infinities and NaN mean nothing.
    """

    def __init__(self, width: int):
        self.width = width
        self.latency = exact_log2(width) + 2
        super().__init__({
            "en": In(1), "valid": In(1), "first": In(1), "last": In(1), "absolute": In(1), "mask": In(width),
            "values": In(32).array(width), "done": Out(1), "largest": Out(32),
        })

    def elaborate(self, platform):
        """Order of integers; a tree; the largest so far."""
        m = Module()
        level = []
        for i in range(self.width):
            key = Signal(32, name=f"key_{i}", reset_less=True)
            word = self.values[i]
            with m.If(self.en):
                m.d.sync += key.eq(Mux(self.mask[i], self._flipped(word, ~word[31]), 0))
            level.append(key)
        while len(level) > 1:
            level = [self._larger(m, a, b, f"largest_of_{len(level)}_{i}")
                     for i, (a, b) in enumerate(zip(level[::2], level[1::2], strict=True))]
        steps = self.latency - 1
        valid = delayed(m, self.en, self.valid, steps, "valid", reset=True)
        first, last = (delayed(m, self.en, flag, steps, name)
                       for name, flag in (("first", self.first), ("last", self.last)))
        most = Signal(32, reset_less=True)
        with m.If(self.en):
            m.d.sync += self.done.eq(valid & last)
            with m.If(valid & (first | (level[0] > most))):
                m.d.sync += most.eq(level[0])
        m.d.comb += self.largest.eq(Mux(self.absolute, most, self._flipped(most, most[31])))
        return m

    def _flipped(self, word, plain):
        """Between FP32 and integers in the same order: the sign changed, and all other bits where it was or is not
        ``plain``; nothing for magnitudes."""
        return Mux(self.absolute, word[:31], Mux(plain, word ^ (1 << 31), ~word))

    def _larger(self, m: Module, a, b, name: str):
        larger = Signal(32, name=name, reset_less=True)
        with m.If(self.en):
            m.d.sync += larger.eq(Mux(a > b, a, b))
        return larger
