"""The event loop of the cores: dispatch in program order, queues, tokens, channels and ports.

State of a core is one row of ``state`` (layout below), times in ticks. An instruction starts when it was dispatched,
its class's queue is free, its tokens are there, its channels are free, and the buffer it fills lags no further behind
than requests are in flight. Among the heads of the queues the one that can start first does (ties: in the order of the
classes), so starts never go back in time and channels serve in that order.

The dispatcher hands one instruction after the other to the queue of its class, ``issue`` ticks apart, and stops at a
full queue. SYS barriers and exchanges of all cores start together, when the last core could.

Time is also *accounted*: how far MM, MV, MISC and SYS have kept their units busy is the front; whoever moves it owns
the time it moves by. Time before an instruction's start goes to what it waited for, as far as that was done with its
unit, and to latency behind that; its occupancy goes to its own limit.

All compiled functions are in this file: numba's cache notices a changed callee only where the caller's file changed.
Those of the loop do not count references to their arrays (``_nrt=False``: they allocate nothing); counting took four
fifths of the time.
"""

from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.core import DEEPEST_QUEUE
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_program import BUFFERS
from mixflight.sim.core.row import ALL_OWN, CHANNELS, NO_CHANNEL, ONE_OWN, PAIR_BITS, TICKS
from mixflight.sim.core.units import LIMIT

N = len(CLASSES)
LD, ST, MM, MV, MISC, SYS = range(N)
RING = 256
DEPTH = DEEPEST_QUEUE  # a power of two
TOKENS = 256
"""Most tokens of a core in a state that is looked at."""
SEEN = 1 << 12
"""Places of the table of states seen, a power of two."""
STRIDE = 256
"""Instructions between two states that are looked at, at least: a look costs as much as some of them."""

# Layout of a core's row of the state: the dispatcher, the queues and their heads, units and channels, tokens.
POS, NEXT, LAST, DISPATCHED_AT, STALLED, SLOTS, ISSUE = range(7)
NOW, FRONT, LAST_END, LAST_OP, BEFORE_SYNC, OWN, WIDE, MOST = range(ISSUE + 1, ISSUE + 9)
FREE = MOST + 1
IN_ORDER_END = FREE + N
PUSHED = IN_ORDER_END + N
STARTED = PUSHED + N
TIME = STARTED + N
WHY = TIME + N
READY = WHY + N
READY_WHY = READY + N
MISSING = READY_WHY + N
CHANNEL = MISSING + N
PORT = CHANNEL + CHANNELS
ROOM = PORT + len(BUFFERS)
PUT = ROOM + len(BUFFERS)
TAKEN = PUT + N * N
QUEUE_INDEX = TAKEN + N * N
QUEUE_TIME = QUEUE_INDEX + N * DEPTH
TOKEN_TIME = QUEUE_TIME + N * DEPTH
TOKEN_LIMIT = TOKEN_TIME + N * N * RING
SIZE = TOKEN_LIMIT + N * N * RING

AT_SYNC, FINISHED, STUCK, OVERFLOW, CROSSED, ALONE = range(6)
NEVER = 1 << 60

_DRAM, _ISSUE, _LATENCY, _PORT = LIMIT["dram"], LIMIT["issue"], LIMIT["latency"], LIMIT["port"]
_loop = njit(cache=True, _nrt=False)
_OWN = -1
_COMPLETE, _EMPTY = 0, -1
_PAIR = (1 << PAIR_BITS) - 1


def new_state(cores: int, *, own: int, room: Any, depth: int, issue: int, begin: int) -> Any:
    """Rows of ``cores`` cores that do nothing before ``begin``.

    ``own`` channels of a core, from 0 on; ``room`` by which each buffer's port may lag; ``depth`` of the queues;
    ``issue`` between two dispatches.
    """
    state = np.zeros((cores, SIZE), np.int64)
    state[:, LAST_OP] = -1
    state[:, POS] = -1
    for field, value in ((OWN, own), (SLOTS, depth), (ISSUE, issue), (DISPATCHED_AT, begin), (FRONT, begin)):
        state[:, field] = value
    state[:, ROOM : ROOM + len(BUFFERS)] = room
    return state


