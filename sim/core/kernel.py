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
"""

from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.core import DEEPEST_QUEUE
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_program import BUFFERS
from mixflight.sim.core.units import CHANNELS, FIELDS, LIMIT, TICKS

N = len(CLASSES)
LD, ST, MM, MV, MISC, SYS = range(N)
RING = 256
DEPTH = DEEPEST_QUEUE  # a power of two
SNAPSHOTS = 24
"""States kept to recognise one that comes again."""
TOKENS = 64
"""Most tokens of a core in a state that is kept."""

# Layout of a core's row of the state.
POS, AT, DISPATCHED_AT, NOW, FRONT, LAST_END, LAST_OP, BEFORE_SYNC = range(8)
FREE = 8
IN_ORDER_END = FREE + N
PUSHED = IN_ORDER_END + N
STARTED = PUSHED + N
CHANNEL = STARTED + N
PORT = CHANNEL + CHANNELS
PUT = PORT + len(BUFFERS)
TAKEN = PUT + N * N
QUEUE_INDEX = TAKEN + N * N
QUEUE_TIME = QUEUE_INDEX + N * DEPTH
START_TIME = QUEUE_TIME + N * DEPTH
TOKEN_TIME = START_TIME + N * DEPTH
TOKEN_LIMIT = TOKEN_TIME + N * N * RING
SIZE = TOKEN_LIMIT + N * N * RING

(KIND, WAIT, RELEASE, OPERATOR, OCCUPANCY, LATENCY, LIMITED, FIRST, WIDTH, INTO, INTO_TIME, SYNC) = range(len(FIELDS))

AT_SYNC, FINISHED, STUCK, OVERFLOW, CROSSED, ALONE = range(6)
NEVER = 1 << 60

_DRAM, _ISSUE, _LATENCY, _PORT = LIMIT["dram"], LIMIT["issue"], LIMIT["latency"], LIMIT["port"]
_OWN = -1


def new_state(cores: int) -> Any:
    """Rows of ``cores`` cores, nothing done."""
    state = np.zeros((cores, SIZE), np.int64)
    state[:, LAST_OP] = -1
    return state


@njit(cache=True)
def _dispatch(s: Any, program: Any, order: Any, first: Any, count: Any, depth: int, issue: int) -> int:
    """Hand out instructions until a queue is full or the program at its end; mask of queues that were empty."""
    woken = 0
    while s[POS] < len(order):
        piece = order[s[POS]]
        if s[AT] >= count[piece]:
            s[POS] += 1
            s[AT] = 0
            continue
        index = first[piece] + s[AT]
        c = program[index, KIND]
        if c < 0:
            s[DISPATCHED_AT] += program[index, OCCUPANCY]
            s[AT] += 1
            continue
        pushed = s[PUSHED + c]
        if pushed - s[STARTED + c] >= depth:
            break
        slot = c * DEPTH + (pushed & (DEPTH - 1))
        time = s[DISPATCHED_AT] + issue
        if pushed >= depth:
            time = max(time, s[START_TIME + c * DEPTH + ((pushed - depth) & (DEPTH - 1))])
        s[DISPATCHED_AT] = time
        s[QUEUE_INDEX + slot] = index
        s[QUEUE_TIME + slot] = time
        if pushed == s[STARTED + c]:
            woken |= 1 << c
        s[PUSHED + c] = pushed + 1
        s[AT] += 1
    return woken


@njit(cache=True)
def _candidate(s: Any, c: int, program: Any, room: Any) -> Any:
    """(Start of the head of queue ``c``, or NEVER; what it waited for last: a limit or _OWN)."""
    started = s[STARTED + c]
    if s[PUSHED + c] == started:
        return NEVER, _OWN
    slot = c * DEPTH + (started & (DEPTH - 1))
    index = s[QUEUE_INDEX + slot]
    start, why = s[FREE + c], _OWN
    if s[QUEUE_TIME + slot] > start:
        start, why = s[QUEUE_TIME + slot], _ISSUE
    mask = program[index, WAIT]
    if mask:
        for p in range(N - 1):
            if mask >> (N - 2 - p) & 1:
                other = p if p < c else p + 1
                pair = other * N + c
                taken = s[TAKEN + pair]
                if taken == s[PUT + pair]:
                    return NEVER, _OWN
                time = s[TOKEN_TIME + pair * RING + (taken & (RING - 1))]
                if time > start:
                    start, why = time, s[TOKEN_LIMIT + pair * RING + (taken & (RING - 1))]
    if c <= ST:
        first = program[index, FIRST]
        for channel in range(first, first + program[index, WIDTH]):
            if s[CHANNEL + channel] > start:
                start, why = s[CHANNEL + channel], _DRAM
        port = program[index, INTO]
        if port >= 0:
            time = s[PORT + port] - room[port]
            if time > start:
                start, why = time, _PORT
    return start, why


@njit(cache=True)
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


@njit(cache=True)
def _start(s: Any, c: int, start: int, why: int, program: Any, spent: Any) -> Any:
    """Start the head of queue ``c``; (end, mask of classes that got a token, whether a ring is full)."""
    started = s[STARTED + c]
    slot = c * DEPTH + (started & (DEPTH - 1))
    index = s[QUEUE_INDEX + slot]
    s[START_TIME + slot] = start
    s[STARTED + c] = started + 1
    s[NOW] = start
    busy = start + program[index, OCCUPANCY]
    latency = program[index, LATENCY]
    end = busy + latency
    own = program[index, LIMITED]
    operator = program[index, OPERATOR]
    first = program[index, FIRST]
    port = program[index, INTO]
    if c <= ST and program[index, WIDTH] > 0:
        for channel in range(first, first + program[index, WIDTH]):
            s[CHANNEL + channel] = busy
        s[FREE + c] = start + TICKS
        if port >= 0:
            done = max(start, s[PORT + port]) + program[index, INTO_TIME]
            s[PORT + port] = done
            end = max(end, done + latency)
    else:
        s[FREE + c] = busy
        if c in (MM, MV):
            s[FREE + MM + MV - c] = max(busy, s[FREE + MM + MV - c])
    end = max(end, s[IN_ORDER_END + c])
    s[IN_ORDER_END + c] = end
    if end >= s[LAST_END]:
        s[LAST_END] = end
        s[LAST_OP] = operator * 16 + (own if c <= ST else _LATENCY)
    if c > ST:
        _account(s, spent, operator, own, why, start, busy)
    mask = program[index, WAIT]
    if mask:
        for p in range(N - 1):
            if mask >> (N - 2 - p) & 1:
                s[TAKEN + (p if p < c else p + 1) * N + c] += 1
    woken, full = 0, False
    grant = program[index, RELEASE]
    if grant:
        for p in range(N - 1):
            if grant >> (N - 2 - p) & 1:
                other = p if p < c else p + 1
                pair = c * N + other
                put = s[PUT + pair]
                if put - s[TAKEN + pair] >= RING:
                    full = True
                s[TOKEN_TIME + pair * RING + (put & (RING - 1))] = end
                s[TOKEN_LIMIT + pair * RING + (put & (RING - 1))] = own + 16 * latency
                s[PUT + pair] = put + 1
                woken |= 1 << other
    return end, woken, full


@njit(cache=True)
def _advance(
    s: Any, cores: int, program: Any, order: Any, piece_first: Any, piece_count: Any, spent: Any, room: Any, depth: int,
    issue: int, trace: Any, traced: Any, core: int, go: int,
) -> int:  # fmt: skip
    """Run a core until it can do nothing before its next barrier or exchange. With ``go`` >= 0 that one starts then."""
    times = np.full(N, NEVER, np.int64)
    whys = np.full(N, _OWN, np.int64)
    dirty = (1 << N) - 1
    position = s[POS]
    while True:
        dirty |= _dispatch(s, program, order, piece_first, piece_count, depth, issue)
        for c in range(N):
            if dirty >> c & 1:
                times[c], whys[c] = _candidate(s, c, program, room)
        dirty = 0
        if go >= 0 and times[SYS] < go:
            times[SYS], whys[SYS] = go, _OWN
        best = 0
        for c in range(1, N):
            if times[c] < times[best]:
                best = c
        start = times[best]
        if start >= NEVER:
            for c in range(N):
                if s[PUSHED + c] > s[STARTED + c]:
                    return STUCK
            return FINISHED if s[POS] >= len(order) else STUCK
        start = max(start, s[NOW])
        why = whys[best]
        index = s[QUEUE_INDEX + best * DEPTH + (s[STARTED + best] & (DEPTH - 1))]
        if best == SYS and program[index, SYNC]:
            if go < 0:
                s[BEFORE_SYNC] = start
                return AT_SYNC
            go = -1
        end, woken, full = _start(s, best, start, why, program, spent)
        if full:
            return OVERFLOW
        if traced[core] < trace.shape[1]:
            row = trace[core, traced[core]]
            row[0], row[1], row[2], row[4] = best, program[index, OPERATOR], start, end
            row[3] = start + program[index, OCCUPANCY]
            traced[core] += 1
        dirty = 1 << best | woken
        if best <= ST:
            dirty |= 1 << LD | 1 << ST
        elif best <= MV:
            dirty |= 1 << MM | 1 << MV
        if cores == 1 and s[POS] != position:
            return CROSSED


@njit(cache=True)
def _snapshot(state: Any, orders: Any, order_first: Any, depth: int, into: Any) -> int:
    """Write what the future depends on, relative to now and to the place in the program; numbers written."""
    n = 0
    for core in range(state.shape[0]):
        s = state[core]
        now = s[NOW]
        at_end = order_first[core] + s[POS] >= order_first[core + 1]
        into[n] = -1 if at_end else orders[order_first[core] + s[POS]]
        into[n + 1] = s[AT]
        into[n + 2] = now - state[0, NOW]
        into[n + 3] = s[DISPATCHED_AT] - now
        into[n + 4] = s[FRONT] - now
        n += 5
        for c in range(N):
            into[n] = max(s[FREE + c] - now, 0)
            into[n + 1] = max(s[IN_ORDER_END + c] - now, 0)
            into[n + 2] = s[PUSHED + c] - s[STARTED + c]
            n += 3
            for item in range(s[STARTED + c], s[PUSHED + c]):
                into[n] = s[QUEUE_INDEX + c * DEPTH + (item & (DEPTH - 1))]
                into[n + 1] = s[QUEUE_TIME + c * DEPTH + (item & (DEPTH - 1))] - now
                n += 2
            for back in range(depth):
                item = s[STARTED + c] - 1 - back
                into[n] = max(s[START_TIME + c * DEPTH + (item & (DEPTH - 1))] - now, -NEVER) if item >= 0 else -NEVER
                n += 1
        for channel in range(CHANNEL, PUT):
            into[n] = max(s[channel] - now, -(1 << 24))
            n += 1
        for pair in range(N * N):
            if s[PUT + pair] == s[TAKEN + pair]:
                continue
            into[n] = pair
            into[n + 1] = s[PUT + pair] - s[TAKEN + pair]
            n += 2
            for item in range(s[TAKEN + pair], s[PUT + pair]):
                into[n] = max(s[TOKEN_TIME + pair * RING + (item & (RING - 1))] - now, 0)
                into[n + 1] = s[TOKEN_LIMIT + pair * RING + (item & (RING - 1))]
                n += 2
    return n


@njit(cache=True)
def _periods(state: Any, places: Any, before: int, taken: int, orders: Any, order_first: Any) -> int:
    """How often the stretch from snapshot ``before`` to ``taken`` comes again, as far as the orders say."""
    times = 1 << 30
    for core in range(state.shape[0]):
        old, here = places[before, core], places[taken, core]
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
def _shift(state: Any, ticks: int, times: int, places: Any, before: int, taken: int) -> None:
    """Move all cores ``times`` periods on."""
    for core in range(state.shape[0]):
        s = state[core]
        s[POS] += times * (places[taken, core] - places[before, core])
        for item in (DISPATCHED_AT, NOW, FRONT, LAST_END, BEFORE_SYNC):
            s[item] += ticks
        s[FREE : FREE + 2 * N] += ticks
        s[CHANNEL:PUT] += ticks
        s[QUEUE_TIME:TOKEN_LIMIT] += ticks


@njit(cache=True)
def run(
    state: Any, orders: Any, order_first: Any, piece_first: Any, piece_count: Any, program: Any, spent: Any, room: Any,
    depth: int, issue: int, trace: Any, traced: Any, repeat: bool,
) -> Any:  # fmt: skip
    """Run all cores to their ends; (how it ended, the core that did not, instructions executed one by one).

    With ``repeat``, when the state at a barrier (or, on one core, at a piece's end) was there before and the order of
    pieces goes on as it did then, whole periods are skipped. The snapshots are complete, so the result is the same.
    """
    cores = state.shape[0]
    go = np.int64(-1)
    taken = 0
    room_for = SNAPSHOTS if repeat else 0
    width = cores * (5 + N * (3 + 3 * depth) + PUT - CHANNEL + 4 * TOKENS)
    snapshots = np.zeros((room_for, width), np.int64)
    sizes = np.zeros(room_for, np.int64)
    places = np.zeros((room_for, cores), np.int64)
    nows = np.zeros(room_for, np.int64)
    totals = np.zeros((room_for, cores, spent.shape[1], spent.shape[2]), np.int64)
    counts = np.zeros((room_for, cores), np.int64)
    last_position = np.int64(-1)
    while True:
        at_sync, finished, ended = 0, 0, 0
        latest = np.int64(0)
        for core in range(cores):
            order = orders[order_first[core] : order_first[core + 1]]
            done = _advance(
                state[core], cores, program, order, piece_first, piece_count, spent[core], room, depth, issue, trace,
                traced, core, go,
            )  # fmt: skip
            if done in (STUCK, OVERFLOW):
                return done, core
            if done == AT_SYNC:
                at_sync += 1
                latest = max(latest, state[core, BEFORE_SYNC])
            elif done == FINISHED:
                finished += 1
                ended = core
        if finished == cores:
            return FINISHED, 0
        if at_sync and finished:
            return ALONE, ended
        go = latest if at_sync else np.int64(-1)
        if taken < room_for and state[0, POS] != last_position:
            last_position = state[0, POS]
            tokens = 0
            for core in range(cores):
                held = 0
                for pair in range(N * N):
                    held += state[core, PUT + pair] - state[core, TAKEN + pair]
                tokens = max(tokens, held)
            if tokens > TOKENS:
                continue
            sizes[taken] = _snapshot(state, orders, order_first, depth, snapshots[taken])
            nows[taken] = state[0, NOW]
            for core in range(cores):
                places[taken, core] = state[core, POS]
                for pair in range(spent.shape[1]):
                    totals[taken, core, pair, :] = spent[core, pair, :]
                for c in range(N):
                    counts[taken, core] += state[core, STARTED + c]
            for before in range(taken - 1, -1, -1):
                if sizes[before] != sizes[taken] or not np.array_equal(
                    snapshots[before, : sizes[before]], snapshots[taken, : sizes[taken]]
                ):
                    continue
                times = _periods(state, places, before, taken, orders, order_first)
                if times > 0:
                    ticks = times * (nows[taken] - nows[before])
                    _shift(state, ticks, times, places, before, taken)
                    for core in range(cores):
                        spent[core] += times * (spent[core] - totals[before, core])
                    if go >= 0:
                        go += ticks
                    taken = -1
                    last_position = state[0, POS]
                break
            taken += 1
            if taken == room_for:
                taken = 0
