"""One control bus for several cores: a window of addresses each, and one that writes to all of them at once."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from mixflight.rtl.core_ports import Axi4Lite

_SLVERR = 2


def windows_bus(cores: int, window_bits: int) -> wiring.Signature:
    """AXI4-Lite as the master sees it, of the windows of ``cores`` and that of all."""
    return Axi4Lite(window_bits + ceil_log2(cores + 1))


class ControlWindows(wiring.Component):
    """Window w, ``window_bits`` wide, is core w; the window behind the last core's is written to all in the same cycle.

    ``bus``    AXI4-Lite; a write takes two cycles more than the core's, a read likewise
    ``core``   array of AXI4-Lite, each of addresses in a window

    A write to all is answered when all have answered, with an error if one did. That window cannot be read, and those
    behind it are not there: SLVERR.
    """

    def __init__(self, *, cores: int, window_bits: int):
        self.cores, self.window_bits = cores, window_bits
        super().__init__({
            "bus": In(windows_bus(cores, window_bits)), "core": Out(Axi4Lite(window_bits)).array(cores),
        })  # fmt: skip

    def elaborate(self, platform):
        """A write and a read at a time."""
        m = Module()
        self._writes(m)
        self._reads(m)
        return m

    def _writes(self, m) -> None:
        bus, count = self.bus, self.cores
        address, value, strobe = Signal(self.window_bits), Signal(32), Signal(4)
        asks, waits, busy, answer = Signal(count), Signal(count), Signal(), Signal(2)
        take, window = Signal(), bus.awaddr[self.window_bits :]
        chosen = Mux(window == count, (1 << count) - 1, Cat(window == core for core in range(count)))
        m.d.comb += [take.eq(bus.awvalid & bus.wvalid & ~busy & ~bus.bvalid), bus.awready.eq(take),
                     bus.wready.eq(take), bus.bresp.eq(answer)]  # fmt: skip
        with m.If(take):
            m.d.sync += [
                address.eq(bus.awaddr), value.eq(bus.wdata), strobe.eq(bus.wstrb), busy.eq(1), asks.eq(chosen),
                waits.eq(chosen), answer.eq(Mux(window > count, _SLVERR, 0)),
            ]  # fmt: skip
        with m.Elif(busy & (waits == 0)):
            m.d.sync += [busy.eq(0), bus.bvalid.eq(1)]
        with m.If(bus.bvalid & bus.bready):
            m.d.sync += bus.bvalid.eq(0)
        for number, core in enumerate(self.core):
            m.d.comb += [
                core.awaddr.eq(address), core.awvalid.eq(asks[number]), core.wdata.eq(value), core.wstrb.eq(strobe),
                core.wvalid.eq(asks[number]), core.bready.eq(1),
            ]  # fmt: skip
            with m.If(core.awready & asks[number]):
                m.d.sync += asks[number].eq(0)
            with m.If(core.bvalid):
                m.d.sync += waits[number].eq(0)
                with m.If(core.bresp != 0):
                    m.d.sync += answer.eq(core.bresp)

    def _reads(self, m) -> None:
        bus, count = self.bus, self.cores
        address, asks, waits = Signal(self.window_bits), Signal(count), Signal()
        window = bus.araddr[self.window_bits :]
        m.d.comb += bus.arready.eq(~waits & ~bus.rvalid)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += [address.eq(bus.araddr), asks.eq(Cat(window == core for core in range(count)))]
            with m.If(window < count):
                m.d.sync += waits.eq(1)
            with m.Else():
                m.d.sync += [bus.rvalid.eq(1), bus.rresp.eq(_SLVERR), bus.rdata.eq(0)]
        with m.If(bus.rvalid & bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        for number, core in enumerate(self.core):
            m.d.comb += [core.araddr.eq(address), core.arvalid.eq(asks[number]), core.rready.eq(1)]
            with m.If(core.arready & asks[number]):
                m.d.sync += asks[number].eq(0)
            with m.If(core.rvalid):
                m.d.sync += [waits.eq(0), bus.rvalid.eq(1), bus.rresp.eq(core.rresp), bus.rdata.eq(core.rdata)]
