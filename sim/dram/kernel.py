"""The compiled loop of a DRAM channel: requests through a window of bursts, rows opened ahead, refresh on time.

A request is issued when it has arrived and fewer than ``outstanding`` are on their way. Its bursts enter the window in
order. Of each bank, only the oldest burst in the window may have a row closed or opened for it; of the bursts whose
row is open, the oldest ``reorder`` may be read or written (1: data strictly in order). The command that can go first
goes first, the older burst on a tie, a read or write before a row command. When a refresh is due nothing else starts:
all rows are closed and all banks refreshed.
"""

from typing import Any

import numpy as np
from numba import njit

from mixflight.sim.dram.device import (
    ACT,
    CLOSED,
    OPEN_ROW,
    PRE,
    PRE_ALL,
    READ,
    READ_DATA,
    REFRESH,
    REFRESH_EVERY,
    WRITE,
    WRITE_DATA,
    access,
    activate,
    precharge,
    ready_activate,
    ready_precharge,
    ready_read,
    ready_refresh,
    ready_write,
)

_FAR = 1 << 60
_SNAPSHOTS = 4096

# Fields of the address map, as in ``fields[:, 0]``.
COLUMN, GROUP, BANK, ROW = 0, 1, 2, 3


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def _seen(snapshots: Any, marks: Any, taken: Any, outstanding: Any) -> Any:
    """Index of an earlier snapshot equal to the one at ``taken``, both with the queue of requests full; -1 if none."""
    if marks[taken, 0] < outstanding:
        return -1
    for before in range(taken):
        if marks[before, 0] < outstanding:
            continue
        same = True
        for item in range(snapshots.shape[1]):
            if snapshots[before, item] != snapshots[taken, item]:
                same = False
                break
        if same:
            return before
    return -1


