"""The AXI4 master that writes runs of beats."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.errors import InputError
from mixflight.rtl.axi_bursts import COUNTED_BITS, AxiBursts, check_burst, run_layout
from mixflight.rtl.axi_read import INCREMENTING, MEMORY_ERROR, note_error
from mixflight.rtl.core_ports import Axi4Write
from mixflight.rtl.one_lut import one_lut
from mixflight.rtl.small_fifo import SmallFifo


class AxiWrite(wiring.Component):
    """Writes runs of beats to one AXI4 memory, in order, ``outstanding`` bursts of ``burst_bytes`` at most unanswered.

    ``request``  runs, ahead of their data
    ``beat``     their beats in order: ``data``, ``strobe`` a bit a byte
    ``axi``      AW, W and B; one ID; a burst's data follow when its address has been taken, which not every slave needs
    ``done``     a pulse for each run, in order, the cycle after the last of its bursts was answered
    ``error``    sticky

    Unstalled: AWVALID two cycles after a run is taken when none is before it, WVALID of its first beat four; then a
    beat a cycle, runs back to back.
    """

    def __init__(self, *, data_bits: int = 512, burst_bytes: int = 512, outstanding: int = 16):
        if outstanding < 1:
            raise InputError(f"outstanding must be at least 1, not {outstanding}, in an AXI master")
        check_burst(data_bits, burst_bytes)
        self.data_bits, self.burst_bytes, self.outstanding = data_bits, burst_bytes, outstanding
        super().__init__({
            "request": In(stream.Signature(run_layout())),
            "beat": In(stream.Signature(data.StructLayout({"data": data_bits, "strobe": data_bits // 8}))),
            "axi": Out(Axi4Write(data_bits)), "done": Out(1), "error": Out(MEMORY_ERROR),
        })

    def elaborate(self, platform):
        """Address side, data side, answers."""
        m = Module()
        axi = self.axi
        m.submodules.bursts = bursts = AxiBursts(
            data_bits=self.data_bits, burst_bytes=self.burst_bytes)
        m.submodules.lengths = lengths = SmallFifo(shape=8, depth=self.outstanding)
        m.submodules.sent = sent = SmallFifo(shape=1 + COUNTED_BITS, depth=self.outstanding)
        connect(m, flipped(self.request), bursts.request)
        burst, goes, room = bursts.burst, Signal(), Signal()
        m.d.comb += [
            room.eq(sent.room & (~axi.awvalid | axi.awready)),
            goes.eq(burst.valid & room),
            burst.ready.eq(room),
            sent.push.eq(goes),
            sent.word.eq(Cat(burst.p.last, burst.p.address)),
            lengths.push.eq(axi.awvalid & axi.awready),     # no more of them than of those sent
            lengths.word.eq(axi.awlen),
            axi.awsize.eq(bursts.beat_log2),
            axi.awburst.eq(INCREMENTING),
            axi.bready.eq(1),
        ]
        with m.If(axi.awready):
            m.d.sync += axi.awvalid.eq(0)
        with m.If(goes):
            m.d.sync += [axi.awvalid.eq(1), axi.awaddr.eq(burst.p.address), axi.awlen.eq(burst.p.length)]
        self._data_side(m, lengths)
        answered = Signal()
        m.d.comb += [answered.eq(axi.bvalid & sent.some), sent.pop.eq(answered)]
        m.d.sync += self.done.eq(answered & sent.head[0])
        note_error(m, self.error, answered, axi.bresp, sent.head[1:])
        return m

    def _data_side(self, m, lengths):
        """Beats of the bursts whose address is out, counted for WLAST."""
        axi, beat = self.axi, self.beat
        place, last, taken = Signal(8), Signal(), Signal()
        m.d.comb += [
            last.eq(place == lengths.head),
            beat.ready.eq(lengths.some & (~axi.wvalid | axi.wready)),
            taken.eq(beat.valid & beat.ready),
            lengths.pop.eq(one_lut(m, "pop", lambda *bits: Cat(bits[:3]).all() & (~bits[3] | bits[4]),
                                   beat.valid, last, lengths.some, axi.wvalid, axi.wready)),
        ]
        with m.If(axi.wready):
            m.d.sync += axi.wvalid.eq(0)
        with m.If(taken):
            m.d.sync += [axi.wvalid.eq(1), axi.wdata.eq(beat.p.data), axi.wstrb.eq(beat.p.strobe), axi.wlast.eq(last),
                         place.eq(Mux(last, 0, place + 1))]
