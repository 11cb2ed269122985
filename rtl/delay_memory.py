"""A delay whose length can be chosen, in LUT memory: what a row of registers would do with fewer that change."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class DelayMemory(wiring.Component):
    """``value`` as it was ``steps`` cycles with ``en`` before, 2 ... ``most``; after a change of ``steps`` too."""

    def __init__(self, *, bits: int, most: int):
        self.bits = bits
        self.most = most
        super().__init__({"en": In(1), "value": In(bits), "steps": In(range(most + 1)), "later": Out(bits)})

    def elaborate(self, platform):
        """A ring; its output has a register."""
        m = Module()
        depth = 1 << (self.most - 1).bit_length()
        m.submodules.memory = ring = memory.Memory(shape=self.bits, depth=depth, init=[])
        write, read = ring.write_port(), ring.read_port(domain="comb")
        at = Signal(range(depth))
        m.d.comb += [
            write.addr.eq(at), write.data.eq(self.value), write.en.eq(self.en), read.addr.eq(at + 1 - self.steps),
        ]
        with m.If(self.en):
            m.d.sync += [at.eq(at + 1), self.later.eq(read.data)]
        return m