@njit(cache=True)
def run(
    t: Any, banks: Any, groups: Any, channel: Any, fields: Any, burst_bytes: int, stripe_bytes: int, grid: int,
    shared_bus: bool, path: int, window: int, reorder: int, outstanding: int, first_refresh: int, count: int,
    start: int, request_bytes: int, total_bytes: int, write: bool, addresses: Any, sizes: Any, arrivals: Any,
    writes: Any, issued: Any, finished: Any, trace: Any, shortcut: bool,
) -> Any:  # fmt: skip
    """Serve ``count`` requests; returns (clock of the last response, commands of each kind,
    rows of the trace, clocks in periods skipped).

    With no ``addresses`` the requests are a linear stream of ``total_bytes`` from ``start``, all there at clock 0.
    ``issued`` and ``finished`` take the clocks of each request, ``trace`` rows of (clock, command, bank, row), where
    they have room.

    ``shortcut`` (linear streams): right after a refresh every row is closed and all distances are settled, so the
    future depends only on the snapshot taken there: address within a stripe of rows, window, requests on their way,
    next refresh. When a snapshot comes back, the stream is shortened by whole periods and their time added.
    """
    linear = len(addresses) == 0
    group_banks = banks.shape[0] // groups.shape[0]
    counts = np.zeros(6, np.int64)
    entry_burst = np.zeros(window, np.int64)
    entry_request = np.zeros(window, np.int64)
    entry_bank = np.zeros(window, np.int64)
    entry_group = np.zeros(window, np.int64)
    entry_row = np.zeros(window, np.int64)
    entry_kind = np.zeros(window, np.int64)
    entry_since = np.zeros(window, np.int64)
    left = np.zeros(outstanding, np.int64)
    done = np.zeros(outstanding, np.int64)
    width = 6 + 4 * window + 2 * outstanding
    room = 0
    if shortcut:
        room = min(_SNAPSHOTS, 4 + 4 * (total_bytes // burst_bytes) // t[REFRESH_EVERY])
    snapshots = np.zeros((room, width), np.int64)
    marks = np.zeros((room, 8), np.int64)
    taken = 0
    queued = 0
    opened = 0
    position = 0
    bursts = 0
    burst = 0
    kind = READ
    since = 0
    now = 0
    row_bus = 0
    column_bus = 0
    due = first_refresh
    last = 0
    added = 0
    traced = 0
    while True:
        while queued < window:
            if position == bursts:
                slot = opened % outstanding
                if opened == count or (opened >= outstanding and left[slot] > 0):
                    break
                if linear:
                    address = start + opened * request_bytes
                    size = min(request_bytes, total_bytes - opened * request_bytes)
                    kind = WRITE if write else READ
                else:
                    address = addresses[opened]
                    size = sizes[opened]
                    kind = WRITE if writes[opened] else READ
                    since = max(since, arrivals[opened])
                if opened >= outstanding:
                    since = max(since, done[slot])
                burst = address // burst_bytes
                bursts = (address + size - 1) // burst_bytes - burst + 1
                position = 0
                left[slot] = bursts
                done[slot] = 0
                if opened < len(issued):
                    issued[opened] = since
                opened += 1
            entry_burst[queued] = burst + position
            bank, group, row = place(burst + position, fields, group_banks)
            entry_request[queued] = opened - 1
            entry_bank[queued] = bank
            entry_group[queued] = group
            entry_row[queued] = row
            entry_kind[queued] = kind
            entry_since[queued] = since
            position += 1
            queued += 1
        if queued == 0:
            break
        claimed = 0
        row_at = _FAR
        row_entry = 0
        column_at = _FAR
        column_entry = 0
        for entry in range(queued):
            bank = entry_bank[entry]
            if claimed >> bank & 1:
                continue
            claimed |= 1 << bank
            group = entry_group[entry]
            is_open = banks[bank, OPEN_ROW]
            ready = max(now, entry_since[entry])
            if is_open == entry_row[entry]:
                if entry < reorder:
                    ready = max(ready, column_bus)
                    if entry_kind[entry] == READ:
                        ready = max(ready, ready_read(t, banks[bank], groups[group], channel))
                    else:
                        ready = max(ready, ready_write(t, banks[bank], groups[group], channel))
                    ready = -(-ready // grid) * grid
                    if ready < column_at:
                        column_at = ready
                        column_entry = entry
                continue
            ready = max(ready, row_bus)
            if is_open == CLOSED:
                ready = max(ready, ready_activate(t, banks[bank], groups[group], channel))
            else:
                ready = max(ready, ready_precharge(t, banks[bank]))
            ready = -(-ready // grid) * grid
            if ready < row_at:
                row_at = ready
                row_entry = entry
        if min(row_at, column_at) >= due:
            ready = max(max(now, due), max(row_bus, column_bus))
            closed, now = _refresh(t, banks, channel, ready, grid)
            counts[REFRESH] += 1
            if closed >= 0:
                counts[PRE_ALL] += 1
                if traced < len(trace):
                    trace[traced, 0] = closed
                    trace[traced, 1] = PRE_ALL
                    traced += 1
            if traced < len(trace):
                trace[traced, 0] = now
                trace[traced, 1] = REFRESH
                traced += 1
            row_bus = now + grid
            column_bus = now + grid
            due += t[REFRESH_EVERY]
            if shortcut and taken < room:
                here = snapshots[taken]
                base = start + opened * request_bytes
                here[0] = base % stripe_bytes
                here[1] = due - now
                here[2] = bursts - position
                here[3] = burst + position - base // burst_bytes
                here[4] = max(since - now, 0)
                here[5] = queued
                for entry in range(queued):
                    here[6 + 4 * entry] = entry_burst[entry] - base // burst_bytes
                    here[7 + 4 * entry] = entry_request[entry] - opened
                    here[8 + 4 * entry] = max(entry_since[entry] - now, 0)
                    here[9 + 4 * entry] = entry_kind[entry]
                for back in range(min(outstanding, opened)):
                    slot = (opened - 1 - back) % outstanding
                    here[6 + 4 * window + 2 * back] = left[slot]
                    here[7 + 4 * window + 2 * back] = max(done[slot] - now, 0)
                marks[taken, 0] = opened
                marks[taken, 1] = now
                marks[taken, 2:] = counts
                before = _seen(snapshots, marks, taken, outstanding)
                if before >= 0:
                    period = opened - marks[before, 0]
                    times = max(count - 1 - opened, 0) // period
                    count -= times * period
                    total_bytes -= times * period * request_bytes
                    added = times * (now - marks[before, 1])
                    counts += times * (counts - marks[before, 2:])
                    shortcut = False
                taken += 1
            continue
        if column_at <= row_at:
            entry = column_entry
            now = column_at
            kind_now = entry_kind[entry]
            command = kind_now
            access(banks[entry_bank[entry]], groups[entry_group[entry]], channel, kind_now, now)
            slot = entry_request[entry] % outstanding
            end = now + (t[READ_DATA] if kind_now == READ else t[WRITE_DATA]) + path
            left[slot] -= 1
            done[slot] = max(done[slot], end)
            last = max(last, end)
            if entry_request[entry] < len(finished):
                finished[entry_request[entry]] = done[slot]
        else:
            entry = row_entry
            now = row_at
            bank = entry_bank[entry]
            if banks[bank, OPEN_ROW] == CLOSED:
                command = ACT
                activate(banks[bank], groups[entry_group[entry]], channel, entry_row[entry], now)
            else:
                command = PRE
                precharge(banks[bank], now)
        counts[command] += 1
        if traced < len(trace):
            trace[traced, 0] = now
            trace[traced, 1] = command
            trace[traced, 2] = entry_bank[entry]
            trace[traced, 3] = entry_row[entry]
            traced += 1
        if shared_bus or command in (READ, WRITE):
            column_bus = now + grid
        if shared_bus or command in (ACT, PRE):
            row_bus = now + grid
        if command in (READ, WRITE):
            queued -= 1
            for later in range(entry, queued):
                entry_burst[later] = entry_burst[later + 1]
                entry_request[later] = entry_request[later + 1]
                entry_bank[later] = entry_bank[later + 1]
                entry_group[later] = entry_group[later + 1]
                entry_row[later] = entry_row[later + 1]
                entry_kind[later] = entry_kind[later + 1]
                entry_since[later] = entry_since[later + 1]
    return last + added, counts, traced, added
