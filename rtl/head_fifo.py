"""A short FIFO whose head is a register: what looks at it does not begin with a read of LUT memory."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.rtl.small_fifo import SmallFifo


class HeadFifo(wiring.Component):
    """``depth`` words in order and one more at the head, which can be seen in the cycle after it was written.

    ``push`` must not come without ``room``, nor ``pop`` without ``some``; both are registers, as is ``head``.
    """

    def __init__(self, *, shape, depth: int):
        self.shape = shape
        self.depth = depth
        super().__init__({
            "push": In(1), "word": In(shape), "pop": In(1), "head": Out(shape), "some": Out(1), "room": Out(1, init=1),
        })  # fmt: skip

    def elaborate(self, platform):
        """A word goes past the memory where the head has room for it and none is before it."""
        m = Module()
        m.submodules.behind = behind = SmallFifo(shape=self.shape, depth=self.depth)
        head, leaves = Value.cast(self.head), Signal()
        m.d.comb += [
            leaves.eq(self.pop | ~self.some), behind.pop.eq(leaves & behind.some), self.room.eq(behind.room),
            behind.push.eq(self.push & (~leaves | behind.some)), behind.word.eq(self.word),
        ]
        with m.If(leaves):
            m.d.sync += [head.eq(Mux(behind.some, Value.cast(behind.head), Value.cast(self.word))),
                         self.some.eq(behind.some | self.push)]
        return m