@_loop
def _dispatch(s: Any, program: Any, order: Any, first: Any, count: Any) -> Any:
    """Hand out instructions until a queue is full (the class is then STALLED) or the program at its end; mask of queues
    that were empty. An entry's time becomes its start when it starts, which frees its place in the queue."""
    woken = np.int64(0)
    at, last, now = s[NEXT], s[LAST], s[DISPATCHED_AT]
    s[STALLED] = N
    while True:
        if at == last:
            if s[POS] + 1 >= len(order):
                s[POS] = len(order)
                break
            s[POS] += 1
            piece = order[s[POS]]
            at = first[piece]
            last = at + count[piece]
            continue
        row = program[at]
        c = np.int64(row.kind)
        if c < 0:
            now += row.occupancy
            at += 1
            continue
        pushed = s[PUSHED + c]
        waiting = pushed - s[STARTED + c]
        if waiting >= s[SLOTS]:
            s[STALLED] = c
            break
        now += s[ISSUE]
        if pushed >= s[SLOTS]:
            now = max(now, s[QUEUE_TIME + c * DEPTH + ((pushed - s[SLOTS]) & (DEPTH - 1))])
        slot = c * DEPTH + (pushed & (DEPTH - 1))
        s[QUEUE_INDEX + slot] = at
        s[QUEUE_TIME + slot] = now
        if waiting == 0:
            woken |= 1 << c
        s[PUSHED + c] = pushed + 1
        at += 1
    s[NEXT], s[LAST], s[DISPATCHED_AT] = at, last, now
    return woken


@_loop
def _channels_free(s: Any, row: Any) -> Any:
    """When the channels of a transfer are free. What all own channels did together is noted once, in WIDE."""
    if row.use == ALL_OWN:
        return max(s[WIDE], s[MOST])
    if row.use == ONE_OWN:
        return max(s[WIDE], s[CHANNEL + row.first])
    free = np.int64(0)
    for channel in range(row.first, row.first + row.channels):
        free = max(free, s[CHANNEL + channel])
        if channel < s[OWN]:
            free = max(free, s[WIDE])
    return free


@_loop
def _keep_channels(s: Any, row: Any, busy: int) -> None:
    """Keep the channels of a transfer until ``busy``; MOST is the latest of single own channels."""
    if row.use == ALL_OWN:
        s[WIDE] = busy
        return
    for channel in range(row.first, row.first + row.channels):
        s[CHANNEL + channel] = busy
        if channel < s[OWN]:
            s[MOST] = max(s[MOST], busy)


@_loop
def _with_channels(s: Any, c: int, row: Any) -> None:
    """TIME and WHY of the head of ``c``, LD or ST, from its READY, its channels and its buffer's port."""
    start, why = s[READY + c], s[READY_WHY + c]
    if row.use != NO_CHANNEL:
        free = _channels_free(s, row)
        if free > start:
            start, why = free, np.int64(_DRAM)
    if row.port >= 0:
        free = s[PORT + row.port] - s[ROOM + row.port]
        if free > start:
            start, why = free, np.int64(_PORT)
    s[TIME + c] = start
    s[WHY + c] = why


