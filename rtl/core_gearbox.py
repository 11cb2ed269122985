"""Runs of bytes from any quantum on, as pieces of so many quanta."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.one_lut import one_lut
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
        some, both = count != 0, count[1]
        # ``ready`` of a piece comes late and goes on into whatever brings the beats: what a piece does to the two beats
        # is known before, from registers that say how far it reaches.
        reach = Signal(range(2 * self.quanta + 1), reset_less=True)
        fits, ends, ends_second = (Signal(name=name, reset_less=True) for name in ("fits", "ends", "ends_second"))
        final, can, taken, pops = Signal(), Signal(), Signal(), Signal(2)
        m.d.comb += [
            final.eq(Mux(lasts[0], ends, both & lasts[1] & ends_second)),
            can.eq(busy & some & (fits | both | lasts[0])),
            pops.eq(Mux(final, Mux(lasts[0], 1, 2), reach >> exact_log2(self.quanta))),
            taken.eq(self._if_free(m, "taken", lambda can: can, can)),
            self.run.ready.eq(self._if_free(m, "run_ready", lambda busy, ends: ~busy | ends, busy, can & final)),
        ]
        with m.If(taken):
            m.d.sync += [place.eq(reach), first.eq(0)]
            with m.If(final):
                m.d.sync += busy.eq(0)
        with m.If(self.run.valid & self.run.ready):
            m.d.sync += [busy.eq(1), first.eq(1), run.eq(self.run.p), place.eq(self.run.p.offset)]
        self._reach(m, busy & ~final, taken | ~busy, run, reach, fits, ends, ends_second)
        self._shift(m, held, lasts, count, can, pops)
        self._offer(m, held, lasts, place, run, taken, first, final)
        return m

    def _reach(self, m, goes_on, moves, run, reach, fits, ends, ends_second):
        """How far the next piece reaches: of this run when it ``goes_on``, else of the one that is offered."""
        quantum, into = exact_log2(self.quantum_bits // 8), self.run.p
        end_quanta, end = Signal(range(self.quanta + 1), reset_less=True), Signal(range(self.quanta + 1))
        after = Signal.like(reach, name="after")
        m.d.comb += [
            end.eq(Mux(goes_on, end_quanta, (into.end + (1 << quantum) - 1) >> quantum)),
            after.eq(Mux(goes_on, reach[:exact_log2(self.quanta)], into.offset) + Mux(goes_on, run.take, into.take)),
        ]
        with m.If(moves):
            m.d.sync += [reach.eq(after), end_quanta.eq(end), fits.eq(after <= self.quanta), ends.eq(after >= end),
                         ends_second.eq(after >= self.quanta + end)]

    def _if_free(self, m, name, function, *bits):
        """``function`` of bits of which the last one counts only when the piece's register is free."""
        return one_lut(m, name, lambda valid, ready, *others: function(*others[:-1], others[-1] & (~valid | ready)),
                       self.piece.valid, self.piece.ready, *bits)

    def _shift(self, m, held, lasts, count, can, pops):
        """Beats in, and those that are used up out: ``pops`` if a piece ``can`` leave, and there is room for it."""
        beat, frees, moves, pushed = self.beat, Signal(), Signal(), Signal()
        m.d.comb += [
            frees.eq(can & (pops != 0)),
            beat.ready.eq(self._if_free(m, "beat_ready", lambda full, frees: ~full | frees, count[1], frees)),
            moves.eq(self._if_free(m, "moves", lambda some, frees: ~some | frees, count.any(), frees)),
            pushed.eq(beat.valid & beat.ready),
        ]
        with m.If(self._if_free(m, "popped", lambda frees: frees, frees)):
            m.d.sync += count.eq(count - pops + pushed)
        with m.Elif(pushed):
            m.d.sync += count.eq(count + 1)
        with m.If(moves):
            m.d.sync += [held[0].eq(Mux(count[1] & ~pops[1], held[1], beat.p.data)),
                         lasts[0].eq(Mux(count[1] & ~pops[1], lasts[1], beat.p.last))]
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
