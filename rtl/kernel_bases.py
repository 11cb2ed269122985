"""What a core needs to be a kernel on a card: where each of its memories begins, written over its own control bus."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, flipped

from mixflight.arch.core_registers import core_registers
from mixflight.arch.errors import InputError
from mixflight.rtl.core_ports import Axi4Lite

PAGE_BITS = 12
"""The bases have the last page of the addresses for themselves."""


def bases_at(address_bits: int) -> int:
    """Register of the lower half of base 0, on a control bus so wide; the upper half follows, then base 1."""
    return (1 << address_bits) - (1 << PAGE_BITS)


BASES_AT = bases_at(core_registers().address_bits)
"""That of a core alone."""
_OKAY, _SLVERR = 0, 2


class KernelBases(wiring.Component):
    """``ports`` registers of 64 bits in front of the control bus of a core, or of several.

    ======  ==========================================================================================================
    host    the kernel's addresses, as many as the core's: ``address_bits``
    core    the core's own; it sees what is not in the last page
    base    what is added to every address of a port: a multiple of 4,096, so that no burst crosses a 4 KiB boundary
            that it did not cross before
    ======  ==========================================================================================================

    Base p is written and read at :func:`bases_at` + 8 p (lower half) and 4 above (upper half), in whole words; its
    lower 12 bits stay 0. Everything else in that page is answered with SLVERR. A base that changes during a run moves
    the memory under the core's feet: the driver writes it before.
    """

    def __init__(self, *, ports: int, address_bits: int = core_registers().address_bits):
        if not 1 <= ports <= 1 << PAGE_BITS - 3:
            raise InputError(f"a kernel must have 1 to {1 << PAGE_BITS - 3} memory ports, not {ports}")
        self.ports = ports
        bits = address_bits
        super().__init__({
            "host": In(Axi4Lite(bits)), "core": Out(Axi4Lite(bits)), "base": Out(64).array(ports),
        })  # fmt: skip

    def elaborate(self, platform):
        """Writes and reads each go one way at a time, so answers keep their order."""
        m = Module()
        host, core = flipped(self.host), self.core
        m.d.comb += [core.awaddr.eq(host.awaddr), core.awprot.eq(host.awprot), core.wdata.eq(host.wdata),
                     core.wstrb.eq(host.wstrb), core.araddr.eq(host.araddr), core.arprot.eq(host.arprot)]
        self._writes(m, host, core)
        self._reads(m, host, core)
        return m

    def _mine(self, address):
        return address[PAGE_BITS:].all()

    def _word(self, address):
        """Number of the half of a base, if it is one."""
        return address[2:PAGE_BITS]

    def _writes(self, m, host, core):
        """Address and data are taken together; an answer that is not taken yet holds up the next write."""
        take, answered, response = Signal(), Signal(), Signal(2)
        both, mine = host.awvalid & host.wvalid, self._mine(host.awaddr)
        m.d.comb += [
            take.eq(both & mine & ~answered & ~core.bvalid),
            core.awvalid.eq(both & ~mine & ~answered), core.wvalid.eq(core.awvalid),
            host.awready.eq(take | core.awvalid & core.awready), host.wready.eq(take | core.awvalid & core.wready),
            host.bvalid.eq(answered | core.bvalid), host.bresp.eq(Mux(answered, response, core.bresp)),
            core.bready.eq(host.bready & ~answered),
        ]
        known = host.wstrb.all() & (host.awaddr[:2] == 0) & (self._word(host.awaddr) < 2 * self.ports)
        with m.If(take):
            m.d.sync += [answered.eq(1), response.eq(Mux(known, _OKAY, _SLVERR))]
        with m.Elif(host.bready):
            m.d.sync += answered.eq(0)
        for port in range(self.ports):
            for half in range(2):
                with m.If(take & known & (self._word(host.awaddr) == 2 * port + half)):
                    kept = self.base[port].word_select(half, 32)
                    m.d.sync += kept.eq(host.wdata if half else Cat(C(0, PAGE_BITS), host.wdata[PAGE_BITS:]))

    def _reads(self, m, host, core):
        """The core answers a read some cycles after taking it; until then no other is taken."""
        take, reading, answered = Signal(), Signal(), Signal()
        value, response = Signal(32), Signal(2)
        mine, number = self._mine(host.araddr), self._word(host.araddr)
        m.d.comb += [
            take.eq(host.arvalid & mine & ~answered & ~reading),
            core.arvalid.eq(host.arvalid & ~mine & ~answered & ~reading),
            host.arready.eq(take | core.arvalid & core.arready),
            host.rvalid.eq(answered | core.rvalid), host.rdata.eq(Mux(answered, value, core.rdata)),
            host.rresp.eq(Mux(answered, response, core.rresp)), core.rready.eq(host.rready & ~answered),
        ]
        with m.If(core.arvalid & core.arready):
            m.d.sync += reading.eq(1)
        with m.Elif(core.rvalid & core.rready):
            m.d.sync += reading.eq(0)
        with m.If(take):
            m.d.sync += [answered.eq(1), value.eq(0), response.eq(_SLVERR)]
            with m.If((host.araddr[:2] == 0) & (number < 2 * self.ports)):
                m.d.sync += [value.eq(Cat(*self.base).word_select(number, 32)), response.eq(_OKAY)]
        with m.Elif(host.rready):
            m.d.sync += answered.eq(0)
