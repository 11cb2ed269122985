"""Discrete-event execution of a program: one in-order queue a class, ordered by tokens.

An instruction starts when its queue is free and every token it waits for has been released; it takes its duration;
then it releases its tokens. Tokens between two classes are first in, first out. With these rules the times do not
depend on the order in which the simulator visits the queues, so each queue runs as far as its tokens allow, and a
program may be run piece by piece as long as no piece waits for a token of a later one.
"""

import functools
from typing import Any

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES, Ints

Floats = NDArray[np.float64]

_RING = 1 << 10
_DIGITS = 12
_DONE, _STUCK, _FULL = -1, 0, 1
_loop = njit(cache=True, _nrt=False)  # nothing is allocated, and counting references takes time


class Layer(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A piece of a program by queues: masks and durations of each class's instructions, in the order of ``CLASSES``."""

    wait: tuple[NDArray[np.uint8], ...]
    release: tuple[NDArray[np.uint8], ...]
    duration: tuple[Floats, ...]

    @functools.cached_property
    def counts(self) -> Ints:
        """Instructions of each class."""
        return np.array([len(column) for column in self.wait], np.int64)

    @functools.cached_property
    def columns(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Floats]:
        """Masks and durations, one class behind the other."""
        return np.concatenate(self.wait), np.concatenate(self.release), np.concatenate(self.duration)

    @functools.cached_property
    def busy(self) -> Floats:
        """Sum of the durations of each class."""
        return np.array([column.sum() for column in self.duration])


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one run, in the unit of the durations.

    ``busy`` and ``count`` by class; ``ends`` is when each piece of the order was finished; ``starts`` of every
    instruction by class, where asked for.
    """

    total: float
    busy: dict[str, float]
    count: dict[str, int]
    ends: Floats
    starts: dict[str, Floats]

    @property
    def shares(self) -> dict[str, float]:
        """Busy time of each class over the total."""
        return {kind: value / self.total for kind, value in self.busy.items()}


def execute(layers: tuple[Layer, ...], order: Ints, with_starts: bool = False) -> Execution:
    """Run ``layers`` in ``order``; a program that cannot finish, or leaves tokens over, is an InputError.

    A piece that starts in a state seen before (queues and tokens alike, relative to the latest queue) takes what it
    took then: 32 equal blocks cost little more than one. ``execute_fully`` runs every instruction.
    """
    if not with_starts:
        found = _execute_by_state(layers, order)
        if found is not None:
            return found
    return execute_fully(layers, order, with_starts)


def execute_fully(
    layers: tuple[Layer, ...], order: Ints, with_starts: bool = False, whole: bool = True
) -> Execution:  # fmt: skip
    """As ``execute``, every instruction of every piece run; unless ``whole``, tokens may be left over."""
    classes = len(CLASSES)
    counts = np.stack([layer.counts for layer in layers], axis=1)
    firsts = np.cumsum(counts.ravel()).reshape(counts.shape) - counts
    columns = [
        np.concatenate([getattr(layer, name)[c] for c in range(classes) for layer in layers])
        for name in ("wait", "release", "duration")
    ]
    totals = counts[:, order].sum(axis=1)
    starts = np.zeros(int(totals.sum()) if with_starts else 0)
    starts_at = np.cumsum(totals) - totals
    state = _State.empty()
    ends, stuck, done, reason = _run(
        *columns, firsts, counts, order, starts, starts_at, with_starts, state.free, state.ring, state.put, state.taken
    )
    if stuck >= 0:
        number, kind = int(done[stuck]), CLASSES[stuck]
        why = "waits for a token that never comes" if reason == _STUCK else f"releases more than {_RING} tokens ahead"
        raise InputError(f"a program must run to its end, but {kind} number {number} {why}")
    by_class = {
        kind: starts[at : at + n] for kind, at, n in zip(CLASSES, starts_at, totals, strict=True) if with_starts
    }
    if not whole:
        state.taken[:] = state.put
    return _result(layers, order, state, ends, by_class)


def _result(
    layers: tuple[Layer, ...], order: Ints, state: "_State", ends: Floats, starts: dict[str, Floats]
) -> Execution:  # fmt: skip
    left = state.put - state.taken
    if left.any():
        one, other = (int(index) for index in np.argwhere(left)[0])
        text = f"{left[one, other]} from {CLASSES[one]} to {CLASSES[other]}"
        raise InputError(f"every released token must be awaited, but a program leaves {text}")
    uses = np.bincount(order, minlength=len(layers))
    busy = dict(zip(CLASSES, (uses @ np.stack([layer.busy for layer in layers])).tolist(), strict=True))
    count = dict(zip(CLASSES, (uses @ np.stack([layer.counts for layer in layers])).tolist(), strict=True))
    return Execution(total=float(state.free.max()), busy=busy, count=count, ends=ends, starts=starts)


class _State(msgspec.Struct):
    """When each queue is free, and the tokens between two classes: a ring, how many were put and how many taken."""

    free: Floats
    ring: Floats
    put: Ints
    taken: Ints

    @staticmethod
    def empty() -> "_State":
        n = len(CLASSES)
        return _State(np.zeros(n), np.zeros((n, n, _RING)), np.zeros((n, n), np.int64), np.zeros((n, n), np.int64))

    def relative(self, reference: float) -> Floats:
        """Queues and tokens relative to ``reference``, as ``_write`` puts them."""
        room = np.empty(len(self.free) + 2 * self.put.size + int((self.put - self.taken).sum()))
        return room[: _write(self.free, self.ring, self.put, self.taken, reference, room)]

    def become(self, numbers: Floats) -> None:
        """Be what ``relative`` said."""
        _read(numbers, self.free, self.ring, self.put, self.taken)


@_loop
def _write(free: Any, ring: Any, put: Any, taken: Any, reference: float, into: Any) -> int:
    """Each queue's time; then of each pair of classes with tokens its number, how many, and their times."""
    n = 0
    for c in range(len(free)):
        into[n] = free[c] - reference
        n += 1
    for one in range(len(free)):
        for other in range(len(free)):
            if put[one, other] == taken[one, other]:
                continue
            into[n] = one * len(free) + other
            into[n + 1] = put[one, other] - taken[one, other]
            n += 2
            for item in range(taken[one, other], put[one, other]):
                into[n] = ring[one, other, item % _RING] - reference
                n += 1
    return n


@_loop
def _read(numbers: Any, free: Any, ring: Any, put: Any, taken: Any) -> None:
    for one in range(len(free)):
        free[one] = numbers[one]
        for other in range(len(free)):
            put[one, other] = 0
            taken[one, other] = 0
    n = len(free)
    while n < len(numbers):
        one, other = int(numbers[n]) // len(free), int(numbers[n]) % len(free)
        put[one, other] = int(numbers[n + 1])
        for item in range(put[one, other]):
            ring[one, other, item] = numbers[n + 2 + item]
        n += 2 + put[one, other]


def _execute_by_state(layers: tuple[Layer, ...], order: Ints) -> Execution | None:
    """Piece by piece, each pair of piece and starting state once; None if a piece needs a token of a later one."""
    states = [np.zeros(len(CLASSES))]
    known = {_key(states[0]): 0}
    steps: dict[tuple[int, int], tuple[float, float, int]] = {}
    state, now = 0, 0.0
    ends = np.zeros(len(order))
    lengths = np.stack([layer.counts for layer in layers])
    unused = lengths[order].sum(axis=0) == 0
    run = _State.empty()
    for position, index in enumerate(order.tolist()):
        step = steps.get((index, state))
        if step is None:
            run.become(states[state])
            end = _run_piece(layers[index], run)
            if end is None:
                return None
            latest = float(run.free.max())
            run.free[unused] = latest  # says nothing, but would make equal states differ
            after = run.relative(latest)
            number = known.setdefault(_key(after), len(states))
            if number == len(states):
                states.append(after)
            step = steps[index, state] = end, latest, number
        ends[position] = now + step[0]
        now += step[1]
        state = step[2]
    run.become(states[state])
    run.free += now
    return _result(layers, order, run, ends, {})


def _key(state: Floats) -> bytes:
    """``state`` to 12 digits, so that rounding does not make equal states differ."""
    return (np.round(state, _DIGITS) + 0.0).tobytes()


def _run_piece(layer: Layer, state: _State) -> float | None:
    """Run one piece from ``state``, which becomes the state after it; when its last instruction ends, or None."""
    counts = layer.counts.reshape(-1, 1)
    firsts = np.cumsum(counts).reshape(counts.shape) - counts
    ends, stuck, _, _ = _run(
        *layer.columns, firsts, counts, np.zeros(1, np.int64), np.zeros(0), np.zeros(len(CLASSES), np.int64), False,
        state.free, state.ring, state.put, state.taken,
    )  # fmt: skip
    return None if stuck >= 0 else float(ends[0])


@_loop
def _start(c: int, mask: int, start: float, ring: Any, put: Any, taken: Any) -> Any:
    """When an instruction of class ``c`` that waits as ``mask`` says can start; infinity while a token is missing."""
    classes = len(put)
    for p in range(classes - 1):
        if mask >> (classes - 2 - p) & 1:
            other = p if p < c else p + 1
            if taken[other, c] == put[other, c]:
                return np.inf
            start = max(start, ring[other, c, taken[other, c] % _RING])
    return start


@_loop
def _has_room(c: int, mask: int, put: Any, taken: Any) -> bool:
    """Whether the rings hold the tokens that class ``c`` releases as ``mask`` says."""
    classes = len(put)
    room = True
    for p in range(classes - 1):
        if mask >> (classes - 2 - p) & 1:
            other = p if p < c else p + 1
            room &= put[c, other] - taken[c, other] < _RING
    return room


@_loop
def _pass_on(c: int, wait: int, release: int, end: float, ring: Any, put: Any, taken: Any) -> None:
    """Take the tokens that an instruction waited for, and release its own at ``end``."""
    classes = len(put)
    for p in range(classes - 1):
        other = p if p < c else p + 1
        if wait >> (classes - 2 - p) & 1:
            taken[other, c] += 1
        if release >> (classes - 2 - p) & 1:
            ring[c, other, put[c, other] % _RING] = end
            put[c, other] += 1


@njit(cache=True)
def _run(
    wait: Any, release: Any, duration: Any, firsts: Any, counts: Any, order: Any, starts: Any, starts_at: Any,
    with_starts: bool, free: Any, ring: Any, put: Any, taken: Any,
) -> Any:  # fmt: skip
    """The loop over queues. Bit 4 - p of a mask is the p-th of the other classes."""
    classes = firsts.shape[0]
    pieces = order.shape[0]
    piece = np.zeros(classes, np.int64)
    at = np.zeros(classes, np.int64)
    done = np.zeros(classes, np.int64)
    ends = np.full(pieces, -np.inf)
    reason = _DONE
    progress = True
    while progress:
        progress = False
        for c in range(classes):
            while piece[c] < pieces:
                layer = order[piece[c]]
                if at[c] >= counts[c, layer]:
                    piece[c] += 1
                    at[c] = 0
                    continue
                index = firsts[c, layer] + at[c]
                mask, grant = wait[index], release[index]
                start = _start(c, mask, free[c], ring, put, taken) if mask else free[c]
                if start == np.inf:
                    reason = _STUCK
                    break
                if grant and not _has_room(c, grant, put, taken):
                    reason = _FULL
                    break
                end = start + duration[index]
                if mask or grant:
                    _pass_on(c, mask, grant, end, ring, put, taken)
                if with_starts:
                    starts[starts_at[c] + done[c]] = start
                free[c] = end
                ends[piece[c]] = max(ends[piece[c]], end)
                at[c] += 1
                done[c] += 1
                progress = True
    stuck = -1
    for c in range(classes):
        if piece[c] < pieces and stuck < 0:
            stuck = c
    return ends, stuck, done, reason
