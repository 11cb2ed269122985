"""The ST unit: buffers to memories."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out, connect, flipped
from amaranth.utils import exact_log2

from mixflight.arch.compact import codes
from mixflight.rtl.axi_read import MEMORY_ERROR
from mixflight.rtl.axi_write import AxiWrite
from mixflight.rtl.core_deal import words_of
from mixflight.rtl.core_gearbox import Gearbox
from mixflight.rtl.core_load_channel import BEAT, GLOBAL, PIECE
from mixflight.rtl.core_order import Completion
from mixflight.rtl.core_ports import (
    ACT_LINE,
    LINE_BITS,
    LINE_WORDS,
    Axi4Write,
    act_read,
    global_read,
    primitive,
    unit,
)
from mixflight.rtl.one_lut import one_lut
from mixflight.rtl.small_fifo import SmallFifo

ACT = codes("ST", "buffer")["act"]
_BEAT_LOG2 = exact_log2(BEAT)
_WORD = 4
_FETCHED = 4
"""Lines on their way from a buffer or waiting: a line a cycle at a latency of two."""


class CoreStore(wiring.Component):
    """Executes ST in order, one at a time; ``done`` when the memory has answered, for which the next need not wait.

    ``instruction``, ``done``  :func:`mixflight.rtl.core_ports.unit`
    ``hbm``            AXI4 masters, 64 bytes a beat; a channel's addresses begin at 0
    ``act``, ``vector``  read ports; of a line of act the codes alone are stored
    ``error``          sticky, of each channel
    ``refused``        sticky: an ST that this unit does not carry out (of other buffers, slots, to DDR or a channel
                       that is not the core's, ``wide`` to an address that is no multiple of 64) was ended without an
                       effect

    Addresses and sizes: multiples of 4 bytes; of the rest of a beat nothing is written. A line a cycle; a wide transfer
    reads the two lines that make a beat of two channels one after the other. Cycles:
    :func:`mixflight.arch.core_memory_pipeline.store_cycles`.
    """

    def __init__(self, *, channels: int, burst_bytes: int = 512, outstanding: int = 16, in_flight: int = 16):
        self.channels, self.burst_bytes = channels, burst_bytes
        self.outstanding, self.in_flight = outstanding, in_flight
        self._pairs = max(1, channels // 2)
        self._tag = data.StructLayout({
            "upper": 1, "alone": 1, "pair": range(max(2, self._pairs)), "rest": range(BEAT + 1), "last": 1,
        })
        super().__init__({
            **unit("ST"), "hbm": Out(Axi4Write(LINE_BITS)).array(channels),
            "act": Out(act_read()), "vector": Out(global_read()),
            "error": Out(MEMORY_ERROR).array(channels), "refused": Out(1),
        })

    def elaborate(self, platform):
        """One instruction's registers; lines in; beats out."""
        m = Module()
        m.submodules.completion = completion = Completion(units=self.channels, in_flight=self.in_flight)
        writers = []
        for index in range(self.channels):
            writer = AxiWrite(burst_bytes=self.burst_bytes, outstanding=self.outstanding)
            m.submodules[f"write_{index}"] = writer
            connect(m, writer.axi, flipped(self.hbm[index]))
            m.d.comb += [self.error[index].eq(writer.error), completion.ended[index].eq(writer.done)]
            writers.append(writer)
        m.d.comb += self.done.eq(completion.done)
        order, wide, reading = Signal(primitive("ST"), reset_less=True), Signal(), Signal()
        alone = Signal(self.channels, reset_less=True)      # the channel of one that is not wide, a bit each
        begins, sent = Signal(), Signal()
        self._front(m, order, wide, alone, completion, writers, begins, sent)
        line, tag, used = self._lines(m, order, wide, reading, begins)
        self._emit(m, order, wide, alone, line, tag, used, begins, sent, writers)
        return m

    def _front(self, m, order, wide, alone, completion, writers, begins, sent):
        """Takes an instruction, asks the memories, waits until its last beat has left.

        A memory's writer takes a request at once then: it has taken the last beat of the one before, which it does when
        all of that one's bursts are out.
        """
        into, bad, beats = self.instruction, Signal(), Signal(20, reset_less=True)
        total = Signal(25)
        m.d.comb += [
            total.eq(into.p.bytes + into.p.address[:_BEAT_LOG2] + BEAT - 1),
            wide.eq(order.wide & int(self.channels > 1)),
            bad.eq(((order.buffer != ACT) & (order.buffer != GLOBAL)) | order.ddr | order.slotted
                   | (order.wide & order.address[:_BEAT_LOG2].any())
                   | (~order.wide & (order.channel >= self.channels))),
        ]
        chosen = alone | order.wide.replicate(self.channels)
        asking, moving, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            into.ready.eq(completion.room & ~asking & ~moving),
            taken.eq(into.valid & into.ready),
            completion.taken.eq(taken),
            begins.eq(asking & ~bad),
            completion.given.eq(asking),
            completion.who.eq(Mux(bad, 0, chosen)),
        ]
        with m.If(taken):
            m.d.sync += [order.eq(into.p), beats.eq(total >> _BEAT_LOG2), asking.eq(1)]
            m.d.sync += alone.eq(Cat(~into.p.wide & (into.p.channel == index) for index in range(self.channels))
                                 if self.channels > 1 else 1)
        with m.If(asking):
            m.d.sync += [asking.eq(0), moving.eq(~bad)]
        with m.If(asking & bad):
            m.d.sync += self.refused.eq(1)
        with m.If(sent):
            m.d.sync += moving.eq(0)
        for index, writer in enumerate(writers):
            m.d.comb += [writer.request.valid.eq(begins & chosen[index]), writer.request.p.beats.eq(beats),
                         writer.request.p.address.eq(order.address & ~(BEAT - 1))]

    def _lines(self, m, order, wide, reading, begins):
        """Reads the lines in the order in which their bytes leave."""
        m.submodules.fetched = fetched = SmallFifo(shape=LINE_BITS, depth=_FETCHED)
        m.submodules.tags = tags = SmallFifo(shape=self._tag, depth=_FETCHED)
        room, asked, used = Signal(range(_FETCHED + 1), init=_FETCHED), Signal(), Signal()
        act = order.buffer == ACT
        at, rest = Signal(ACT_LINE, reset_less=True), Signal(24, reset_less=True)
        tag = Signal(self._tag)
        m.d.comb += [
            self.act.valid.eq(reading & act & (room != 0)), self.vector.valid.eq(reading & ~act & (room != 0)),
            asked.eq(one_lut(m, "asked", lambda ready, act, free, vector: (ready & act) | (free & vector),
                             self.act.ready, self.act.valid, self.vector.ready, self.vector.valid)),
            tags.word.eq(tag), tags.push.eq(asked),
            fetched.push.eq(self.act.data_valid | self.vector.data_valid),
            fetched.word.eq(Mux(self.act.data_valid, Cat(block.codes for block in self.act.data), self.vector.data)),
            fetched.pop.eq(used), tags.pop.eq(used),
            tag.rest.eq(Mux(rest >= BEAT, BEAT, rest)),
        ]
        with m.If(used ^ asked):
            m.d.sync += room.eq(room + Mux(used, 1, -1))
        pair, upper = Signal(range(max(2, self._pairs))), Signal()
        m.d.comb += [self.act.address.eq(at + pair + Mux(upper, self._pairs, 0)),
                     self.vector.address.eq(at + pair + Mux(upper, self._pairs, 0)),
                     tag.pair.eq(pair), tag.upper.eq(upper)]
        turned, low = Signal(), rest <= BEAT
        m.d.comb += [tag.alone.eq(wide & (rest <= PIECE)), turned.eq(pair == self._pairs - 1)]
        with m.If(wide):
            m.d.comb += tag.last.eq(low & turned & (upper | tag.alone))
        with m.Else():
            m.d.comb += tag.last.eq(low)
        with m.If(asked):
            with m.If(wide):
                m.d.sync += upper.eq(~upper & ~tag.alone)
            with m.If(wide & (upper | tag.alone)):
                m.d.sync += pair.eq(Mux(turned, 0, pair + 1))
            with m.If(~wide):
                m.d.sync += [at.eq(at + 1), rest.eq(rest - BEAT)]
            with m.Elif(turned & upper):
                m.d.sync += [at.eq(at + self.channels), rest.eq(rest - BEAT)]
            with m.If(tag.last):
                m.d.sync += reading.eq(0)
        with m.If(begins):
            m.d.sync += [reading.eq(1), at.eq(order.line), rest.eq(order.bytes), pair.eq(0), upper.eq(0)]
        return fetched, tags.head, used

    def _emit(self, m, order, wide, alone, line, tag, used, begins, sent, writers):
        """Lines to beats: shifted to the address, or the pieces of two lines."""
        m.submodules.shift = shift = Gearbox(beat_bits=LINE_BITS, quantum_bits=8 * _WORD, widest=BEAT // _WORD, side=1)
        offset = order.address[2:_BEAT_LOG2]
        before = Signal()                       # a beat of nothing, of which the address's place is the end
        with m.If(begins):
            m.d.sync += before.eq(~wide & (offset != 0))
        with m.Elif(before & shift.beat.ready):
            m.d.sync += before.eq(0)
        run = shift.run.p
        m.d.comb += [
            shift.run.valid.eq(begins & ~wide), run.offset.eq(-offset), run.take.eq(BEAT // _WORD),
            run.end.eq(((order.bytes - 1) & (BEAT - 1)) + 1),
            shift.beat.valid.eq(before | (line.some & ~wide)), shift.beat.p.data.eq(line.head),
            shift.beat.p.last.eq(~before & tag.last),
        ]
        lower, paired = Signal(LINE_BITS, reset_less=True), Signal()
        half = 8 * PIECE
        ready = Signal()
        for pair in range(self.channels // 2):
            with m.If(tag.pair == pair):
                m.d.comb += ready.eq(writers[2 * pair].beat.ready & writers[2 * pair + 1].beat.ready)
        emits = tag.upper | tag.alone
        m.d.comb += [paired.eq(line.some & wide & emits & ready),
                     used.eq(one_lut(m, "used", lambda ready, alone, two: (ready & alone) | two, shift.beat.ready,
                                     line.some & ~wide & ~before, line.some & wide & (~emits | ready)))]
        with m.If(line.some & wide & ~emits):
            m.d.sync += lower.eq(line.head)
        strobe, skipped = Signal(LINE_WORDS), Signal(LINE_WORDS)
        m.d.comb += [
            skipped.eq(Cat((offset > index) & shift.piece.p.first for index in range(LINE_WORDS - 1))),
            strobe.eq(Mux(wide, words_of(tag.rest, LINE_WORDS), words_of(shift.piece.p.bytes, LINE_WORDS) & ~skipped)),
        ]
        for index, writer in enumerate(writers):
            beat = writer.beat
            upper_half = line.head[half * (index % 2):][:half]
            two = Mux(tag.alone, upper_half, Cat(lower[half * (index % 2):][:half], upper_half))
            m.d.comb += [
                beat.valid.eq(Mux(wide, paired & (tag.pair == index // 2), shift.piece.valid & alone[index])),
                beat.p.data.eq(Mux(wide, two, shift.piece.p.window)),
                beat.p.strobe.eq(Cat(bit.replicate(_WORD) for bit in strobe)),
            ]
        m.d.comb += shift.piece.ready.eq((alone & Cat(writer.beat.ready for writer in writers)).any())
        m.d.comb += sent.eq(Mux(wide, paired & tag.last, shift.piece.valid & shift.piece.ready & shift.piece.p.last))