@_loop
def _head(s: Any, c: int, program: Any) -> None:
    """TIME at which the head of queue ``c`` can start, or NEVER, and WHY: what it waited for last, a limit or _OWN.

    MISSING is the pair a token of which the head lacks.
    """
    started = s[STARTED + c]
    if s[PUSHED + c] == started:
        s[TIME + c] = NEVER
        s[MISSING + c] = _EMPTY
        return
    slot = c * DEPTH + (started & (DEPTH - 1))
    row = program[s[QUEUE_INDEX + slot]]
    start, why = s[FREE + c], np.int64(_OWN)
    if s[QUEUE_TIME + slot] > start:
        start, why = s[QUEUE_TIME + slot], np.int64(_ISSUE)
    waits = row.waits
    while waits:
        pair = (waits & _PAIR) - 1
        taken = s[TAKEN + pair]
        if taken == s[PUT + pair]:
            s[TIME + c] = NEVER
            s[MISSING + c] = pair + 1
            return
        token = pair * RING + (taken & (RING - 1))
        if s[TOKEN_TIME + token] > start:
            start, why = s[TOKEN_TIME + token], s[TOKEN_LIMIT + token]
        waits >>= PAIR_BITS
    s[MISSING + c] = _COMPLETE
    s[READY + c] = start
    s[READY_WHY + c] = why
    if c <= ST:
        _with_channels(s, c, row)
    else:
        s[TIME + c] = start
        s[WHY + c] = why


@_loop
def _account(s: Any, spent: Any, operator: int, limit: int, why: int, start: int, busy: int) -> None:
    """Give the time by which the front moves to its owners. ``why`` is a limit, and above four bits the latency that
    the wait ended with."""
    front = s[FRONT]
    if busy <= front:
        return
    if start > front:
        gap = start - front
        if why == _OWN:
            spent[operator, limit] += gap
        else:
            late = min(gap, why >> 4)
            spent[operator, _LATENCY] += late
            spent[operator, why & 15] += gap - late
        front = start
    spent[operator, limit] += busy - front
    s[FRONT] = busy


@_loop
def _give(s: Any, row: Any, end: int, program: Any) -> bool:
    """Release the tokens of an instruction at ``end``; heads that lacked them are looked at again. Whether all of them
    have room."""
    fits = True
    limit = row.limit + 16 * row.latency
    releases = row.releases
    while releases:
        pair = (releases & _PAIR) - 1
        put = s[PUT + pair]
        if put - s[TAKEN + pair] >= RING:
            fits = False
        token = pair * RING + (put & (RING - 1))
        s[TOKEN_TIME + token] = end
        s[TOKEN_LIMIT + token] = limit
        s[PUT + pair] = put + 1
        if s[MISSING + pair % N] == pair + 1:
            _head(s, pair % N, program)
        releases >>= PAIR_BITS
    return fits


@_loop
def _start(s: Any, c: int, program: Any, spent: Any) -> Any:
    """Start the head of queue ``c`` at its TIME; (its end, whether its tokens have room)."""
    start = s[TIME + c]
    started = s[STARTED + c]
    slot = c * DEPTH + (started & (DEPTH - 1))
    row = program[s[QUEUE_INDEX + slot]]
    s[QUEUE_TIME + slot] = start
    s[STARTED + c] = started + 1
    s[NOW] = start
    busy = start + row.occupancy
    end = busy + row.latency
    if c <= ST and row.channels > 0:
        if row.use != NO_CHANNEL:
            _keep_channels(s, row, busy)
        s[FREE + c] = busy if row.sync else start + TICKS
        if row.port >= 0:
            done = max(start, s[PORT + row.port]) + row.port_time
            s[PORT + row.port] = done
            end = max(end, done + row.latency)
    else:
        s[FREE + c] = busy
        if c in (MM, MV):
            s[FREE + MM + MV - c] = max(busy, s[FREE + MM + MV - c])
    end = max(end, s[IN_ORDER_END + c])
    s[IN_ORDER_END + c] = end
    if end >= s[LAST_END]:
        s[LAST_END] = end
        s[LAST_OP] = row.operator * 16 + (row.limit if c <= ST else _LATENCY)
    if c > ST:
        _account(s, spent, row.operator, row.limit, s[WHY + c], start, busy)
    waits = row.waits
    while waits:
        s[TAKEN + (waits & _PAIR) - 1] += 1
        waits >>= PAIR_BITS
    return end, _give(s, row, end, program)


