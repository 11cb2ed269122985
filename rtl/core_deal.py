"""The global buffer's writer of LD: beats of one memory, or 32-byte pieces of all channels in turns."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.rtl.core_load_channel import BEAT
from mixflight.rtl.core_ports import GLOBAL_LINE, LINE_BITS, LINE_WORDS, global_write

PIECE = BEAT // 2
"""Bytes that a wide transfer deals to a channel at a time."""


def deal_layout(channels: int) -> data.StructLayout:
    """A transfer to the global buffer: ``wide``, else from memory ``source`` (``channels`` is DDR); ``line``."""
    return data.StructLayout({"wide": 1, "source": range(channels + 1), "line": GLOBAL_LINE})


class Deal(wiring.Component):
    """Writes lines of the global buffer, in order, a line a cycle.

    ``order``  transfers; the next is taken with the last line of the one before
    ``beat``   array of ``channels`` + 1 beats in hand: ``valid``, ``data``, ``bytes`` of it that count, ``last``;
               ``go`` says that the beat has been used up. Beats of a wide transfer hold two pieces; channels 2 p and
               2 p + 1 fill a line with their lower ones when it is the turn of p, then, once every pair has had its
               turn, with the upper ones
    ``write``  the port; words of 4 bytes that no byte of the transfer reaches are not written
    ``done``   a pulse for each transfer when its last line is accepted
    """

    def __init__(self, *, channels: int):
        self.channels = channels
        super().__init__({
            "order": In(stream.Signature(deal_layout(channels))),
            "beat": In(wiring.Signature({
                "valid": Out(1), "data": Out(LINE_BITS), "bytes": Out(range(2 * BEAT + 1)), "last": Out(1), "go": In(1),
            })).array(channels + 1),
            "write": Out(global_write()), "done": Out(1),
        })

    def elaborate(self, platform):
        """A line is put together in the write port's register."""
        m = Module()
        order, busy = Signal(self.order.p.shape(), reset_less=True), Signal()
        line = Signal(GLOBAL_LINE, reset_less=True)
        pairs = self.channels // 2
        pair, upper = Signal(range(max(2, pairs))), Signal()
        ready, taken, last, ending = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [taken.eq(busy & ready & (~self.write.valid | self.write.ready)),
                     self.order.ready.eq(~busy | (taken & last))]
        with m.If(self.write.ready):
            m.d.sync += [self.write.valid.eq(0), ending.eq(0)]
        m.d.comb += self.done.eq(self.write.valid & self.write.ready & ending)
        with m.If(taken):
            m.d.sync += [line.eq(line + 1), self.write.address.eq(line), self.write.valid.eq(1), ending.eq(last)]
            with m.If(last):
                m.d.sync += busy.eq(0)
        wide, used = Signal(), Signal()
        m.d.comb += wide.eq(order.wide & int(self.channels > 1))
        for index, beat in enumerate(self.beat):
            turn = (pair == index // 2) & used & int(index < self.channels)
            m.d.comb += beat.go.eq(taken & Mux(wide, turn, order.source == index))
        with m.If(wide):
            self._wide(m, pair, upper, ready, taken, last, used)
        with m.Else():
            self._single(m, order.source, ready, taken, last)
        with m.If(self.order.valid & self.order.ready):
            m.d.sync += [busy.eq(1), order.eq(self.order.p), line.eq(self.order.p.line), pair.eq(0), upper.eq(0)]
        return m

    def _single(self, m, source, ready, taken, last):
        """A beat is a line."""
        with m.Switch(source):
            for index, beat in enumerate(self.beat):
                with m.Case(index) if index < self.channels else m.Default():
                    m.d.comb += [ready.eq(beat.valid), last.eq(beat.last)]
                    with m.If(taken):
                        m.d.sync += [self.write.data.eq(beat.data),
                                     self.write.mask.eq(words_of(beat.bytes, LINE_WORDS))]

    def _wide(self, m, pair, upper, ready, taken, last, used):
        """A line is a piece of each of two channels."""
        bits, half, pairs = 8 * PIECE, LINE_WORDS // 2, self.channels // 2
        with m.Switch(Cat(pair, upper) if pairs > 1 else upper):
            for number in range(2 * pairs):
                index, high, end = number % pairs, number >= pairs, number % pairs == pairs - 1
                with m.Case(number):
                    two = [self.beat[2 * index], self.beat[2 * index + 1]]
                    count = Mux(two[0].bytes > PIECE, two[0].bytes - PIECE, 0) if high else two[0].bytes
                    m.d.comb += [ready.eq(two[0].valid & two[1].valid), last.eq(two[0].last & used & int(end)),
                                 used.eq(1 if high else two[0].bytes <= PIECE)]
                    with m.If(taken):
                        m.d.sync += [
                            self.write.data.eq(Cat(beat.data[bits * high:][:bits] for beat in two)),
                            self.write.mask.eq(words_of(count, half).replicate(2)),
                            pair.eq(0 if end else index + 1),
                        ]
                        if end:
                            m.d.sync += upper.eq(~used)


def words_of(count, words: int):
    """The first words of 4 bytes that ``count`` bytes reach, as a mask."""
    return Cat(count > 4 * index for index in range(words))
