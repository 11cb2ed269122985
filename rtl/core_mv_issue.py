"""The order in which a matrix engine takes a slab of weights: an address of every buffer, a cycle."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.arch.errors import InputError
from mixflight.rtl.core_mv_given import OUT_WORDS, MvGiven
from mixflight.rtl.core_mv_wants import MvWants, wanted
from mixflight.rtl.core_ports import ACT_LINE, GLOBAL_LINE, SLOT_LAYOUTS, primitive

BLOCKS_OF_LINE = LINE_BYTES // K_BLOCK
SCALE_PAD_BYTES = 32
"""Scales of a step of columns are padded to whole bursts."""


def event_layout(outputs: int) -> data.StructLayout:
    """What goes with the last block of a group of one row and step of columns.

    ``element`` numbers rows and step within the tile, below ``outputs``; ``first`` of the tile's groups; ``emit``: the
    last one, results leave; ``whole``: an integer sum over all slabs, ``stored``: it begins with what the slab before
    left, ``store``: it is kept for the next; ``half``: which half of a scale word counts, unless they
    come in ``pair``s, whose second is a ``minimum`` or not for MV; ``transpose``: the scale is 2^-12.
    """
    return data.StructLayout({
        "element": range(outputs), "first": 1, "emit": 1, "whole": 1, "stored": 1, "store": 1, "half": 1, "pair": 1,
        "minimum": 1, "transpose": 1, "final": 1,
    })  # fmt: skip


def place_layout(together: int, columns: int) -> data.StructLayout:
    """Where the results of an emitting event go: the first line, the distance of those behind it, how many results; of
    the ``rows`` there are, the distance of their first lines; which ``part`` of a line, where a step is less than one.
    """
    return data.StructLayout({
        "line": GLOBAL_LINE, "next": GLOBAL_LINE, "left": 11, "keys": 1, "final": 1, "rows": range(together + 1),
        "row_next": GLOBAL_LINE, **({"part": parts_of_line(columns)} if columns < OUT_WORDS else {}),
    })  # fmt: skip


def parts_of_line(columns: int) -> range:
    """The steps of columns whose results share a line of the global buffer."""
    return range(max(1, OUT_WORDS // columns))


class MvIssue(wiring.Component):
    """Walks an MV: groups of K, in each the steps of columns, in each the rows, in each the blocks of 16, its passes.

    With that order an FP32 accumulator is met again only after all steps and rows, so additions hide their latency.
    Rows go ``together`` at a time, 1 or 2; what follows counts such groups of rows. Where an engine takes N:M weights
    (``kept``: of 16, beside dense ones), a word of them is that of ``1 << wider`` blocks along K; eight of these, of
    weights that keep 2, are those of ``act_line`` and of ``far_line``, the row's line behind.

    ``issued``: in this cycle a block is read. With it: the word of the weight banks, the line of activations and
    ``block`` in it, ``high`` (second pass), ``first`` and ``end`` of the group (``end`` comes with ``event``, the word
    of the scale banks and, if results leave, ``place``). ``may_read``: the act buffer takes the read; ``may_emit``:
    there is room for results. An MV takes ``blocks x rows x steps x passes`` cycles and one to be taken; more where the
    same accumulator would be met within ``loop`` cycles, or where a group is shorter than ``serial``, the cycles in
    which the lanes take its columns.
    """

    def __init__(self, *, columns: int, banks: int, outputs: int, weight_depth: int, scale_depth: int, passes: int,
                 serial: int, loop: int, together: int = 1, kept: tuple[int, ...] = ()):
        lanes = columns // banks
        if (columns % OUT_WORDS and columns not in (4, 8)) or lanes % 4 or lanes > SCALE_PAD_BYTES // 2:
            raise InputError(f"columns must be 4, 8 or a multiple of {OUT_WORDS}, and 4, 8, 12 or 16 in a bank, not "
                             f"{columns} in {banks} banks, in a matrix engine")
        if columns < OUT_WORDS and (together > 1 or kept):      # works by design, but is not verified
            raise InputError(f"rows must go alone, and weights be dense, where a step has fewer than {OUT_WORDS} "
                             "columns, in a matrix engine")
        for name, depth in (("weight_depth", weight_depth), ("scale_depth", scale_depth)):
            if depth % SLOTS:
                raise InputError(f"{name} must be a multiple of {SLOTS} slots, not {depth}, in a matrix engine")
        if together not in (1, 2):      # four work by design, but are not verified
            raise InputError(f"rows must go alone or 2 together, not {together}, in a matrix engine")
        self.columns, self.outputs, self.passes, self.kept = columns, outputs, passes, kept
        self.together, self.row_bits = together, ceil_log2(together)
        self.serial, self.loop = serial, loop
        self.weight_depth, self.scale_depth = weight_depth, scale_depth
        self.pad_units = SCALE_PAD_BYTES // (2 * lanes)
        self.event_layout, self.place_layout = event_layout(outputs), place_layout(together, columns)
        super().__init__({
            "instruction": In(stream.Signature(primitive("MV"))), "layouts": In(SLOT_LAYOUTS),
            "may_read": In(1), "may_emit": In(1), "may_take": In(1),
            "wants": Out(1), "issued": Out(1),
            "weight_word": Out(range(weight_depth)), "act_line": Out(ACT_LINE), "scale_word": Out(range(scale_depth)),
            "block": Out(range(BLOCKS_OF_LINE)), "high": Out(1), "narrow": Out(1), "first": Out(1), "end": Out(1),
            "event": Out(self.event_layout), "place": Out(self.place_layout), "rows": Out(range(together + 1)),
            **({"wider": Out(range(4))} if kept else {}),
            **({"far_line": Out(ACT_LINE)} if 2 in kept else {}),
        })

    def elaborate(self, platform):
        """Registers of the instruction, counters, addresses that only ever count."""
        m = Module()
        self._take(m)
        self._counters()
        self._state(m)
        held, wants = self._hazards(m), Signal()
        m.submodules.outside = outside = MvWants()
        m.d.comb += [
            outside.run.eq(self.run), outside.b.eq(self.b), outside.b_end.eq(self.what.b_end),
            outside.last_pass.eq(self.last_pass), outside.held.eq(held), outside.emit.eq(self.event.emit),
            outside.may_emit.eq(self.may_emit), self.wants.eq(outside.wants),
            # the same once more, mapped together with what it decides here
            wants.eq(wanted(self.run, self.end, held, self.event.emit, self.may_emit)),
            self.issued.eq(wants & self.may_read),
        ]
        with m.If(~self.run):
            self._begin(m)
        with m.Elif(self.issued):
            self._advance(m)
        return m

    def _take(self, m):
        """The instruction, and what follows from it."""
        self.run = Signal()
        self.mv = Signal(primitive("MV"), reset_less=True)
        m.submodules.given = self.given = given = MvGiven(columns=self.columns, kept=bool(self.kept))
        self.what, self.last_g = Signal(given.what.shape(), reset_less=True), Signal(reset_less=True)
        m.d.comb += [given.instruction.eq(self.instruction.p), given.layouts.eq(self.layouts),
                     self.instruction.ready.eq(~self.run & self.may_take)]
        if self.kept:
            m.d.comb += self.wider.eq(self.what.wider)

    def _counters(self):
        """Where the walk is."""
        sizes = {"b": 12, "r": 8, "s": 10}
        self.b, self.r, self.s = (Signal(bits, name=name) for name, bits in sizes.items())
        self.first_g = Signal(reset_less=True)
        self.next_g = Signal(12, reset_less=True)       # the number, from 1 on, of the group behind this one
        self.second = Signal()
        self.element = Signal(range(self.outputs))
        weight, scale = range(self.weight_depth), range(2 * self.scale_depth)
        self.word, self.step_word, self.group_word = (
            Signal(weight, name=name, reset_less=True) for name in ("word", "step_word", "group_word"))
        self.k, self.group_k = Signal(2), Signal(2)
        self.line, self.group_line = Signal(ACT_LINE, reset_less=True), Signal(ACT_LINE, reset_less=True)
        self.unit, self.group_unit = Signal(scale, reset_less=True), Signal(scale, reset_less=True)
        self.out, self.step_out = Signal(GLOBAL_LINE, reset_less=True), Signal(GLOBAL_LINE, reset_less=True)
        self.left = Signal(11, reset_less=True)
        if 2 in self.kept:      # the rows before, and those of a line more
            self.far_row = Signal(9, reset_less=True)

    def _begin(self, m):
        """A new instruction: whatever is offered while nothing runs, as operands come late, and ``valid`` later."""
        given = self.instruction.p
        m.d.sync += [self.run.eq(self.instruction.valid & self.may_take), self.mv.eq(given),
                     self.what.eq(self.given.what), self.last_g.eq(self.given.one_group)]
        weight_slot = given.slot * (self.weight_depth // SLOTS)
        scale_slot = given.slot * (2 * self.scale_depth // SLOTS)
        m.d.sync += [signal.eq(0) for signal in (self.b, self.r, self.s, self.second, self.element, self.k,
                                                 self.group_k)]
        m.d.sync += [self.first_g.eq(1), self.next_g.eq(2)]
        m.d.sync += [signal.eq(weight_slot) for signal in (self.word, self.step_word, self.group_word)]
        m.d.sync += [signal.eq(scale_slot) for signal in (self.unit, self.group_unit)]
        m.d.sync += [signal.eq(given.in_line) for signal in (self.line, self.group_line)]
        m.d.sync += [signal.eq(given.out_line) for signal in (self.out, self.step_out)]
        m.d.sync += self.left.eq(given.columns)
        if 2 in self.kept:
            m.d.sync += self.far_row.eq(given.rows)

    def _state(self, m):
        """What is read now, and what goes with it."""
        mv, what, event, place = self.mv, self.what, self.event, self.place
        self.last_pass = ~what.wide | self.second if self.passes == 2 else Const(1)
        self.last_b, self.last_r = self.b == what.b_end, self.r == what.r_end >> self.row_bits
        self.last_s, whole = self.s == what.s_end, what.whole
        final = self.last_r & self.last_s & self.last_g
        m.d.comb += [
            self.rows.eq(Mux(self.last_r, (what.r_end & (self.together - 1)) + 1, self.together)),
            self.weight_word.eq(self.word), self.act_line.eq(self.line + (self.r << self.row_bits)),
            self.block.eq(self.k),
            *([self.far_line.eq(self.line + self.far_row)] if 2 in self.kept else []),
            self.scale_word.eq(self.unit >> 1),
            self.high.eq(self.second), self.narrow.eq(~what.wide), self.first.eq((self.b == 0) & ~self.second),
            self.end.eq(self.last_b & self.last_pass),
            event.element.eq(self.element), event.first.eq(self.first_g & (~mv.accumulate | whole)),
            event.emit.eq(mv.last & self.last_g), event.whole.eq(whole), event.stored.eq(whole & mv.accumulate),
            event.store.eq(whole), event.half.eq(self.unit[0]), event.pair.eq(what.pair),
            event.minimum.eq(mv.zero == codes("MV", "zero")["minimum"]), event.transpose.eq(mv.transpose),
            event.final.eq(final),
            place.line.eq(self.out), place.next.eq(Mux(mv.transpose, 1, mv.rows)), place.left.eq(self.left),
            place.keys.eq(what.keys), place.final.eq(final), place.rows.eq(self.rows),
            place.row_next.eq(Mux(mv.transpose, what.lines, 1)),
            *([place.part.eq(self.s)] if self.columns < OUT_WORDS else []),
        ]

    def _hazards(self, m):
        """Whether a group that ends now would come too soon: after any other, or after one of the same output.

        A register, found from what the next cycle's output will be if a group ends now, and if none does.
        """
        ended, held, cooled = self.issued & self.end, Signal(), Const(0)
        if self.serial > 1:
            cool = Signal(range(self.serial))
            m.d.sync += cool.eq(Mux(ended, self.serial - 1, Mux(cool == 0, 0, cool - 1)))
            cooled = cool > 1
        valid, element, recent = ended, self.element, []
        for age in range(1, self.loop - 1):
            later_valid, later = Signal(name=f"ended_{age}"), Signal.like(self.element, name=f"element_{age}")
            m.d.sync += [later_valid.eq(valid), later.eq(element)]
            recent.append((later_valid, later))
            valid, element = later_valid, later

        def among(output):
            return Cat(valid & (later == output) for valid, later in recent).any()
        of_first, of_same, of_next = among(0), among(self.element), among((self.element + 1)[:len(self.element)])
        again = Mux(self.last_r & self.last_s, of_first | (self.element == 0), of_next)
        m.d.sync += held.eq(Mux(ended, again if self.serial == 1 else 1, Mux(self.run, of_same, of_first) | cooled))
        return held

    def _advance(self, m):
        """The next block's addresses."""
        mv, what = self.mv, self.what
        next_k = Signal(2)
        next_line = Signal(ACT_LINE)
        line_ends, blocks, step_words, lines = self.k == BLOCKS_OF_LINE - 1, 1, mv.k_blocks, mv.rows
        if self.kept:       # words begin at multiples of their length
            blocks, step_words = 1 << self.wider, what.step_words
            line_ends = self.k + blocks >= BLOCKS_OF_LINE
        if 2 in self.kept:
            lines = Mux(self.wider == 3, mv.rows << 1, mv.rows)
        m.d.comb += [next_k.eq(self.k + blocks), next_line.eq(Mux(line_ends, self.line + lines, self.line))]
        inc_block, inc_step = Mux(what.values, what.steps, 1), Mux(what.values, 1, step_words)
        with m.If(~self.last_pass):
            m.d.sync += self.second.eq(1)
        with m.Else():
            m.d.sync += self.second.eq(0)
            with m.If(~self.last_b):
                m.d.sync += [self.b.eq(self.b + 1), self.word.eq(self.word + inc_block), self.k.eq(next_k),
                             self.line.eq(next_line)]
            with m.Else():
                m.d.sync += [self.b.eq(0), self.element.eq(self.element + 1)]
                with m.If(~self.last_r):
                    m.d.sync += [
                        *([self.far_row.eq(self.far_row + self.together)] if 2 in self.kept else []),
                        self.r.eq(self.r + 1), self.word.eq(self.step_word), self.k.eq(self.group_k),
                        self.line.eq(self.group_line),
                        self.out.eq(self.out + (Mux(mv.transpose, what.lines, 1) << self.row_bits)),
                    ]
                with m.Else():
                    self._next_step(m, inc_step, next_k, next_line)

    def _next_step(self, m, inc_step, next_k, next_line):
        """Behind the last row of a step of columns: the next step, or the next group."""
        mv, lines = self.mv, self.columns // OUT_WORDS
        further = Mux(mv.transpose, lines, mv.rows * lines)
        if not lines:       # a line has the results of several steps
            further = Mux(self.s[:len(self.place.part)].all(), Mux(mv.transpose, 1, mv.rows), 0)
        m.d.sync += [self.r.eq(0), *([self.far_row.eq(mv.rows)] if 2 in self.kept else [])]
        with m.If(~self.last_s):
            m.d.sync += [
                self.s.eq(self.s + 1), self.step_word.eq(self.step_word + inc_step),
                self.word.eq(self.step_word + inc_step), self.k.eq(self.group_k), self.line.eq(self.group_line),
                self.unit.eq(self.unit + self._stride()), self.left.eq(self.left - self.columns),
                self.step_out.eq(self.step_out + further), self.out.eq(self.step_out + further),
            ]
        with m.Else():
            group_word, group_unit = self.group_word + self.what.group_blocks, self.group_unit + 1 + self.what.pair
            m.d.sync += [
                self.s.eq(0), self.first_g.eq(0), self.next_g.eq(self.next_g + 1),
                self.last_g.eq(self.next_g == self.what.groups), self.element.eq(0), self.run.eq(~self.last_g),
                self.group_word.eq(group_word), self.step_word.eq(group_word), self.word.eq(group_word),
                self.group_unit.eq(group_unit), self.unit.eq(group_unit),
                self.k.eq(next_k), self.group_k.eq(next_k), self.line.eq(next_line), self.group_line.eq(next_line),
                self.left.eq(mv.columns), self.out.eq(mv.out_line), self.step_out.eq(mv.out_line),
            ]

    def _stride(self):
        """From the scales of a step of columns to those of the next."""
        what = self.what
        groups = Mux(what.whole, 1, what.groups)
        padded = Mux(what.pair, groups << 1, groups) + (self.pad_units - 1)
        return Mux(what.keys, 2, padded & ~Const(self.pad_units - 1, len(padded)))
