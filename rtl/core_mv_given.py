"""What follows from an instruction of a matrix engine, found before it is taken."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.compact import K_BLOCK, codes
from mixflight.rtl.core_ports import SLOT_LAYOUTS, primitive

OUT_WORDS = 16
"""FP32 numbers of a line of the global buffer."""
_LOG2_BLOCK = ceil_log2(K_BLOCK)


def given_layout(kept: bool) -> data.StructLayout:
    """Members of ``what``; with ``kept`` of N:M weights as well.

    ``keys``, ``values``: layouts; ``steps`` of columns; ``lines`` of a row's results; ``group_blocks``: words of a
    group; ``b_end``, ``s_end``, ``r_end``: words of a group, steps and rows less one; ``wide``: codes of more than 4
    bits; ``pair``: scales with minima, or of keys and values; ``whole``: one group, otherwise there are ``groups``;
    ``step_words``: words of a slab; a word is of ``1 << wider`` blocks.
    """
    return data.StructLayout({
        "keys": 1, "values": 1, "steps": 10, "lines": 7, "group_blocks": 12, "b_end": 12, "s_end": 10, "r_end": 8,
        "wide": 1, "pair": 1, "whole": 1, "groups": 12, **({"step_words": 12, "wider": 2} if kept else {}),
    })  # fmt: skip


class MvGiven(wiring.Component):
    """What follows from ``instruction``, as a component of its own so that it is mapped for depth. Combinational.

    Groups are whole. ``one_group``: there is no other.
    """

    def __init__(self, *, columns: int, kept: bool):
        self.columns, self.kept = columns, kept
        super().__init__({
            "instruction": In(primitive("MV")), "layouts": In(SLOT_LAYOUTS), "what": Out(given_layout(kept)),
            "one_group": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """Sizes as what counters are compared with."""
        m = Module()
        given, what, layouts, layout = self.instruction, self.what, codes("LD", "layout"), Signal(2)
        log2, whole, groups = Signal(4), given.group == 0, Signal(12)
        wider = self._wider(m)
        m.d.comb += [
            layout.eq(self.layouts.as_value().word_select(given.slot, 2)), log2.eq(given.group - _LOG2_BLOCK),
            groups.eq(given.k_blocks >> log2),
            what.keys.eq(layout == layouts["keys"]), what.values.eq(layout == layouts["values"]),
            what.steps.eq((given.columns + self.columns - 1) >> ceil_log2(self.columns)),
            what.lines.eq((given.columns + OUT_WORDS - 1) >> ceil_log2(OUT_WORDS)),
            what.group_blocks.eq(wider(Mux(whole, given.k_blocks, 1 << log2))),
            what.b_end.eq(wider(Mux(whole, given.k_blocks - 1, Cat(log2 > bit for bit in range(12))))),
            what.s_end.eq((given.columns - 1) >> ceil_log2(self.columns)), what.r_end.eq(given.rows - 1),
            what.pair.eq(what.keys | (given.zero == codes("MV", "zero")["minimum"])),
            what.wide.eq(given.weight_bits > 4), what.whole.eq(whole), what.groups.eq(groups),
            # log2 is more than any bit's number if there is but one
            self.one_group.eq(~Cat(bit & (log2 < number) for number, bit in enumerate(given.k_blocks)).any()),
        ]
        if self.kept:
            m.d.comb += what.step_words.eq(wider(given.k_blocks))
        return m

    def _wider(self, m):
        """What makes words of blocks: of N:M weights a word is that of several, which groups and slabs are made of."""
        if not self.kept:
            return lambda blocks: blocks
        keep, wider = self.instruction.keep, self.what.wider
        m.d.comb += wider.eq(Mux(keep == 2, 3, Mux(keep == 4, 2, keep == 8)))
        return lambda blocks: blocks >> wider
