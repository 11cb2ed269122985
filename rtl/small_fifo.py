"""A short FIFO in LUT memory whose head can be seen in the cycle after it was written."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class SmallFifo(wiring.Component):
    """``depth`` words in order. ``push`` must not come when it is full, nor ``pop`` when it is empty.

    ``head`` is the oldest word and means nothing while ``level``, the words that it holds, is 0. ``some`` and ``room``
    are registers: it holds a word, it can take one.
    """

    def __init__(self, *, shape, depth: int):
        self.shape = shape
        self.depth = depth
        super().__init__({
            "push": In(1), "word": In(shape), "pop": In(1), "head": Out(shape), "some": Out(1),
            "room": Out(1, init=1), "level": Out(range(depth + 1)),
        })

    def elaborate(self, platform):
        """Two pointers and a count."""
        m = Module()
        places = 1 << max(1, ceil_log2(self.depth))
        m.submodules.memory = stored = memory.Memory(shape=self.shape, depth=places, init=[])
        write, read = stored.write_port(), stored.read_port(domain="comb")
        first, last = Signal(range(places)), Signal(range(places))
        m.d.comb += [
            write.addr.eq(last), write.data.eq(self.word), write.en.eq(self.push),
            read.addr.eq(first), Value.cast(self.head).eq(Value.cast(read.data)),
        ]
        with m.If(self.push):
            m.d.sync += last.eq(last + 1)
        with m.If(self.pop):
            m.d.sync += first.eq(first + 1)
        # Written so that whoever pushes or pops is one LUT away from each register.
        with m.If(self.push ^ self.pop):
            m.d.sync += self.level.eq(self.level + Mux(self.push, 1, -1))
        more, less = self.push & ~self.pop, self.pop & ~self.push
        m.d.sync += [self.some.eq(more | (self.some & ~(less & (self.level == 1)))),
                     self.room.eq(less | (self.room & ~(more & (self.level == self.depth - 1))))]
        return m
