"""Results of the special-function unit gathered to lines, and written to the global or the act buffer."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.rtl.core_ports import ACT_LINE, LINE_BITS, LINE_WORDS, act_write, global_write
from mixflight.rtl.small_fifo import SmallFifo

RESULT_LINE = data.StructLayout({"out": ACT_LINE, "seen": 5, "block": 2, "end": 1, "cells": 1})
"""Where a line of 16 results goes; ``sfu_walk.LINE`` says what the members are."""

LINES_UNDER_WAY = 64
"""Lines between their last beat's issue and its results; more than a path takes beats."""

_BLOCKS = 4
_WRITE = data.StructLayout({"line": ACT_LINE, "mask": LINE_WORDS, "block": 2, "data": LINE_BITS})


class SfuResults(wiring.Component):
    """V results, or codes, a step to whole lines, or blocks.

    ``queue`` takes where the next line goes (``queued``: some line is still to come). A step with ``valid`` brings V
    more elements of the oldest line, with ``flush`` its last; ``scale`` then is the FP16 scale of its block. Codes of a
    scale of zero are 0, as are those of elements that do not count and all behind a vector's end in its line of the
    act buffer; other results that do not count are not written. With ``cells`` blocks are raw bytes, and a line of
    ``cells`` holds the scales of the two vectors before.

    Nothing may come while ``full``. ``empty`` when everything has been written.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__({
            "en": In(1), "to_act": In(1), "raw": In(1),
            "push": In(1), "queue": In(RESULT_LINE),
            "valid": In(1), "flush": In(1), "results": In(32).array(width), "codes": In(8).array(width),
            "scale": In(16), "full": Out(1), "empty": Out(1),
            "global_": Out(global_write()), "act": Out(act_write()),
        })  # fmt: skip

    def elaborate(self, platform):
        """Gather; a queue of writes; the two ports."""
        m = Module()
        m.submodules.places = places = SmallFifo(shape=RESULT_LINE, depth=LINES_UNDER_WAY)
        m.submodules.writes = writes = SmallFifo(shape=_WRITE, depth=4)
        place = places.head
        moving = Signal()
        done = Signal()
        m.d.sync += [places.push.eq(self.push), places.word.eq(self.queue)]
        m.d.comb += [
            places.pop.eq(done),
            moving.eq(self.en & self.valid), done.eq(moving & self.flush),
            self.full.eq(writes.level[-1]), self.empty.eq(~(places.push | places.some | writes.some)),
        ]
        position = Signal(exact_log2(16 // self.width)) if self.width < 16 else Const(0)
        if self.width < 16:
            with m.If(moving):
                m.d.sync += position.eq(Mux(self.flush, 0, position + 1))
        words = self._gathered(m, moving, position, self.results, 32)
        codes = self._gathered(m, moving, position, self.codes, 8)
        scales = Signal(32)
        with m.If(done & place.end & ~place.cells):
            m.d.sync += scales.eq(Cat(scales[16:], self.scale))
        kept = Cat(Mux((place.seen > i) & (self.scale != 0), codes[8 * i:8 * i + 8], 0) for i in range(16))
        block = Mux(place.cells, scales, kept)
        word = writes.word
        m.d.comb += [
            writes.push.eq(done), word.line.eq(place.out), word.block.eq(Mux(place.cells, 0, place.block)),
            word.data.eq(Mux(self.to_act, Cat(block, Mux(self.raw, 0, self.scale)), words)),
        ]
        with m.If(self.to_act):
            m.d.comb += word.mask.eq(Cat(
                place.cells | (place.block == i) | (place.end & (place.block < i)) for i in range(_BLOCKS)))
        with m.Else():
            m.d.comb += word.mask.eq(Cat(place.seen > i for i in range(LINE_WORDS)))

        head, act, line = writes.head, self.act, self.global_
        m.d.comb += [
            line.valid.eq(writes.some & ~self.to_act), line.address.eq(head.line), line.data.eq(head.data),
            line.mask.eq(head.mask),
            act.valid.eq(writes.some & self.to_act), act.address.eq(head.line), act.mask.eq(head.mask),
            writes.pop.eq(line.valid & line.ready | act.valid & act.ready),
        ]
        for i in range(_BLOCKS):
            m.d.comb += act.data[i].scale.eq(head.data[128:144])
            with m.If(head.block == i):
                m.d.comb += act.data[i].codes.eq(head.data[:128])
        return m

    def _gathered(self, m: Module, moving, position, values, bits: int):
        """16 elements, of which those before this step's were kept."""
        now = Cat(*values)
        parts = []
        for i in range(16 // self.width):
            if i == 16 // self.width - 1:
                parts.append(now)
                continue
            kept = Signal(bits * self.width, name=f"kept_{bits}_{i}", reset_less=True)
            with m.If(moving & (position == i)):
                m.d.sync += kept.eq(now)
            parts.append(Mux(position == i, now, kept))
        return Cat(*parts)
