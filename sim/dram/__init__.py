"""DRAM timing: banks, rows, refresh and turnarounds of one kind of channel, for streams and for traces of requests.

Channels do not disturb each other: a stream over several of them is one share a channel, all starting together.

Not modelled: the port (its rate is the channel's peak), other channels' traffic in the switch, single-bank and
postponed refresh, command-bus conflicts of two pseudo-channels of one channel, power-down, the gaps a kernel leaves
between its bursts.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.dram_standard import DramStandard
from mixflight.arch.errors import InputError
from mixflight.sim.dram import kernel
from mixflight.sim.dram.device import COMMANDS, Clocks, new_state, timing_table
from mixflight.sim.dram.kernel import BANK, COLUMN, GROUP, ROW

__all__ = ["Requests", "Served", "Stream", "ends", "interleaved", "serve", "stream", "stream_time"]

_FIELDS = {"column": COLUMN, "group": GROUP, "bank": BANK, "row": ROW}
_NONE = np.zeros(0, np.int64)
_NO_TRACE = np.zeros((0, 4), np.int64)
_SNAPSHOTS = 4096
_NEVER_NS = 1e15


class Requests(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to one channel in the order of issue; ``arrival_clock`` in memory clocks, none before the one ahead."""

    address: NDArray[np.int64]
    bytes: NDArray[np.int64]
    write: NDArray[np.bool_]
    arrival_clock: NDArray[np.int64]


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each request: its latency from issue to last response, and all commands of the channel.

    ``trace`` has a row (clock, index in ``COMMANDS``, bank, row) a command where asked for.
    """

    end_ns: float
    issue_ns: NDArray[np.float64]
    latency_ns: NDArray[np.float64]
    commands: dict[str, int]
    trace: Clocks


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A linear stream: time from the first request to the last response, GB/s (10^9), commands of one channel.

    ``skipped_ns`` is the part of the time in whole periods that were not simulated one by one.
    """

    time_ns: float
    gb_s: float
    commands: dict[str, int]
    skipped_ns: float


def stream_time(
    standard: DramStandard, *, bytes: int, start_address: int = 0, request_bytes: int, outstanding: int,
    channels: int = 1, write: bool = False, first_refresh_ns: float | None = None,
) -> float:  # fmt: skip
    """Nanoseconds from the first request to the last response of a linear stream; as :func:`stream`."""
    return stream(
        standard, bytes=bytes, start_address=start_address, request_bytes=request_bytes, outstanding=outstanding,
        channels=channels, write=write, first_refresh_ns=first_refresh_ns,
    ).time_ns  # fmt: skip


