"""Discrete-event execution of a program: one in-order queue a class, ordered by tokens.

An instruction starts when its queue is free and every token it waits for has been released; it takes its duration;
then it releases its tokens. Tokens between two classes are first in, first out. With these rules the times do not
depend on the order in which the simulator visits the queues, so each queue runs as far as its tokens allow.
"""

from typing import Any

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASSES, Ints

Floats = NDArray[np.float64]

_RING = 1 << 12
_DONE, _STUCK, _FULL = -1, 0, 1


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a program by queues: masks and durations of each class's instructions, in the order of ``CLASSES``."""

    wait: tuple[NDArray[np.uint8], ...]
    release: tuple[NDArray[np.uint8], ...]
    duration: tuple[Floats, ...]


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
    """Run ``layers`` in ``order``; a program that cannot finish, or leaves tokens over, is an InputError."""
    classes = len(CLASSES)
    counts = np.array([[len(layer.wait[c]) for layer in layers] for c in range(classes)], np.int64)
    firsts = np.cumsum(counts.ravel()).reshape(counts.shape) - counts
    wait, release, duration = (
        np.concatenate([getattr(layer, name)[c] for c in range(classes) for layer in layers] or [np.zeros(0)])
        for name in ("wait", "release", "duration")
    )
    totals = counts[:, order].sum(axis=1)
    starts = np.zeros(int(totals.sum()) if with_starts else 0)
    starts_at = np.cumsum(totals) - totals
    free, busy, ends, left, stuck, done, reason = _run(
        wait, release, duration, firsts, counts, order, starts, starts_at, with_starts
    )
    if stuck >= 0:
        number, kind = int(done[stuck]), CLASSES[stuck]
        why = "waits for a token that never comes" if reason == _STUCK else f"releases more than {_RING} tokens ahead"
        raise InputError(f"a program must run to its end, but {kind} number {number} {why}")
    if left.any():
        one, other = (int(index) for index in np.argwhere(left)[0])
        text = f"{left[one, other]} from {CLASSES[one]} to {CLASSES[other]}"
        raise InputError(f"every released token must be awaited, but a program leaves {text}")
    return Execution(
        total=float(free.max()), ends=ends,
        busy=dict(zip(CLASSES, busy.tolist(), strict=True)), count=dict(zip(CLASSES, totals.tolist(), strict=True)),
        starts={kind: starts[at : at + n] for kind, at, n in zip(CLASSES, starts_at, totals, strict=True)}
        if with_starts else {},
    )  # fmt: skip


@njit(cache=True)
def _run(
    wait: Any, release: Any, duration: Any, firsts: Any, counts: Any, order: Any, starts: Any, starts_at: Any,
    with_starts: bool,
) -> Any:  # fmt: skip
    """The loop over queues. Bit 4 - p of a mask is the p-th of the other classes."""
    classes = firsts.shape[0]
    pieces = order.shape[0]
    ring = np.zeros((classes, classes, _RING))
    put = np.zeros((classes, classes), np.int64)
    taken = np.zeros((classes, classes), np.int64)
    piece = np.zeros(classes, np.int64)
    at = np.zeros(classes, np.int64)
    done = np.zeros(classes, np.int64)
    free = np.zeros(classes)
    busy = np.zeros(classes)
    ends = np.zeros(pieces)
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
                start = free[c]
                blocked = _DONE
                mask = wait[index]
                if mask:
                    for p in range(classes - 1):
                        if mask >> (classes - 2 - p) & 1:
                            other = p if p < c else p + 1
                            if taken[other, c] == put[other, c]:
                                blocked = _STUCK
                                break
                            start = max(start, ring[other, c, taken[other, c] % _RING])
                grant = release[index]
                if grant and blocked == _DONE:
                    for p in range(classes - 1):
                        if grant >> (classes - 2 - p) & 1:
                            other = p if p < c else p + 1
                            if put[c, other] - taken[c, other] >= _RING:
                                blocked = _FULL
                if blocked != _DONE:
                    reason = blocked
                    break
                end = start + duration[index]
                if mask:
                    for p in range(classes - 1):
                        if mask >> (classes - 2 - p) & 1:
                            taken[p if p < c else p + 1, c] += 1
                if grant:
                    for p in range(classes - 1):
                        if grant >> (classes - 2 - p) & 1:
                            other = p if p < c else p + 1
                            ring[c, other, put[c, other] % _RING] = end
                            put[c, other] += 1
                if with_starts:
                    starts[starts_at[c] + done[c]] = start
                free[c] = end
                busy[c] += duration[index]
                ends[piece[c]] = max(ends[piece[c]], end)
                at[c] += 1
                done[c] += 1
                progress = True
    stuck = -1
    for c in range(classes):
        if piece[c] < pieces and stuck < 0:
            stuck = c
    return free, busy, ends, put - taken, stuck, done, reason