@_loop
def _next_heads(s: Any, c: int, program: Any) -> None:
    """Look at the heads again that the start of one of class ``c`` changes, but for those it gave tokens."""
    _head(s, c, program)
    if c <= ST:
        other = LD + ST - c
        if s[MISSING + other] == _COMPLETE:
            row = program[s[QUEUE_INDEX + other * DEPTH + (s[STARTED + other] & (DEPTH - 1))]]
            _with_channels(s, other, row)
    elif c <= MV and s[MISSING + MM + MV - c] == _COMPLETE:
        _head(s, MM + MV - c, program)


@_loop
def _note(trace: Any, traced: Any, core: int, c: int, row: Any, start: int, end: int) -> None:
    """Write a slice; where ``traced`` has places for the last slice of each class, one of the same operator grows."""
    busy, merges = start + row.occupancy, traced.shape[1] > 1
    if merges and traced[core, 1 + c]:
        last = trace[core, traced[core, 1 + c] - 1]
        if last[1] == row.operator:
            last[3], last[4] = max(last[3], busy), max(last[4], end)
            last[5] += 1
            return
    if traced[core, 0] < trace.shape[1]:
        slice_ = trace[core, traced[core, 0]]
        slice_[0], slice_[1], slice_[2], slice_[3], slice_[4], slice_[5] = c, row.operator, start, busy, end, 1
        traced[core, 0] += 1
        if merges:
            traced[core, 1 + c] = traced[core, 0]


@_loop
def _advance(
    s: Any, cores: int, program: Any, order: Any, piece_first: Any, piece_count: Any, spent: Any, trace: Any,
    traced: Any, core: int, go: int, stride: int, wanted: int,
) -> int:  # fmt: skip
    """Run a core until it can do nothing before its next barrier or exchange. With ``go`` >= 0 that one starts then.
    A core alone also stops where the piece ``wanted`` begins, ``stride`` instructions or more after it was called, or
    any piece behind four times as many."""
    _dispatch(s, program, order, piece_first, piece_count)
    for c in range(N):
        _head(s, c, program)
    if go >= 0 and s[TIME + SYS] < go:
        s[TIME + SYS] = go
        s[WHY + SYS] = _OWN
    position, left = s[POS], stride
    while True:
        best, start = 0, s[TIME]
        for c in range(1, N):
            if s[TIME + c] < start:
                best, start = c, s[TIME + c]
        if start >= NEVER:
            for c in range(N):
                if s[PUSHED + c] > s[STARTED + c]:
                    return STUCK
            return FINISHED if s[POS] >= len(order) else STUCK
        row = program[s[QUEUE_INDEX + best * DEPTH + (s[STARTED + best] & (DEPTH - 1))]]
        if best == SYS and row.sync:
            if go < 0:
                s[BEFORE_SYNC] = start
                return AT_SYNC
            go = -1
        end, fits = _start(s, best, program, spent)
        if not fits:
            return OVERFLOW
        if trace.shape[1]:
            _note(trace, traced, core, best, row, start, end)
        _next_heads(s, best, program)
        if s[STALLED] == best:
            woken = _dispatch(s, program, order, piece_first, piece_count)
            if woken:
                for c in range(N):
                    if woken >> c & 1:
                        _head(s, c, program)
        if cores == 1:
            at = s[POS]
            if left <= 0 and at != position and at < len(order) and (order[at] == wanted or left <= -3 * stride):
                return CROSSED
            position = at
            left -= 1


