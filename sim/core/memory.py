"""How long a transfer keeps its memory channels busy, from the bank and row model of ``mixflight.sim.dram``.

A transfer is one linear stream in each channel it uses, behind another transfer. Its *occupancy* is what it adds to the
time of the transfer before it: rows it must open, bank groups and turnarounds, requests in flight that hide the rest.
Its *latency* is that of a lone burst of a closed row. Refresh is a share of time, spread evenly: the ratio of a long
stream with and without it. Distinct transfers are simulated once and kept: by bytes, place in the rows,
and whether they go on where the one before ended; whole stripes (a row of every bank) beyond the first two are added at
the steady rate.

Occupancy is never below the port's time for the bytes. Without ``rows`` it is bytes over the lower of the peaks of
channel and port. Channels that answer after a fixed time take their beats on the port, whole ones.
"""

import functools

import msgspec
import numpy as np

from mixflight.arch.core import Channels
from mixflight.arch.dram_standard import DramStandard, dram_standard_named
from mixflight.arch.isa import Ints
from mixflight.sim.dram import ends, stream, stream_time

_LEAD_BYTES = 4096
_GRAIN = 512
_LONG = 1 << 21
_NEVER_NS = 1e15


class ChannelTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Times of transfers on the channels of one memory, in cycles of the core's clock; ``speed`` times as fast."""

    channels: Channels
    clock_mhz: float
    rows: bool = True
    refresh: bool = True
    speed: float = 1.0

    @property
    def latency_cycles(self) -> float:
        """From the request of a lone burst of a closed row to its data."""
        standard = self.channels.dram
        if self.channels.answers_after_cycles is not None:
            return float(self.channels.answers_after_cycles)
        return self._cycles(stream_time(standard, bytes=standard.burst_bytes, request_bytes=standard.burst_bytes,
                                        outstanding=1))  # fmt: skip

    def occupancy(self, bytes: Ints, address: Ints, *, write: bool) -> np.ndarray:
        """Cycles that each of a sequence of transfers adds; no bytes add nothing. ``bytes`` and ``address`` are those
        of each channel."""
        found = np.zeros(len(bytes))
        real = np.flatnonzero(bytes > 0)
        size = bytes[real]
        found[real] = self.added(size, *self.places(size, address[real], write=write), write=write)
        return found

    def places(
        self, bytes: Ints, address: Ints, *, write: bool, known: Ints | None = None, ended: Ints | None = None
    ) -> tuple[Ints, Ints]:  # fmt: skip
        """What the time of each of a sequence of transfers depends on beside its bytes: where in the rows it begins,
        and where the one before ended (-1: right there), both in grains of 512 bytes; both moved together to the first
        of the places that are alike (``alike_bytes``).

        Ahead of the transfers ``known`` others than the sequence's have ``ended``.
        """
        if self.channels.answers_after_cycles is not None:
            return address % int(self.channels.port_bytes_per_cycle), np.zeros_like(bytes)
        if not self.rows:
            return np.zeros_like(bytes), np.zeros_like(bytes)
        stripe = self.channels.dram.stripe_bytes
        offset = address % stripe // _GRAIN
        if write:
            return offset, np.zeros_like(offset)
        before = np.empty_like(address)
        before[:1] = -1
        np.add(address[:-1], bytes[:-1], out=before[1:])
        if known is not None and ended is not None:
            before[known] = ended
        shift = offset // (alike := alike_bytes(self.channels.dram) // _GRAIN) * alike
        lead = (-(-(before % stripe) // _GRAIN) - shift) % (stripe // _GRAIN)
        return offset - shift, np.where(before == address, -1, lead)

    def added(self, bytes: Ints, offset: Ints, lead: Ints, *, write: bool) -> np.ndarray:
        """Cycles that transfers add at their ``places``."""
        if self.channels.answers_after_cycles is not None:
            return np.ceil((offset + bytes) / self.channels.port_bytes_per_cycle) / self.speed
        port = bytes / self.channels.port_bytes_per_cycle
        if not self.rows:
            peak = self.channels.dram.peak_gb_s * 1e3 / self.clock_mhz
            return np.maximum(port, bytes / peak) / self.speed
        at = list(zip(bytes.tolist(), (offset * _GRAIN).tolist(), (lead * _GRAIN).tolist(), strict=True))
        hbm = self.channels
        times = np.array(_added_ns(hbm.standard, hbm.request_bytes, hbm.outstanding, at, write))
        factor = refresh_factor(self.channels.standard) if self.refresh else 1.0
        return np.maximum(port, self._cycles(1.0) * factor * times) / self.speed

    def _cycles(self, nanoseconds: float) -> float:
        return nanoseconds * self.clock_mhz / 1e3


def alike_bytes(standard: DramStandard) -> int:
    """By how many bytes two transfers may be moved together, around the rows of all banks, and meet in the same way.

    Above the columns a step of so many bytes counts groups, then banks: whether two bursts are in the same group or
    bank stays as it is, while counting banks into a group does not keep groups apart.
    """
    above: list[str] = []
    bits = sum(part.bits for part in standard.map if part.field != "row")
    for part in reversed(standard.map[:-1]):
        if part.field == "column" or (part.field == "bank" and "group" in above):
            break
        above.append(part.field)
        bits -= part.bits
    return max(standard.burst_bytes << bits, _GRAIN)


@functools.cache
def refresh_factor(standard: str) -> float:
    """Time of a long stream over what it would take without refresh."""
    table = dram_standard_named(standard)
    times = [
        stream(table, bytes=_LONG, request_bytes=512, outstanding=64, first_refresh_ns=first).time_ns
        for first in (None, _NEVER_NS)
    ]
    return times[0] / times[1]


@functools.cache
def _stripe_ns(standard: str, request_bytes: int, outstanding: int, write: bool) -> float:
    """A stripe more of a long linear stream, without refresh."""
    table = dram_standard_named(standard)
    times = [
        stream_time(table, bytes=count * table.stripe_bytes, request_bytes=request_bytes, outstanding=outstanding,
                    write=write, first_refresh_ns=_NEVER_NS)
        for count in (8, 16)
    ]  # fmt: skip
    return (times[1] - times[0]) / 8


Place = tuple[int, int, int]
"""Of a transfer: bytes, where in a stripe it begins, where in another one the transfer before it ended (-1: there)."""


@functools.cache
def _known(standard: str, request_bytes: int, outstanding: int, write: bool) -> dict[Place, float]:
    """Nanoseconds that transfers add, as far as they were simulated before."""
    return {}


def forget() -> None:
    """Forget all transfers, so that the next ones are simulated; for measuring what that takes."""
    _known.cache_clear()


def _added_ns(standard: str, request_bytes: int, outstanding: int, places: list[Place], write: bool) -> list[float]:
    """What transfers add, each behind a read of ``_LEAD_BYTES``. A write is also followed by a read, so that both
    turnarounds are its own."""
    known = _known(standard, request_bytes, outstanding, write)
    missing = list(dict.fromkeys(place for place in places if place not in known))
    if missing:
        bytes, offset, lead = np.array(missing, np.int64).T
        stripe = dram_standard_named(standard).stripe_bytes
        whole = np.maximum(bytes // stripe - 1, 0)
        start = 8 * stripe + offset
        before = np.where(lead < 0, start, 4 * stripe + lead)
        jobs = np.zeros((len(missing), 3, 3), np.int64)
        jobs[:, 0, 0], jobs[:, 0, 1] = before - _LEAD_BYTES, _LEAD_BYTES
        if write:
            jobs[:, 2, 0], jobs[:, 2, 1] = before, _LEAD_BYTES
        around, which = np.unique(jobs, axis=0, return_inverse=True)
        jobs[:, 1] = np.stack([start, bytes - whole * stripe, np.full_like(start, write)], axis=1)
        both, without = (
            ends(dram_standard_named(standard), parts, request_bytes=request_bytes, outstanding=outstanding)
            for parts in (jobs, around)
        )
        steady = _stripe_ns(standard, request_bytes, outstanding, write) if whole.any() else 0.0
        known.update(zip(missing, (both - without[which.reshape(-1)] + whole * steady).tolist(), strict=True))
    return [known[place] for place in places]
