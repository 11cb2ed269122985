"""The plain choice of an operand, a multiplexer over a slab in registers: what LUT memory is compared with."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.csd_chain import ROWS


class OperandMux(wiring.Component):
    """Both rows' activations of one of ``candidates`` entries, by index; combinational, a new slab in every cycle."""

    def __init__(self, *, candidates: int = 16):
        entry = unsigned(8 * ROWS)
        self.candidates = candidates
        super().__init__({"slab": In(data.ArrayLayout(entry, candidates)), "index": In(range(candidates)),
                          "a": Out(entry)})

    def elaborate(self, platform):
        """One choice."""
        m = Module()
        m.d.comb += self.a.eq(self.slab[self.index])
        return m
