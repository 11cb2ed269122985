"""The global buffer's writer of LD: beats of one memory, or 32-byte pieces of all channels in turns."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.rtl.core_load_channel import BEAT, PIECE
from mixflight.rtl.core_ports import GLOBAL_LINE, LINE_BITS, LINE_WORDS, global_write
from mixflight.rtl.one_lut import INPUTS, one_lut


def deal_layout(channels: int) -> data.StructLayout:
    """A transfer to the global buffer: ``wide``, else from memory ``source`` (``channels`` is DDR); ``line``."""
    return data.StructLayout({"wide": 1, "source": range(channels + 1), "line": GLOBAL_LINE})


class Deal(wiring.Component):
    """Writes lines of the global buffer, in order, a line a cycle.

    ``order``  transfers; the next is taken with the last line of the one before
    ``beat``   array of ``channels`` + 1 beats in hand: ``valid``, ``data``, ``bytes`` of it that count, ``short``: of a
               channel's, these are at most a piece, ``last``; ``go`` says that the beat has been used up. Beats of a
               wide transfer hold two pieces; channels 2 p and 2 p + 1 fill a line with their lower ones when it is the
               turn of p, then, once every pair has had its turn, with the upper ones
    ``write``  the port; words of 4 bytes that no byte of the transfer reaches are not written
    ``done``   a pulse for each transfer when its last line is accepted
    """

    def __init__(self, *, channels: int):
        self.channels = channels
        super().__init__({
            "order": In(stream.Signature(deal_layout(channels))),
            "beat": In(wiring.Signature({
                "valid": Out(1), "data": Out(LINE_BITS), "bytes": Out(range(2 * BEAT + 1)), "short": Out(1),
                "last": Out(1), "go": In(1),
            })).array(channels + 1),
            "write": Out(global_write()), "done": Out(1),
        })

    def elaborate(self, platform):
        """A line is put together in the write port's register."""
        m = Module()
        order, busy = Signal(self.order.p.shape(), reset_less=True), Signal()
        line = Signal(GLOBAL_LINE, reset_less=True)
        pairs = self.channels // 2
        pair, upper, ending = Signal(range(max(2, pairs))), Signal(), Signal()
        # Whose beats the next line is made of, and of these which it uses up: ``go`` comes from registers in few steps
        # since it goes on through a channel into what brings the beats.
        needed = Signal(self.channels + 1, reset_less=True)
        there = self._there(m, needed)
        wide, taken, last, turned = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            wide.eq(order.wide & int(self.channels > 1)),
            taken.eq(self._if_there(m, "taken", there, busy)),
            turned.eq(~wide | (pair == max(1, pairs) - 1)),
            last.eq(turned & Cat(need & beat.last & (~wide | upper | beat.short)
                                 for need, beat in zip(needed, self.beat, strict=True)).any()),
            self.order.ready.eq(~busy | (taken & last)),
        ]
        with m.If(self.write.ready):
            m.d.sync += [self.write.valid.eq(0), ending.eq(0)]
        m.d.comb += self.done.eq(self.write.valid & self.write.ready & ending)
        with m.If(taken):
            m.d.sync += [line.eq(line + 1), self.write.address.eq(line), self.write.valid.eq(1), ending.eq(last)]
            with m.If(last):
                m.d.sync += busy.eq(0)
        for index, (need, beat) in enumerate(zip(needed, self.beat, strict=True)):
            uses = busy & need & (~wide | upper | beat.short)
            m.d.comb += beat.go.eq(self._if_there(m, f"go_{index}", there, uses))
        with m.If(taken & wide):
            m.d.sync += [needed.eq(Cat(needed[:self.channels].rotate_left(2 if pairs > 1 else 0), 0)),
                         pair.eq(Mux(turned, 0, pair + 1))]
        with m.If(wide):
            self._wide(m, pair, upper, taken)
        with m.Else():
            self._single(m, order.source, taken)
        with m.If(self.order.valid & self.order.ready):
            into, many = self.order.p, self.order.p.wide & int(self.channels > 1)
            m.d.sync += [busy.eq(1), order.eq(into), line.eq(into.line), pair.eq(0), upper.eq(0)]
            m.d.sync += [need.eq(Mux(many, int(index < 2), into.source == index)) for index, need in enumerate(needed)]
        return m

    def _there(self, m, needed):
        """Whether the beats of the next line are in hand: bits that are all set then."""
        pairs = [bit for need, beat in zip(needed, self.beat, strict=True) for bit in (need, beat.valid)]
        level = [one_lut(m, f"there_{at}", lambda *bits: Cat(~need | valid for need, valid in zip(
            bits[::2], bits[1::2], strict=True)).all(), *pairs[at:at + INPUTS]) for at in range(0, len(pairs), INPUTS)]
        while len(level) > INPUTS - 3:      # beside what else says whether a line goes
            level = [one_lut(m, f"all_{len(level)}_{at}", lambda *bits: Cat(bits).all(), *level[at:at + INPUTS])
                     for at in range(0, len(level), INPUTS)]
        return level

    def _if_there(self, m, name, there, bit):
        """``bit`` when the beats are in hand and the write port's register is free."""
        return one_lut(m, name, lambda valid, ready, *bits: (~valid | ready) & Cat(bits).all(),
                       self.write.valid, self.write.ready, bit, *there)

    def _single(self, m, source, taken):
        """A beat is a line."""
        with m.Switch(source):
            for index, beat in enumerate(self.beat):
                with m.Case(index) if index < self.channels else m.Default(), m.If(taken):
                    m.d.sync += [self.write.data.eq(beat.data), self.write.mask.eq(words_of(beat.bytes, LINE_WORDS))]

    def _wide(self, m, pair, upper, taken):
        """A line is a piece of each of two channels."""
        bits, half, pairs = 8 * PIECE, LINE_WORDS // 2, self.channels // 2
        with m.Switch(Cat(pair, upper) if pairs > 1 else upper):
            for number in range(2 * pairs):
                index, high, end = number % pairs, number >= pairs, number % pairs == pairs - 1
                with m.Case(number):
                    two = [self.beat[2 * index], self.beat[2 * index + 1]]
                    count = Mux(two[0].bytes > PIECE, two[0].bytes - PIECE, 0) if high else two[0].bytes
                    with m.If(taken):
                        m.d.sync += [
                            self.write.data.eq(Cat(beat.data[bits * high:][:bits] for beat in two)),
                            self.write.mask.eq(words_of(count, half).replicate(2)),
                        ]
                        if end:
                            m.d.sync += upper.eq(int(not high) & ~two[0].short)


def words_of(count, words: int):
    """The first words of 4 bytes that ``count`` bytes reach, as a mask."""
    return Cat(count > 4 * index for index in range(words))
