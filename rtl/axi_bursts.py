"""Runs of beats as AXI4 bursts."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.core_ports import ADDRESS_BITS

PAGE_BYTES = 4096
"""No burst of AXI4 crosses a multiple of this (IHI 0022, A3.4.1)."""
COUNTED_BITS = 32
"""A request stays within a block of 2^32 bytes: only these address bits count on."""
BEATS_BITS = 20


def run_layout() -> data.StructLayout:
    """A run: ``address`` in bytes, a multiple of the beat, and ``beats``, at least 1."""
    return data.StructLayout({"address": ADDRESS_BITS, "beats": BEATS_BITS})


def check_burst(data_bits: int, burst_bytes: int) -> None:
    """Refuse a bus or bursts that AXI4 does not have."""
    beat = data_bits // 8
    if not 32 <= data_bits <= 1024 or data_bits & (data_bits - 1):
        raise InputError(f"data_bits must be a power of two from 32 to 1024, not {data_bits}, in an AXI master")
    most = min(PAGE_BYTES, 256 * beat)
    if burst_bytes & (burst_bytes - 1) or not 2 * beat <= burst_bytes <= most:
        raise InputError(f"burst_bytes must be a power of two from {2 * beat} to {most}, not {burst_bytes}, in an AXI "
                         "master")


class AxiBursts(wiring.Component):
    """Cuts runs at multiples of ``burst_bytes``, so that no burst is longer or crosses 4 KiB.

    ``request``  runs; one is taken the cycle in which the last burst of the one before is
    ``burst``    ``address``, ``length`` (beats - 1, as AxLEN), ``last`` of its run; the first is offered the cycle
                 after its run was taken, then one a cycle

    A run of n beats from beat a of a burst of b beats is ceil((a + n) / b) bursts.
    """

    def __init__(self, *, data_bits: int, burst_bytes: int):
        check_burst(data_bits, burst_bytes)
        self.beat_log2, self.burst_beats = exact_log2(data_bits // 8), burst_bytes * 8 // data_bits
        super().__init__({
            "request": In(stream.Signature(run_layout())),
            "burst": Out(stream.Signature(data.StructLayout({"address": ADDRESS_BITS, "length": 8, "last": 1}))),
        })

    def elaborate(self, platform):
        """Registers of the run that is cut."""
        m = Module()
        within = exact_log2(self.burst_beats)
        low = self.beat_log2 + within
        busy, left = Signal(), Signal(BEATS_BITS, reset_less=True)
        place, number = Signal(within, reset_less=True), Signal(COUNTED_BITS - low, reset_less=True)
        high = Signal(ADDRESS_BITS - COUNTED_BITS, reset_less=True)
        until, last, taken = Signal(within + 1), Signal(), Signal()
        m.d.comb += [
            until.eq(self.burst_beats - place),
            last.eq(left <= until),
            self.burst.valid.eq(busy),
            self.burst.p.address.eq(Cat(C(0, self.beat_log2), place, number, high)),
            self.burst.p.length.eq(Mux(last, left[:within + 1], until) - 1),
            self.burst.p.last.eq(last),
            taken.eq(self.burst.valid & self.burst.ready),
            self.request.ready.eq(~busy | (taken & last)),
        ]
        with m.If(taken):
            m.d.sync += [left.eq(left - until), place.eq(0), number.eq(number + 1), busy.eq(~last)]
        with m.If(self.request.valid & self.request.ready):
            address = self.request.p.address
            m.d.sync += [busy.eq(1), left.eq(self.request.p.beats), place.eq(address[self.beat_log2:low]),
                         number.eq(address[low:COUNTED_BITS]), high.eq(address[COUNTED_BITS:])]
        return m
