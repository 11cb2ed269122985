"""The memory unit's first part: words of packed codes to lanes of INT8, unchanged."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.errors import InputError
from mixflight.arch.widen import CODE_BITS, PORT_QUANTA


class Widen(wiring.Component):
    """Codes of 2, 3, 4, 5 or 8 bits, packed from the lowest bit up, as beats of ``lanes`` bytes.

    Values are those of :mod:`mixflight.sim.golden.widen`.

    **Streams** (payload fields as they lie in Verilog, first at bit 0).

    ====  ==============================================================================================================
    run   ``bits`` of a code, one of 2, 3, 4, 5, 8; ``signed``, codes are sign-extended, not zero-extended; ``beats``,
          how many to make, at least 1
    word  ``data`` 4 x lanes bits; ``last``, the run's last word. What is left of a run's words after its beats is
          padding, whole words too, and dropped; a run whose beats need more words than it has is not defined
    out   ``lane`` lanes x 8
    ====  ==============================================================================================================

    All sizes are multiples of ``lanes`` bits, a *quantum*: a word brings 4, a beat takes as many as a code has bits.
    So a queue of quanta is shifted by whole ones. Codes of 4 bits and fewer give a beat a cycle, of 5 bits 4 in 5, of 8
    bits one in 2. A beat is offered the cycle after the word that completes it. A run is taken when the last word and
    the last beat of the one before have been: two cycles later at the earliest; its first word the cycle after.
    """

    CAPACITY = max(CODE_BITS) + PORT_QUANTA
    """Quanta that the queue holds: a word is taken while it fits whatever is done with the rest."""

    def __init__(self, *, lanes: int = 16, beats_max: int = 1 << 16):
        if lanes < 2 or lanes % 2:
            raise InputError(f"lanes must be even, so that a word is whole bytes, not {lanes}, in a widening unit")
        if beats_max < 1:
            raise InputError(f"beats_max must be at least 1, not {beats_max}, in a widening unit")
        self.lanes, self.beats_max = lanes, beats_max
        run = data.StructLayout({"bits": 4, "signed": 1, "beats": range(beats_max + 1)})
        word = data.StructLayout({"data": PORT_QUANTA * lanes, "last": 1})
        super().__init__({"run": In(stream.Signature(run)), "word": In(stream.Signature(word)),
                          "out": Out(stream.Signature(data.StructLayout({"lane": data.ArrayLayout(8, lanes)})))})

    def elaborate(self, platform):
        """A run's registers, the queue, the lanes."""
        m = Module()
        busy, ended = Signal(), Signal()        # a run is on; its last word is in
        run = Signal(self.run.p.shape(), reset_less=True)
        filled, queue = Signal(range(self.CAPACITY + 1)), Signal(self.CAPACITY * self.lanes, reset_less=True)
        left = Signal(range(self.beats_max + 1))
        taken, brought = Signal(range(self.CAPACITY + 1)), Signal(range(self.CAPACITY + 1))
        m.d.comb += [
            self.run.ready.eq(~busy),
            self.out.valid.eq((left != 0) & (filled >= run.bits)),
            self.word.ready.eq(busy & ~ended & ((filled <= self.CAPACITY - PORT_QUANTA) | (left == 0))),
            taken.eq(Mux(self.out.valid & self.out.ready, run.bits, 0)),
            brought.eq(Mux(self.word.valid & self.word.ready & (left != 0), PORT_QUANTA, 0)),
        ]
        rest = Signal.like(filled)
        m.d.comb += rest.eq(filled - taken)
        kept = self._chosen(m, queue, taken, (0, *CODE_BITS))
        placed = self._placed(rest, brought)
        m.d.sync += [queue.eq(kept | placed), filled.eq(rest + brought)]
        with m.If(self.out.valid & self.out.ready):
            m.d.sync += left.eq(left - 1)
        with m.If(self.word.valid & self.word.ready & self.word.p.last):
            m.d.sync += ended.eq(1)
        with m.If(ended & (left == 0)):
            m.d.sync += [busy.eq(0), ended.eq(0)]
        with m.If(~busy):
            m.d.sync += [filled.eq(0), queue.eq(0), run.eq(self.run.p), busy.eq(self.run.valid),
                         left.eq(Mux(self.run.valid, self.run.p.beats, 0))]
        m.d.comb += [lane.eq(self._code(m, queue, run, i)) for i, lane in enumerate(self.out.p.lane)]
        return m

    def _chosen(self, m, queue, taken, amounts):
        """The queue without the quanta that are taken; zeros come in above."""
        kept = Signal(len(queue))
        for amount in amounts:
            with m.If(taken == amount):
                m.d.comb += kept.eq(queue >> amount * self.lanes)
        return kept

    def _placed(self, rest, brought):
        """The word's quanta above those that rest."""
        word = Mux(brought != 0, self.word.p.data, 0)
        terms = [Mux(rest == at, word, 0) << at * self.lanes for at in range(self.CAPACITY - PORT_QUANTA + 1)]
        total = terms[0]
        for term in terms[1:]:
            total = total | term
        return total[:self.CAPACITY * self.lanes]

    def _code(self, m, queue, run, i):
        """Code ``i`` of the queue in a byte."""
        byte = Signal(8, name=f"byte_{i}")
        for bits in CODE_BITS:
            code = queue[i * bits:(i + 1) * bits]
            with m.If(run.bits == bits):
                m.d.comb += byte.eq(Cat(code, (code[-1] & run.signed).replicate(8 - bits)))
        return byte
