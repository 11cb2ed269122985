"""The compiled loop of a DRAM channel: requests through a window of bursts, rows opened ahead, refresh on time.

A request is issued when it has arrived and fewer than ``outstanding`` are on their way. Its bursts enter the window in
order. Of each bank, only the oldest burst in the window may have a row closed or opened for it; of the bursts whose
row is open, the oldest ``reorder`` may be read or written (1: data strictly in order). The command that can go first
goes first, the older burst on a tie, a read or write before a row command. When a refresh is due nothing else starts:
all rows are closed and all banks refreshed.

The functions of ``device`` become part of this loop. numba's cache looks at this file only: who changes that one must
empty ``__pycache__``.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mixflight.sim.dram.device import (
    ACT,
    CLOSED,
    NEVER,
    OPEN_ROW,
    PRE,
    PRE_ALL,
    READ,
    READ_DATA,
    REFRESH,
    REFRESH_EVERY,
    RING_AT,
    WRITE,
    WRITE_DATA,
    Clocks,
    access,
    activate,
    loop,
    part,
    precharge,
    ready_activate,
    ready_precharge,
    ready_read,
    ready_refresh,
    ready_write,
)

_FAR = 1 << 60

# Fields of the address map, as in ``fields[:, 0]``.
COLUMN, GROUP, BANK, ROW = 0, 1, 2, 3

# What a run is given, beside arrays.
(
    BURST_BYTES, STRIPE_BYTES, GRID, SHARED_BUS, PATH, WINDOW, REORDER, OUTSTANDING, START, REQUEST_BYTES, IS_WRITE,
    LINEAR,
) = range(12)  # fmt: skip
# What changes: bursts in the window; the request being cut into bursts, its first burst, how many and how far; clocks.
(
    QUEUED, OPENED, BURST, BURSTS, POSITION, KIND, SINCE, NOW, ROW_BUS, COLUMN_BUS, DUE, LAST, COUNT, TOTAL_BYTES,
    ADDED, TRACED, TAKEN, HEAD, NOWS,
) = range(19)  # fmt: skip
# Columns of a burst in the window.
_NUMBER, _REQUEST, _BANK, _GROUP, _ROW, _KIND, _SINCE, ENTRY = range(8)


class Run(NamedTuple):
    """All arrays of a run. ``given`` and ``now`` as named above; ``left`` bursts of each request on its way, and its
    data's end so far, ``done``."""

    t: Clocks
    banks: Clocks
    groups: Clocks
    channel: Clocks
    fields: Clocks
    given: Clocks
    now: Clocks
    entries: Clocks
    left: Clocks
    done: Clocks
    counts: Clocks
    addresses: Clocks
    sizes: Clocks
    arrivals: Clocks
    writes: NDArray[np.bool_]
    issued: Clocks
    finished: Clocks
    trace: Clocks
    snapshots: Clocks
    marks: Clocks


@loop
def place(burst: Any, fields: Any, group_banks: Any) -> Any:
    """(Bank, group, row) of burst number ``burst`` of the channel; banks are numbered through the groups."""
    group = 0
    group_bits = 0
    bank = 0
    bank_bits = 0
    row = 0
    for field in range(fields.shape[0]):
        bits = fields[field, 1]
        value = burst & ((1 << bits) - 1)
        burst >>= bits
        if fields[field, 0] == GROUP:
            group |= value << group_bits
            group_bits += bits
        elif fields[field, 0] == BANK:
            bank |= value << bank_bits
            bank_bits += bits
        elif fields[field, 0] == ROW:
            row = value
    return group * group_banks + bank, group, row


