"""Which lines an instruction of the special-function unit reads, in order, and what is done with each."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import BATCH
from mixflight.rtl.core_ports import ACT_LINE, GLOBAL_LINE, global_read
from mixflight.rtl.delay import delayed
from mixflight.rtl.head_fifo import HeadFifo
from mixflight.rtl.sfu_plan import LINES, PLAN

LINE = data.StructLayout({
    "turn": 2,              # the pass
    "segment": 4, "first": 1, "last": 1,
    "count": 4,             # elements of the line, less one
    "seen": 5,              # of them, those that count
    "block": 2,             # which block of its line in the act buffer, or of its line of codes
    "half": 5,              # embed: place of the scale; a cache's scales: which 16 tokens of their block of lines
    "use_a": 1, "use_b": 1, "pop_a": 1, "pop_b": 1,
    "end": 1,               # of the vector
    "cells": 1,             # no elements: the line of the scales of a key and a value
    "late": 1,              # of the last pass
    "waits": 1,             # its segment's maximum or mean must be there
    "waits_sum": 1,         # what follows from its segment's sum must be there
    "out": ACT_LINE,
})  # fmt: skip
"""A line of 16 elements on its way to the lanes."""

READ_AHEAD = 8
"""Lines of a port that are asked for and not yet used."""

QUEUE = 16

_CURSOR = data.StructLayout({
    "a_vector": GLOBAL_LINE, "a": GLOBAL_LINE, "b_vector": GLOBAL_LINE, "b": GLOBAL_LINE, "out_vector": ACT_LINE,
    "out": ACT_LINE, "left": LINES, "vectors": 12, "block": 2, "value": 1, "half": 5,
    "end": 1,       # the vector's last line: left is 1
    "own": 18,      # elements that the next vector sees
    "seen": 18,     # elements from here on that this one sees
    "whole": 1,     # 16 or more
})  # fmt: skip


class SfuWalk(wiring.Component):
    """Reads of both ports and a queue of lines, for one plan at a time.

    The scales of a cache are dealt over ``channels``: max(1, channels / 2) lines have those of as many lines of tokens,
    a *block*, and are read together.

    After ``start``, with ``plan`` as it then stays, and from the next cycle on ``stored_step``, the lines from a vector
    of an operand to the next, every line of every pass is read through ``a`` and ``b`` and shown
    as ``line`` (``some``), until ``pop``. ``busy`` ends when the last line is in the queue. The ports' data go to
    ``READ_AHEAD`` deep FIFOs outside, which tell of each line that is used up (``a_used``, ``b_used``).
    """

    def __init__(self, channels: int):
        self.block = max(1, channels // 2)
        super().__init__({
            "start": In(1), "plan": In(PLAN), "stored_step": In(LINES), "busy": Out(1),
            "a": Out(global_read()), "b": Out(global_read()), "a_used": In(1), "b_used": In(1),
            "line": Out(LINE), "some": Out(1), "pop": In(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """A cursor through the vectors, and a copy of it from where the batch began, for the next pass."""
        m = Module()
        plan = self.plan
        m.submodules.queue = queue = HeadFifo(shape=LINE, depth=QUEUE)
        m.d.comb += [self.line.eq(queue.head), self.some.eq(queue.some), queue.pop.eq(self.pop)]
        cursor, batch, after = Signal(_CURSOR), Signal(_CURSOR), Signal(_CURSOR)
        turn, segment, left = Signal(2), Signal(range(BATCH)), Signal(LINES)
        single = Signal()           # left is 1
        cells, cells_line, ended = Signal(), Signal(ACT_LINE), Signal()
        first = Signal(init=1)

        end, last, everything, full, final = (
            Signal(name=name) for name in ("end", "last", "everything", "full", "final"))
        line = Signal(LINE)
        m.d.comb += [
            end.eq(cursor.end), last.eq(end | single), everything.eq(end & (cursor.vectors == 1)),
            full.eq(everything | (last & (segment == BATCH - 1))), final.eq(turn == plan.last_pass),
            line.turn.eq(turn), line.segment.eq(segment), line.block.eq(cursor.block), line.half.eq(cursor.half),
            line.end.eq(end), line.out.eq(cursor.out), line.seen.eq(Mux(cursor.whole, 16, cursor.seen[:4])),
        ]
        with m.If(cells):
            m.d.comb += [line.cells.eq(1), line.turn.eq(plan.last_pass), line.late.eq(1), line.out.eq(cells_line),
                         line.end.eq(1)]
        with m.Else():
            m.d.comb += [
                line.late.eq(final), line.waits.eq(first & (turn != 0) & ~(final & plan.sums)),
                line.waits_sum.eq(first & (turn != 0) & final & plan.sums),
                line.first.eq(first), line.last.eq(last), line.count.eq(Mux(end, plan.tail - 1, 15)),
                line.use_a.eq(1), line.pop_a.eq(~plan.codes | end | (cursor.block == 3)),
                line.use_b.eq(plan.use_b),
                line.pop_b.eq(plan.use_b & (end | self._used_up(plan, cursor, last))),
            ]
        step = self._reads(m, cursor, line, cells, queue)
        m.d.comb += [queue.push.eq(step), queue.word.eq(line)]
        self._advance(m, cursor, after, end, last)
        with m.If(self.start):
            begin = {"a_vector": plan.a_line, "a": plan.a_line, "b_vector": plan.b_line, "b": plan.b_line,
                     "out_vector": plan.out_line, "out": plan.out_line, "left": plan.lines, "vectors": plan.vectors,
                     "block": 0, "value": 0, "half": plan.scale_half, "end": plan.lines == 1,
                     "own": plan.own + plan.causal, "seen": plan.own, "whole": plan.own[4:] != 0}
            for to in (cursor, batch):
                m.d.sync += [getattr(to, name).eq(value) for name, value in begin.items()]
            m.d.sync += [self.busy.eq(1), turn.eq(0), segment.eq(0), left.eq(plan.segment_lines), first.eq(1),
                         single.eq(plan.segment_lines == 1)]
        with m.Elif(step & cells):
            m.d.sync += [cells.eq(0), self.busy.eq(~ended)]
        with m.Elif(step):
            m.d.sync += [
                left.eq(Mux(last, plan.segment_lines, left - 1)),
                single.eq(Mux(last, plan.segment_lines == 1, left == 2)), segment.eq(segment + last), first.eq(last),
                cursor.eq(after), ended.eq(everything), cells.eq(plan.cells & final & end & cursor.value),
                cells_line.eq(cursor.out + 1),
            ]
            with m.If(full):
                m.d.sync += segment.eq(0)
                with m.If(final):
                    m.d.sync += [turn.eq(0), batch.eq(after)]
                with m.Else():
                    m.d.sync += [turn.eq(turn + 1), cursor.eq(batch)]
            with m.If(everything & final & ~plan.cells):
                m.d.sync += self.busy.eq(0)
        return m

    def _used_up(self, plan, cursor, last):
        """Whether a line is the last that needs the second port's line."""
        return Mux(plan.codes, last & (cursor.half == 31),
                   ~plan.one_b & (~plan.halves | (cursor.half == self.block - 1)))

    def _reads(self, m: Module, cursor, line, cells, queue):
        """Ask both ports for the line where they must bring a new one; whether the cursor moves on."""
        ready = []
        value = self.plan.cells & cursor.value
        room = self.busy & queue.room
        got, together = Const(0), Const(0)
        if self.block > 1:
            got = Signal(range(self.block))
            together = self.plan.halves & ~self.plan.codes & (got != self.block - 1)
            with m.If(self.b.valid & self.b.ready):
                m.d.sync += got.eq(Mux(together, got + 1, 0))
        a_used, b_used = (delayed(m, 1, used, 1, name, reset=True)
                          for name, used in (("a_used", self.a_used), ("b_used", self.b_used)))
        for name, port, used, use, pop, address, more in (
            ("a", self.a, a_used, line.use_a, line.pop_a, Mux(value, cursor.b, cursor.a), Const(0)),
            ("b", self.b, b_used, line.use_b, line.pop_b, cursor.b + got, together),
        ):
            ahead, taken = Signal(range(READ_AHEAD + 1), name=f"{name}_ahead"), Signal(name=f"{name}_taken")
            fresh, needed, accepted = (Signal(name=f"{name}_{what}") for what in ("fresh", "needed", "accepted"))
            m.d.comb += [
                needed.eq(use & fresh & ~taken), port.address.eq(address),
                port.valid.eq(room & needed & ~ahead[-1]), accepted.eq(port.valid & port.ready & ~more),
            ]
            with m.If(accepted & ~used):
                m.d.sync += ahead.eq(ahead + 1)
            with m.Elif(used & ~accepted):
                m.d.sync += ahead.eq(ahead - 1)
            ready.append((needed, accepted, taken, fresh, pop))
        step = Signal()
        m.d.comb += step.eq(room & Cat(~needed | accepted for needed, accepted, *_ in ready).all())
        for _, accepted, taken, fresh, pop in ready:
            with m.If(self.start):
                m.d.sync += fresh.eq(1)
            with m.Elif(step):
                m.d.sync += taken.eq(0)
                with m.If(~cells):
                    m.d.sync += fresh.eq(pop)
            with m.Elif(accepted):
                m.d.sync += taken.eq(1)
        return step

    def _advance(self, m: Module, cursor, after, end, last):
        """``after``: where the next line is."""
        plan = self.plan
        value, block_end = plan.cells & cursor.value, cursor.block == 3
        m.d.comb += after.eq(cursor)
        with m.If(end):
            m.d.comb += [
                after.left.eq(plan.lines), after.end.eq(plan.lines == 1), after.vectors.eq(cursor.vectors - 1),
                after.block.eq(0), after.value.eq(plan.cells & ~cursor.value),
                after.own.eq(cursor.own + plan.causal), after.seen.eq(cursor.own), after.whole.eq(cursor.own[4:] != 0),
            ]
        with m.Else():
            m.d.comb += [
                after.left.eq(cursor.left - 1), after.end.eq(cursor.left == 2), after.block.eq(cursor.block + 1),
                after.seen.eq(Mux(cursor.whole, cursor.seen - 16, 0)),
                after.whole.eq(cursor.whole & (cursor.seen[4:] != 1)),
            ]
        with m.If(plan.codes):
            m.d.comb += after.half.eq(Mux(end, plan.scale_half, cursor.half + last))
        with m.Else():
            m.d.comb += after.half.eq(Mux(end | (cursor.half == self.block - 1), 0, cursor.half + 1))

        next_a, next_b, next_out = Signal(GLOBAL_LINE), Signal(GLOBAL_LINE), Signal(ACT_LINE)
        m.d.comb += [
            next_a.eq(cursor.a_vector + self.stored_step), next_b.eq(cursor.b_vector + self.stored_step),
            next_out.eq(cursor.out_vector + Mux(plan.to_act, 1, plan.vector_step)),
        ]
        with m.If(end & ~value):
            m.d.comb += [after.a.eq(next_a), after.a_vector.eq(next_a)]
        with m.Elif(~value):
            m.d.comb += after.a.eq(cursor.a + Mux(plan.codes, block_end, plan.line_step))
        with m.If(end & plan.shared_b):
            m.d.comb += [after.b.eq(Mux(plan.codes, next_b, cursor.b_vector)), after.b_vector.eq(after.b)]
        with m.Elif(plan.shared_b):
            further = Signal(GLOBAL_LINE)
            m.d.comb += [
                further.eq(cursor.b + Mux(plan.halves & ~plan.codes, self.block, 1)),
                after.b.eq(Mux(self._used_up(plan, cursor, last), further, cursor.b)),
            ]
        with m.Elif(~plan.cells | value):
            m.d.comb += [after.b.eq(Mux(end, next_b, cursor.b + plan.line_step)),
                         after.b_vector.eq(Mux(end, next_b, cursor.b_vector))]
        with m.If(plan.cells):
            m.d.comb += after.out.eq(cursor.out + (block_end | end) + (end & cursor.value))
        with m.Elif(end):
            m.d.comb += [after.out.eq(next_out), after.out_vector.eq(next_out)]
        with m.Elif(~plan.to_act | block_end):
            m.d.comb += after.out.eq(cursor.out + plan.out_line_step)