@_loop
def _round(
    state: Any, program: Any, orders: Any, order_first: Any, piece_first: Any, piece_count: Any, spent: Any, trace: Any,
    traced: Any, go: int, stride: int, wanted: int,
) -> Any:  # fmt: skip
    """All cores to their next barrier; (how it ended, the core it is about, when the barrier starts or -1)."""
    at_sync, finished, ended = 0, 0, 0
    latest = np.int64(0)
    for core in range(state.shape[0]):
        order = orders[order_first[core] : order_first[core + 1]]
        done = _advance(
            state[core], state.shape[0], program, order, piece_first, piece_count, spent[core], trace, traced, core, go,
            stride, wanted,
        )  # fmt: skip
        if done in (STUCK, OVERFLOW):
            return done, core, go
        if done == AT_SYNC:
            at_sync += 1
            latest = max(latest, state[core, BEFORE_SYNC])
        elif done == FINISHED:
            finished += 1
            ended = core
    if finished == state.shape[0]:
        return FINISHED, 0, go
    if at_sync and finished:
        return ALONE, ended, go
    return CROSSED, 0, latest if at_sync else np.int64(-1)


@njit(cache=True)
def _snapshot(state: Any, into: Any) -> int:
    """Write what the future depends on but for FRONT, relative to now; numbers written, or 0 where tokens are too many.

    What lies before now does not matter any more, only that it does: nothing starts before now. That holds for starts
    too, as the dispatcher has stopped at a queue that frees a place now or later.
    """
    n = 0
    for core in range(state.shape[0]):
        s = state[core]
        now = s[NOW]
        into[n] = s[NEXT]
        into[n + 1] = now - state[0, NOW]
        into[n + 2] = max(s[DISPATCHED_AT] + s[ISSUE] - now, -1)
        into[n + 3] = max(s[WIDE] - now, -1)
        into[n + 4] = max(s[MOST] - now, -1)
        n += 5
        for channel in range(CHANNEL, ROOM):
            into[n] = max(s[channel] - now, -1)
            n += 1
        for c in range(N):
            into[n] = max(s[FREE + c] - now, -1)
            into[n + 1] = max(s[IN_ORDER_END + c] - now, -1)
            into[n + 2] = s[PUSHED + c] - s[STARTED + c]
            n += 3
            for item in range(s[STARTED + c], s[PUSHED + c]):
                into[n] = s[QUEUE_INDEX + c * DEPTH + (item & (DEPTH - 1))]
                into[n + 1] = max(s[QUEUE_TIME + c * DEPTH + (item & (DEPTH - 1))] - now, -1)
                n += 2
        held = 0
        for pair in range(N * N):
            if s[PUT + pair] == s[TAKEN + pair]:
                continue
            into[n] = pair
            into[n + 1] = s[PUT + pair] - s[TAKEN + pair]
            n += 2
            held += s[PUT + pair] - s[TAKEN + pair]
            if held > TOKENS:
                return 0
            for item in range(s[TAKEN + pair], s[PUT + pair]):
                into[n] = max(s[TOKEN_TIME + pair * RING + (item & (RING - 1))] - now, -1)
                into[n + 1] = s[TOKEN_LIMIT + pair * RING + (item & (RING - 1))]
                n += 2
    return n


@njit(cache=True)
def _digest(numbers: Any) -> Any:
    found = np.int64(1469598103934665603)
    for number in numbers:
        found = (found ^ number) * np.int64(1099511628211)
        found ^= found >> 29
    return found