@loop
def _refresh(t: Any, banks: Any, channel: Any, now: Any, grid: Any) -> Any:
    """Close all rows from clock ``now`` on and refresh all banks; (clock of closing or -1, clock of the refresh)."""
    ready = now
    any_open = False
    for bank in range(banks.shape[0]):
        if banks[bank, OPEN_ROW] != CLOSED:
            any_open = True
            ready = max(ready, ready_precharge(t, banks[bank]))
    now = -(-ready // grid) * grid
    closed = now if any_open else -1
    for bank in range(banks.shape[0]):
        if banks[bank, OPEN_ROW] != CLOSED:
            precharge(banks[bank], now)
    now = -(-max(now, ready_refresh(t, banks, channel)) // grid) * grid
    channel[REFRESH] = now
    return closed, now


@part
def _place(r: Any, index: Any) -> Any:
    """Row of ``entries`` of the burst ``index`` of the window, the oldest first."""
    at = r.now[HEAD] + index
    return at - r.given[WINDOW] if at >= r.given[WINDOW] else at


@part
def _note(r: Any, clock: Any, command: int, bank: Any, row: Any) -> None:
    r.counts[command] += 1
    at = r.now[TRACED]
    if at < len(r.trace):
        r.trace[at, 0] = clock
        r.trace[at, 1] = command
        r.trace[at, 2] = bank
        r.trace[at, 3] = row
        r.now[TRACED] = at + 1


@part
def _open(r: Any) -> bool:
    """Issue the next request, if there is one and fewer than may be are on their way."""
    now, given = r.now, r.given
    number = now[OPENED]
    slot = number % given[OUTSTANDING]
    if number == now[COUNT] or (number >= given[OUTSTANDING] and r.left[slot] > 0):
        return False
    if given[LINEAR]:
        address = given[START] + number * given[REQUEST_BYTES]
        size = min(given[REQUEST_BYTES], now[TOTAL_BYTES] - number * given[REQUEST_BYTES])
        now[KIND] = WRITE if given[IS_WRITE] else READ
    else:
        address, size = r.addresses[number], r.sizes[number]
        now[KIND] = WRITE if r.writes[number] else READ
        now[SINCE] = max(now[SINCE], r.arrivals[number])
    if number >= given[OUTSTANDING]:
        now[SINCE] = max(now[SINCE], r.done[slot])
    now[BURST] = address // given[BURST_BYTES]
    now[BURSTS] = (address + size - 1) // given[BURST_BYTES] - now[BURST] + 1
    now[POSITION] = 0
    r.left[slot] = now[BURSTS]
    r.done[slot] = 0
    if number < len(r.issued):
        r.issued[number] = now[SINCE]
    now[OPENED] = number + 1
    return True


@part
def _fill(r: Any) -> None:
    """Bring bursts into the window, in order, until it is full or nothing more may be issued."""
    now = r.now
    group_banks = r.banks.shape[0] // r.groups.shape[0]
    while now[QUEUED] < r.given[WINDOW]:
        if now[POSITION] == now[BURSTS] and not _open(r):
            return
        entry = r.entries[_place(r, now[QUEUED])]
        burst = now[BURST] + now[POSITION]
        bank, group, row = place(burst, r.fields, group_banks)
        entry[_NUMBER] = burst
        entry[_REQUEST] = now[OPENED] - 1
        entry[_BANK] = bank
        entry[_GROUP] = group
        entry[_ROW] = row
        entry[_KIND] = now[KIND]
        entry[_SINCE] = now[SINCE]
        now[POSITION] += 1
        now[QUEUED] += 1


@part
def _next(r: Any) -> Any:
    """(Clock and entry of the first row command, and of the first read or write), as far as the window tells."""
    claimed = 0
    row_at, row_entry, column_at, column_entry = _FAR, 0, _FAR, 0
    grid = r.given[GRID]
    for index in range(r.now[QUEUED]):
        entry = r.entries[_place(r, index)]
        if claimed >> entry[_BANK] & 1:
            continue
        claimed |= 1 << entry[_BANK]
        bank, group = r.banks[entry[_BANK]], r.groups[entry[_GROUP]]
        ready = max(r.now[NOW], entry[_SINCE])
        if bank[OPEN_ROW] == entry[_ROW]:
            if index < r.given[REORDER]:
                ready = max(ready, r.now[COLUMN_BUS])
                if entry[_KIND] == READ:
                    ready = max(ready, ready_read(r.t, bank, group, r.channel))
                else:
                    ready = max(ready, ready_write(r.t, bank, group, r.channel))
                ready = -(-ready // grid) * grid
                if ready < column_at:
                    column_at, column_entry = ready, index
            continue
        ready = max(ready, r.now[ROW_BUS])
        if bank[OPEN_ROW] == CLOSED:
            ready = max(ready, ready_activate(r.t, bank, group, r.channel))
        else:
            ready = max(ready, ready_precharge(r.t, bank))
        ready = -(-ready // grid) * grid
        if ready < row_at:
            row_at, row_entry = ready, index
    return row_at, row_entry, column_at, column_entry


@loop
def _refresh_due(r: Any) -> None:
    """Close all rows, refresh all banks, and set the next time that is due."""
    now, grid = r.now, r.given[GRID]
    ready = max(max(now[NOW], now[DUE]), max(now[ROW_BUS], now[COLUMN_BUS]))
    closed, at = _refresh(r.t, r.banks, r.channel, ready, grid)
    if closed >= 0:
        _note(r, closed, PRE_ALL, 0, 0)
    _note(r, at, REFRESH, 0, 0)
    now[NOW] = at
    now[ROW_BUS] = at + grid
    now[COLUMN_BUS] = at + grid
    now[DUE] += r.t[REFRESH_EVERY]


@part
def _column(r: Any, index: int, at: Any) -> None:
    """Read or write the burst ``index`` of the window at clock ``at``; it leaves, and older ones move up."""
    entry, now = r.entries[_place(r, index)], r.now
    kind = entry[_KIND]
    now[NOW] = at
    access(r.banks[entry[_BANK]], r.groups[entry[_GROUP]], r.channel, kind, at)
    slot = entry[_REQUEST] % r.given[OUTSTANDING]
    end = at + (r.t[READ_DATA] if kind == READ else r.t[WRITE_DATA]) + r.given[PATH]
    r.left[slot] -= 1
    r.done[slot] = max(r.done[slot], end)
    now[LAST] = max(now[LAST], end)
    if entry[_REQUEST] < len(r.finished):
        r.finished[entry[_REQUEST]] = r.done[slot]
    _note(r, at, kind, entry[_BANK], entry[_ROW])
    now[COLUMN_BUS] = at + r.given[GRID]
    if r.given[SHARED_BUS]:
        now[ROW_BUS] = at + r.given[GRID]
    for later in range(index, 0, -1):
        for column in range(ENTRY):
            r.entries[_place(r, later), column] = r.entries[_place(r, later - 1), column]
    now[HEAD] = _place(r, 1)
    now[QUEUED] -= 1


@part
def _row(r: Any, index: int, at: Any) -> None:
    """Open the row of the burst ``index`` of the window at clock ``at``, or close the one that is in its way."""
    entry, now = r.entries[_place(r, index)], r.now
    bank = r.banks[entry[_BANK]]
    now[NOW] = at
    if bank[OPEN_ROW] == CLOSED:
        activate(bank, r.groups[entry[_GROUP]], r.channel, entry[_ROW], at)
        _note(r, at, ACT, entry[_BANK], entry[_ROW])
    else:
        precharge(bank, at)
        _note(r, at, PRE, entry[_BANK], entry[_ROW])
    now[ROW_BUS] = at + r.given[GRID]
    if r.given[SHARED_BUS]:
        now[COLUMN_BUS] = at + r.given[GRID]


@loop
def _snapshot(r: Any) -> None:
    """Write what the future of a linear stream depends on right after a refresh, relative to now."""
    now, window = r.now, r.given[WINDOW]
    clock, opened = now[NOW], now[OPENED]
    here = r.snapshots[now[TAKEN]]
    base = r.given[START] + opened * r.given[REQUEST_BYTES]
    first = base // r.given[BURST_BYTES]
    here[0] = base % r.given[STRIPE_BYTES]
    here[1] = now[DUE] - clock
    here[2] = now[BURSTS] - now[POSITION]
    here[3] = now[BURST] + now[POSITION] - first
    here[4] = max(now[SINCE] - clock, 0)
    here[5] = now[QUEUED]
    for index in range(now[QUEUED]):
        entry = r.entries[_place(r, index)]
        here[6 + 4 * index] = entry[_NUMBER] - first
        here[7 + 4 * index] = entry[_REQUEST] - opened
        here[8 + 4 * index] = max(entry[_SINCE] - clock, 0)
        here[9 + 4 * index] = entry[_KIND]
    for back in range(min(r.given[OUTSTANDING], opened)):
        slot = (opened - 1 - back) % r.given[OUTSTANDING]
        here[6 + 4 * window + 2 * back] = r.left[slot]
        here[7 + 4 * window + 2 * back] = max(r.done[slot] - clock, 0)
    mark = r.marks[now[TAKEN]]
    mark[0] = opened
    mark[1] = clock
    for command in range(len(r.counts)):
        mark[2 + command] = r.counts[command]


@loop
def _seen(r: Any) -> Any:
    """Index of an earlier snapshot equal to the last one, both with the queue of requests full; -1 if none."""
    taken, outstanding = r.now[TAKEN], r.given[OUTSTANDING]
    if r.marks[taken, 0] < outstanding:
        return -1
    for before in range(taken):
        if r.marks[before, 0] < outstanding:
            continue
        same = True
        for item in range(r.snapshots.shape[1]):
            if r.snapshots[before, item] != r.snapshots[taken, item]:
                same = False
                break
        if same:
            return before
    return -1


@loop
def _shorten(r: Any) -> bool:
    """Take a snapshot; if it was there before, shorten the stream by whole periods and add their time."""
    now = r.now
    _snapshot(r)
    before = _seen(r)
    if before < 0:
        now[TAKEN] += 1
        return False
    mark = r.marks[before]
    period = now[OPENED] - mark[0]
    times = max(now[COUNT] - 1 - now[OPENED], 0) // period
    now[COUNT] -= times * period
    now[TOTAL_BYTES] -= times * period * r.given[REQUEST_BYTES]
    now[ADDED] = times * (now[NOW] - mark[1])
    for command in range(len(r.counts)):
        r.counts[command] += times * (r.counts[command] - mark[2 + command])
    return True


@loop
def run(r: Any) -> None:
    """Serve all requests: ``now[LAST]`` is the clock of the last response but for ``now[ADDED]``, those of periods
    skipped; ``counts`` the commands of each kind, ``now[TRACED]`` the rows of the trace.

    A linear stream has no addresses and is all there at clock 0. ``issued`` and ``finished`` take the clocks of each
    request, ``trace`` rows of (clock, command, bank, row), where they have room.

    Right after a refresh every row is closed and all distances are settled, so the future of a linear stream depends
    only on the snapshot taken there, if there is room for one: address within a stripe of rows, window, requests on
    their way, next refresh. When a snapshot comes back, the stream is shortened by whole periods.
    """
    shortened = False
    while True:
        _fill(r)
        if r.now[QUEUED] == 0:
            return
        row_at, row_entry, column_at, column_entry = _next(r)
        if min(row_at, column_at) >= r.now[DUE]:
            _refresh_due(r)
            if not shortened and r.now[TAKEN] < len(r.snapshots):
                shortened = _shorten(r)
        elif column_at <= row_at:
            _column(r, column_entry, column_at)
        else:
            _row(r, row_entry, row_at)


@loop
def _forget(r: Any) -> None:
    """A channel that has done nothing: every row closed."""
    for bank in range(r.banks.shape[0]):
        for column in range(r.banks.shape[1]):
            r.banks[bank, column] = CLOSED if column == OPEN_ROW else NEVER
    for group in range(r.groups.shape[0]):
        for column in range(r.groups.shape[1]):
            r.groups[group, column] = NEVER
    for column in range(len(r.channel)):
        r.channel[column] = 0 if column == RING_AT else NEVER
    due = r.now[DUE]
    for field in range(NOWS):
        r.now[field] = 0
    r.now[DUE] = due


@loop
def run_each(r: Any, parts: Any, ends: Any) -> None:
    """``run`` on a new channel for each row of ``parts``: linear streams (first address, bytes, whether it writes) one
    behind the other, without refresh. ``ends`` take the clocks of the last responses; requests are written to the
    arrays of ``r``, which must have room."""
    for job in range(len(parts)):
        _forget(r)
        count = 0
        for part_ in range(parts.shape[1]):
            address, left = parts[job, part_, 0], parts[job, part_, 1]
            while left > 0:
                r.addresses[count] = address
                r.sizes[count] = min(left, r.given[REQUEST_BYTES])
                r.writes[count] = parts[job, part_, 2] != 0
                address += r.given[REQUEST_BYTES]
                left -= r.given[REQUEST_BYTES]
                count += 1
        r.now[COUNT] = count
        run(r)
        ends[job] = r.now[LAST]
