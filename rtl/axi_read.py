"""The AXI4 master that reads runs of beats."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from mixflight.arch.errors import InputError
from mixflight.rtl.axi_bursts import COUNTED_BITS, AxiBursts, check_burst
from mixflight.rtl.core_ports import Axi4Read, MemoryReader
from mixflight.rtl.small_fifo import SmallFifo

MEMORY_ERROR = data.StructLayout({"found": 1, "response": 2, "address": COUNTED_BITS})
"""The first response of a memory that was not OKAY since reset, and the low bits of its burst's address."""

INCREMENTING = 1
"""AxBURST of INCR."""


class AxiRead(wiring.Component):
    """Serves runs of beats from one AXI4 memory, in order; at most ``outstanding`` bursts on their way.

    ``memory``  what a client sees (:func:`mixflight.rtl.core_ports.MemoryReader`): runs, requested ahead of their data
    ``axi``     AR and R; one ID, so data come in order; bursts end at multiples of ``burst_bytes``
    ``error``   sticky; the beat is passed on as it came

    ``buffered`` beats wait for the client (LUT memory of 32 entries a site), then RREADY falls. Unstalled: ARVALID two
    cycles after a run is taken when none is before it, data offered the cycle after they came; a beat a cycle, runs
    back to back.
    """

    def __init__(self, *, data_bits: int = 512, burst_bytes: int = 512, outstanding: int = 16, buffered: int = 32):
        if outstanding < 1 or buffered < 2:
            raise InputError(f"outstanding must be at least 1 and buffered 2, not {outstanding} and {buffered}, in an "
                             "AXI master")
        check_burst(data_bits, burst_bytes)
        self.data_bits, self.burst_bytes = data_bits, burst_bytes
        self.outstanding, self.buffered = outstanding, buffered
        super().__init__({
            "memory": In(MemoryReader(data_bits)), "axi": Out(Axi4Read(data_bits)), "error": Out(MEMORY_ERROR),
        })

    def elaborate(self, platform):
        """Address side, what is on its way, data side."""
        m = Module()
        axi = self.axi
        m.submodules.bursts = bursts = AxiBursts(
            data_bits=self.data_bits, burst_bytes=self.burst_bytes)
        m.submodules.sent = sent = SmallFifo(shape=1 + COUNTED_BITS, depth=self.outstanding)
        m.submodules.beats = beats = SmallFifo(shape=self.data_bits + 1, depth=self.buffered)
        connect(m, flipped(self.memory.request), bursts.request)
        burst, goes = bursts.burst, Signal()
        m.d.comb += [
            goes.eq(burst.valid & sent.room & (~axi.arvalid | axi.arready)),
            burst.ready.eq(sent.room & (~axi.arvalid | axi.arready)),
            sent.push.eq(goes),
            sent.word.eq(Cat(burst.p.last, burst.p.address)),
            axi.arsize.eq(bursts.beat_log2),
            axi.arburst.eq(INCREMENTING),
        ]
        with m.If(axi.arready):
            m.d.sync += axi.arvalid.eq(0)
        with m.If(goes):
            m.d.sync += [axi.arvalid.eq(1), axi.araddr.eq(burst.p.address), axi.arlen.eq(burst.p.length)]
        taken = Signal()
        m.d.comb += [
            axi.rready.eq(beats.room),
            taken.eq(axi.rvalid & beats.room),
            beats.push.eq(taken),
            beats.word.eq(Cat(axi.rlast & sent.head[0], axi.rdata)),
            sent.pop.eq(taken & axi.rlast & sent.some),
            self.memory.data.valid.eq(beats.some),
            self.memory.data.p.last.eq(beats.head[0]),
            self.memory.data.p.data.eq(beats.head[1:]),
            beats.pop.eq(beats.some & self.memory.data.ready),
        ]
        note_error(m, self.error, taken, axi.rresp, sent.head[1:])
        return m


def note_error(m, error, taken, response, address) -> None:
    """Keep the first response that is not OKAY."""
    with m.If(taken & (response != 0) & ~error.found):
        m.d.sync += [error.found.eq(1), error.response.eq(response), error.address.eq(address)]