def stream(
    standard: DramStandard, *, bytes: int, start_address: int = 0, request_bytes: int, outstanding: int,
    channels: int = 1, write: bool = False, first_refresh_ns: float | None = None, reorder: int = 1,
    shortcut: bool = True,
) -> Stream:  # fmt: skip
    """Read or write ``bytes`` in order, in whole requests shared evenly by ``channels``, each from ``start_address``.

    All rows are closed at first; the first refresh falls due after ``first_refresh_ns`` (one interval). ``shortcut``
    skips whole periods of a long stream; the result is the same.
    """
    for key, value in (("bytes", bytes), ("request_bytes", request_bytes), ("channels", channels)):
        if value < 1:
            raise InputError(f"{key} must be at least 1, not {value}")
    if channels > standard.channels:
        raise InputError(f"channels must be at most the {standard.channels} of {standard.name}, not {channels}")
    requests = -(-bytes // request_bytes)
    share = min(bytes, -(-requests // channels) * request_bytes)
    if start_address < 0 or start_address + share > standard.channel_bytes:
        size = standard.channel_bytes
        raise InputError(f"a stream must lie in the channel's {size} bytes, not at {start_address} with {share}")
    last, counts, _, skipped = _run(
        standard, outstanding, reorder, first_refresh_ns, count=-(-share // request_bytes), start=start_address,
        request_bytes=request_bytes, total=share, write=write, shortcut=shortcut,
    )  # fmt: skip
    time = last * standard.clock_ns
    return Stream(
        time_ns=time, gb_s=bytes / time, commands=dict(zip(COMMANDS, counts.tolist(), strict=True)),
        skipped_ns=skipped * standard.clock_ns,
    )  # fmt: skip


def interleaved(starts: list[int], *, chunk_bytes: int, chunks: int, writes: tuple[int, ...] = ()) -> Requests:
    """Linear streams in turn on one channel, ``chunks`` requests of each; ``writes`` are the indices that write."""
    turn = np.arange(chunks, dtype=np.int64)[:, None] * chunk_bytes
    address = (turn + np.array(starts, np.int64)[None, :]).reshape(-1)
    return Requests(
        address=address, bytes=np.full(len(address), chunk_bytes, np.int64),
        write=np.tile(np.isin(np.arange(len(starts)), writes), chunks), arrival_clock=np.zeros(len(address), np.int64),
    )  # fmt: skip


def serve(
    standard: DramStandard, requests: Requests, *, outstanding: int, first_refresh_ns: float | None = None,
    reorder: int = 1, trace: bool = False,
) -> Served:  # fmt: skip
    """Serve the requests on one channel with at most ``outstanding`` on their way."""
    count = len(requests.address)
    lengths = {len(requests.bytes), len(requests.write), len(requests.arrival_clock)}
    if lengths != {count} or not count:
        raise InputError(f"requests must be at least one, with as many values of each kind, not {count} addresses")
    if requests.bytes.min() < 1:
        raise InputError(f"a request must have at least 1 byte, not {requests.bytes.min()}")
    if requests.address.min() < 0 or (requests.address + requests.bytes).max() > standard.channel_bytes:
        raise InputError(f"requests must lie in the channel's {standard.channel_bytes} bytes")
    if (np.diff(requests.arrival_clock) < 0).any() or requests.arrival_clock[0] < 0:
        raise InputError("arrivals must not go back in time, nor begin before 0")
    issued, finished = np.zeros(count, np.int64), np.zeros(count, np.int64)
    bursts = int((requests.bytes // standard.burst_bytes + 2).sum())
    idle = int(requests.arrival_clock[-1]) // standard.timing.nREFI
    room = np.zeros((8 * bursts + 4 * idle + 64, 4), np.int64) if trace else _NO_TRACE
    last, counts, traced, _ = _run(
        standard, outstanding, reorder, first_refresh_ns, count=count, requests=requests, issued=issued,
        finished=finished, trace=room,
    )  # fmt: skip
    return Served(
        end_ns=last * standard.clock_ns, issue_ns=np.float64(standard.clock_ns) * issued.astype(np.float64),
        latency_ns=np.float64(standard.clock_ns) * (finished - issued).astype(np.float64),
        commands=dict(zip(COMMANDS, counts.tolist(), strict=True)), trace=room[:traced],
    )  # fmt: skip


def ends(standard: DramStandard, parts: Clocks, *, request_bytes: int, outstanding: int) -> NDArray[np.float64]:
    """Nanoseconds to the last response of each of many jobs on a channel of their own, without refresh.

    ``parts`` (job, part, 3): linear streams one behind the other: first address, bytes (0: no part), whether it writes.
    """
    most = int((-(-parts[:, :, 1] // request_bytes)).sum(axis=1).max(initial=0))
    room = Requests(
        address=np.zeros(most, np.int64), bytes=np.zeros(most, np.int64), write=np.zeros(most, np.bool_),
        arrival_clock=np.zeros(most, np.int64),
    )  # fmt: skip
    prepared = _prepare(
        standard, outstanding, 1, _NEVER_NS, requests=room, request_bytes=request_bytes
    )  # fmt: skip
    clocks = np.zeros(len(parts), np.int64)
    kernel.run_each(prepared, parts, clocks)
    return clocks * np.float64(standard.clock_ns)


def _run(
    standard: DramStandard, outstanding: int, reorder: int, first_refresh_ns: float | None, *, count: int,
    start: int = 0, request_bytes: int = 1, total: int = 0, write: bool = False, requests: Requests | None = None,
    issued: Clocks = _NONE, finished: Clocks = _NONE, trace: Clocks = _NO_TRACE, shortcut: bool = False,
) -> tuple[int, Clocks, int, int]:  # fmt: skip
    """(Clock of the last response, commands of each kind, rows of the trace, clocks in periods skipped)."""
    room = 0
    if shortcut:
        room = min(_SNAPSHOTS, 4 + 4 * (total // standard.burst_bytes) // standard.timing.nREFI)
    run = _prepare(
        standard, outstanding, reorder, first_refresh_ns, count=count, start=start, request_bytes=request_bytes,
        total=total, write=write, requests=requests, issued=issued, finished=finished, trace=trace, room=room,
    )  # fmt: skip
    kernel.run(run)
    now = run.now
    return int(now[kernel.LAST] + now[kernel.ADDED]), run.counts, int(now[kernel.TRACED]), int(now[kernel.ADDED])


def _prepare(
    standard: DramStandard, outstanding: int, reorder: int, first_refresh_ns: float | None, *, count: int = 0,
    start: int = 0, request_bytes: int = 1, total: int = 0, write: bool = False, requests: Requests | None = None,
    issued: Clocks = _NONE, finished: Clocks = _NONE, trace: Clocks = _NO_TRACE, room: int = 0,
) -> kernel.Run:  # fmt: skip
    """The arrays of a run on a channel in which nothing has happened, with ``room`` for so many snapshots."""
    if outstanding < 1:
        raise InputError(f"outstanding must be at least 1, not {outstanding}")
    if reorder < 1:
        raise InputError(f"reorder must be at least 1, not {reorder}")
    banks, groups, channel = new_state(standard)
    first = standard.timing.nREFI if first_refresh_ns is None else round(first_refresh_ns / standard.clock_ns)
    given = {
        kernel.BURST_BYTES: standard.burst_bytes, kernel.STRIPE_BYTES: standard.stripe_bytes,
        kernel.GRID: standard.command_clocks, kernel.SHARED_BUS: standard.shared_command_bus,
        kernel.PATH: standard.path_clocks, kernel.WINDOW: standard.window, kernel.REORDER: reorder,
        kernel.OUTSTANDING: outstanding, kernel.START: start, kernel.REQUEST_BYTES: request_bytes,
        kernel.IS_WRITE: write, kernel.LINEAR: requests is None,
    }  # fmt: skip
    now = np.zeros(kernel.NOWS, np.int64)
    now[kernel.DUE], now[kernel.COUNT], now[kernel.TOTAL_BYTES] = first, count, total
    return kernel.Run(
        t=timing_table(standard), banks=banks, groups=groups, channel=channel,
        fields=np.array([(_FIELDS[part.field], part.bits) for part in standard.map], np.int64),
        given=np.array([given[index] for index in range(len(given))], np.int64), now=now,
        entries=np.zeros((standard.window, kernel.ENTRY), np.int64), left=np.zeros(outstanding, np.int64),
        done=np.zeros(outstanding, np.int64), counts=np.zeros(len(COMMANDS), np.int64),
        addresses=_NONE if requests is None else requests.address, sizes=_NONE if requests is None else requests.bytes,
        arrivals=_NONE if requests is None else requests.arrival_clock,
        writes=np.zeros(0, np.bool_) if requests is None else requests.write, issued=issued, finished=finished,
        trace=trace, snapshots=np.zeros((room, 6 + 4 * standard.window + 2 * outstanding), np.int64),
        marks=np.zeros((room, 2 + len(COMMANDS)), np.int64),
    )  # fmt: skip