@njit(cache=True)
def _times(state: Any, places: Any, orders: Any, order_first: Any) -> int:
    """How often the stretch from ``places`` to the cores' own comes again, as far as the orders say."""
    times = 1 << 30
    for core in range(state.shape[0]):
        old, here = places[core], state[core, POS]
        period = here - old
        if period == 0:
            return 0
        last = order_first[core + 1] - order_first[core]
        same = 0
        while here + same < last and (
            orders[order_first[core] + here + same] == orders[order_first[core] + old + same % period]
        ):
            same += 1
        times = min(times, (same - 1) // period)  # the piece where it goes on is the same one again
    return times


@njit(cache=True)
def _shift(state: Any, ticks: int, times: int, places: Any, fronts: Any) -> None:
    """Move all cores ``times`` periods on; a front that did not move stays."""
    for core in range(state.shape[0]):
        s = state[core]
        s[POS] += times * (s[POS] - places[core])
        for item in (DISPATCHED_AT, NOW, LAST_END, BEFORE_SYNC, WIDE, MOST):
            s[item] += ticks
        if s[FRONT] != fronts[core]:
            s[FRONT] += ticks
        s[FREE : FREE + 2 * N] += ticks
        s[CHANNEL:ROOM] += ticks
        s[QUEUE_TIME:TOKEN_LIMIT] += ticks


@njit(cache=True)
def _same(state: Any, here: Any, size: int, kept: Any, kept_size: int, fronts: Any, ticks: int) -> bool:
    """Whether the state is the kept one, ``ticks`` later; a front that did not move says nothing."""
    if size != kept_size:
        return False
    for core in range(state.shape[0]):
        if state[core, FRONT] != fronts[core] and state[core, FRONT] != fronts[core] + ticks:
            return False
    return np.array_equal(here[:size], kept[:size])


@njit(cache=True)
def run(
    state: Any, orders: Any, order_first: Any, piece_first: Any, piece_count: Any, program: Any, spent: Any, trace: Any,
    traced: Any, repeat: bool,
) -> Any:  # fmt: skip
    """Run all cores to their ends; (how it ended, the core that did not).

    With ``repeat``, states at barriers (on one core, where a piece begins) are looked at, ``STRIDE`` instructions apart
    or more. One whose digest was there before is kept; when it comes again, number for number, and the order of pieces
    goes on as it did from it, whole periods are skipped. The states are complete, so the result is the same.
    """
    cores = state.shape[0]
    stride = STRIDE if repeat else 1 << 60
    width = cores * (5 + ROOM - CHANNEL + N * (3 + 2 * DEPTH) + 2 * N * N + 2 * TOKENS) if repeat else 0
    here, kept = np.zeros(width, np.int64), np.zeros(width, np.int64)
    seen = np.zeros((SEEN if repeat else 0, 2), np.int64)
    places, fronts = np.zeros(cores, np.int64), np.zeros(cores, np.int64)
    before = np.zeros_like(spent) if repeat else spent[:0]
    kept_size, kept_digest, kept_at, deadline = 0, np.int64(0), np.int64(0), 0
    go, looks, started, position = np.int64(-1), 0, np.int64(0), np.int64(-1)
    wanted = np.int64(-1)
    while True:
        done, core, go = _round(
            state, program, orders, order_first, piece_first, piece_count, spent, trace, traced, go, stride,
            wanted,
        )
        if done != CROSSED:
            return done, core
        if not repeat or state[0, STARTED : STARTED + N].sum() < started + STRIDE or state[0, POS] == position:
            continue
        started, position = state[0, STARTED : STARTED + N].sum(), state[0, POS]
        wanted = orders[order_first[0] + min(position, order_first[1] - order_first[0] - 1)]
        looks += 1
        size = _snapshot(state, here)
        digest = _digest(here[:size])
        ticks = state[0, NOW] - kept_at
        if kept_size and digest == kept_digest and _same(state, here, size, kept, kept_size, fronts, ticks):
            times = _times(state, places, orders, order_first)
            if times > 0:
                _shift(state, times * ticks, times, places, fronts)
                spent += times * (spent - before)
                if go >= 0:
                    go += times * ticks
                position = state[0, POS]
            kept_size = 0
            continue
        place = digest & (SEEN - 1)
        if size and (not kept_size or looks > deadline) and seen[place, 0] == digest and seen[place, 1]:
            kept[:size] = here[:size]
            kept_size, kept_digest, kept_at = size, digest, state[0, NOW]
            places[:], fronts[:] = state[:, POS], state[:, FRONT]
            before[:] = spent
            deadline = looks + 2 * (looks - seen[place, 1])
        seen[place, 0], seen[place, 1] = digest, looks
