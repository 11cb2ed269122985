"""Runs of bytes from any quantum on, as pieces of so many quanta."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.quarter_shift import QuarterShift


class Gearbox(wiring.Component):
    """Beats of ``beat_bits`` in, pieces of up to ``widest`` quanta of ``quantum_bits`` out.

    ==== ==============================================================================================================
    run   ``offset``, quanta of the first beat that are not the run's; ``take``, quanta of a piece; ``end``, bytes of
          the last beat up to the run's end, at least 1; ``side``, anything that goes with its pieces
    beat  ``data``; ``last``, the run's last one
    piece ``window``, from bit 0 on; ``first`` and ``last`` of the run; ``bytes`` of it that are the run's; ``side``
    ==== ==============================================================================================================

    Two beats are held. A piece a cycle where a beat a cycle is enough: runs of whole beats follow one another without a
    gap; a run that ends within a beat drops the beat's rest. A piece is offered the cycle after the beat that completes
    it was taken into the two, that is two cycles after it was offered at the earliest; a run is taken with the last
    piece of the one before.
    """

    def __init__(self, *, beat_bits: int, quantum_bits: int, widest: int, side):
        self.quanta = beat_bits // quantum_bits
        if beat_bits % quantum_bits or self.quanta & (self.quanta - 1) or quantum_bits % 8:
            raise InputError(f"a beat must be 2^n quanta of whole bytes, not {beat_bits} bits of {quantum_bits}, in a "
                             "gearbox")
        if not 1 <= widest <= self.quanta + 1:
            raise InputError(f"a piece must be at most a quantum more than a beat, {self.quanta + 1}, not {widest}, in "
                             "a gearbox")
        self.beat_bits, self.quantum_bits, self.widest = beat_bits, quantum_bits, widest
        beat, window = beat_bits // 8, widest * quantum_bits
        run = data.StructLayout({
            "offset": exact_log2(self.quanta), "take": range(widest + 1), "end": range(beat + 1), "side": side,
        })
        piece = data.StructLayout({
            "window": window, "first": 1, "last": 1, "bytes": range(window // 8 + 1), "side": side,
        })
        super().__init__({
            "run": In(stream.Signature(run)),
            "beat": In(stream.Signature(data.StructLayout({"data": beat_bits, "last": 1}))),
            "piece": Out(stream.Signature(piece)),
        })

    def elaborate(self, platform):
        """Two beats, the place in the first one, the window."""
        m = Module()
        held = [Signal(self.beat_bits, name=f"held_{index}", reset_less=True) for index in range(2)]
        lasts = [Signal(name=f"last_{index}") for index in range(2)]
        count, busy, first = Signal(2), Signal(), Signal()
        run = Signal(self.run.p.shape(), reset_less=True)
        place = Signal(exact_log2(self.quanta), reset_less=True)
        reach, final, taken, pops = Signal(range(2 * self.quanta + 1)), Signal(), Signal(), Signal(2)
        end_quanta = Signal(range(self.quanta + 1), reset_less=True)
        some, both = count != 0, count[1]
        m.d.comb += [
            reach.eq(place + run.take),
            final.eq(Mux(lasts[0], reach >= end_quanta, both & lasts[1] & (reach >= self.quanta + end_quanta))),
            taken.eq(busy & some & ((reach <= self.quanta) | both | lasts[0]) & (~self.piece.valid | self.piece.ready)),
            self.run.ready.eq(~busy | (taken & final)),
        ]
        with m.If(taken):
            with m.If(final):
                m.d.comb += pops.eq(Mux(lasts[0], 1, 2))
            with m.Else():
                m.d.comb += pops.eq(reach >> exact_log2(self.quanta))
            m.d.sync += [place.eq(reach), first.eq(0)]
            with m.If(final):
                m.d.sync += busy.eq(0)
        with m.If(self.run.valid & self.run.ready):
            quantum = exact_log2(self.quantum_bits // 8)
            m.d.sync += [busy.eq(1), first.eq(1), run.eq(self.run.p), place.eq(self.run.p.offset),
                         end_quanta.eq((self.run.p.end + (1 << quantum) - 1) >> quantum)]
        self._shift(m, held, lasts, count, pops)
        self._offer(m, held, lasts, place, run, taken, first, final)
        return m

    def _shift(self, m, held, lasts, count, pops):
        """Beats in, and those that are used up out."""
        beat, pushed = self.beat, Signal()
        rest = Signal(2)
        m.d.comb += [rest.eq(count - pops), beat.ready.eq(~rest[1]), pushed.eq(beat.valid & beat.ready)]
        m.d.sync += count.eq(rest + pushed)
        with m.If((pops == 1) & count[1]):
            m.d.sync += [held[0].eq(held[1]), lasts[0].eq(lasts[1])]
        with m.Elif(rest == 0):
            m.d.sync += [held[0].eq(beat.p.data), lasts[0].eq(beat.p.last)]
        with m.If(pushed):
            m.d.sync += [held[1].eq(beat.p.data), lasts[1].eq(beat.p.last)]

    def _offer(self, m, held, lasts, place, run, taken, first, final):
        """The window and what goes with it."""
        piece, window = self.piece, self.widest * self.quantum_bits
        both = Cat(*held)
        quantum = self.quantum_bits // 8
        near, low = both, max(0, len(place) - 2)
        for bits in (range(low, len(place)), range(low)):
            if bits:
                step, places = self.quantum_bits << bits[0], 1 << len(bits)
                shift = QuarterShift(width=window + step - self.quantum_bits, step=step, places=places)
                m.submodules[f"shift_{bits[0]}"] = shift
                m.d.comb += [shift.value.eq(near), shift.place.eq(place[bits[0]:bits[-1] + 1])]
                near = shift.out
        with m.If(piece.ready):
            m.d.sync += piece.valid.eq(0)
        with m.If(taken):
            m.d.sync += piece.p.window.eq(near)
            rest = run.end + Mux(lasts[0], 0, self.beat_bits // 8) - place * quantum
            m.d.sync += [piece.valid.eq(1), piece.p.first.eq(first), piece.p.last.eq(final), piece.p.side.eq(run.side),
                         piece.p.bytes.eq(Mux(final, rest, run.take * quantum))]
