"""Fronts: the rows that no other row beats in every objective, with or without doubt about the values."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.accelerator import accelerator_named
from mixflight.sweeping.fields import numbers, symbol
from mixflight.sweeping.quantities import ESTIMATED, Slack
from mixflight.sweeping.space import Space, column

Row = Mapping[str, Any]
Floats = NDArray[np.float64]
_PRUNE_AT = 4096


class Front:
    """Rows that may be on the front, kept while rows stream in; the result does not depend on their order.

    With ``slack`` a row goes only where another one is better for certain, whatever the engine says within the slack;
    without it values are taken as they are. There is one front for each combination of values of the space's ``by``.
    """

    def __init__(self, space: Space, slack: Slack | None = None) -> None:
        self.space, self.slack = space, slack
        # Constraints without estimates were checked before the row was made.
        self.doubtful = [item for item in space.comparisons() if item.symbols() & set(ESTIMATED)]
        self.fields: dict[str, dict[str, float]] = {}
        self.names = list(space.objectives)
        self.signs = np.array([1.0 if space.objectives[name] == "min" else -1.0 for name in self.names])
        self.groups: dict[tuple[Any, ...], list[tuple[int, tuple[float, ...], tuple[float, ...], bool]]] = {}
        self.full: dict[tuple[Any, ...], int] = {}

    def add(self, row: Row) -> None:
        """Take ``row`` into account; one with an error, without an objective or surely not feasible is left out."""
        if row.get("error") or any(row.get(name) is None for name in self.names):
            return
        bands = self._bands(row)
        if self.slack is None:
            if not row["feasible"]:
                return
            certain = True
        else:
            known = self._known(row)
            if not all(item.may_hold(known, bands) for item in self.doubtful):
                return
            certain = all(item.surely_holds(known, bands) for item in self.doubtful)
        best, worst = [], []
        for name, sign in zip(self.names, self.signs, strict=True):
            ends = bands.get(name, (row[name], row[name]))
            low, high = sorted(sign * end for end in ends)
            best.append(low)
            worst.append(high)
        key = tuple(row[column(path)] for path in self.space.by)
        group = self.groups.setdefault(key, [])
        group.append((int(row["index"]), tuple(best), tuple(worst), certain))
        if len(group) >= max(_PRUNE_AT, 2 * self.full.get(key, 0)):
            self._prune(key)

    def _known(self, row: Row) -> dict[str, float]:
        """Numbers by symbol: the row's columns before the fields of its machine."""
        arch = str(row.get("arch", self.space.arch))
        if arch not in self.fields:
            lengths = {f"scenario_{key}": value for key, value in msgspec.structs.asdict(self.space.scenario).items()}
            self.fields[arch] = {**dict(numbers(msgspec.to_builtins(accelerator_named(arch)))), **lengths}
        own = {symbol(key): value for key, value in row.items() if isinstance(value, int | float)}
        return {**self.fields[arch], **own}

    def _bands(self, row: Row) -> dict[str, tuple[float, float]]:
        if self.slack is None:
            return {}
        return {name: self.slack.band(kind, row[name]) for name, kind in ESTIMATED.items() if row.get(name) is not None}

    def _prune(self, key: tuple[Any, ...]) -> None:
        group = self.groups[key]
        best = np.array([item[1] for item in group])
        worst = np.array([item[2] for item in group])
        certain = np.array([item[3] for item in group])
        kept = not_beaten(best, worst[certain])
        self.groups[key] = [item for item, stays in zip(group, kept, strict=True) if stays]
        self.full[key] = len(self.groups[key])

    @property
    def size(self) -> int:
        """Points kept so far, some of which others beat."""
        return sum(len(group) for group in self.groups.values())

    def indices(self) -> list[int]:
        """Points that may be on a front, in order."""
        for key in self.groups:
            self._prune(key)
        return sorted(item[0] for group in self.groups.values() for item in group)


def not_beaten(best: Floats, rivals_worst: Floats) -> NDArray[np.bool_]:
    """Which of ``best`` [n, objectives], to be minimised, no rival beats for certain: is at most as large in all and
    smaller in one even at its worst."""
    kept = np.ones(len(best), dtype=bool)
    if not len(rivals_worst):
        return kept
    order = np.lexsort(rivals_worst.T[::-1])
    rivals = _undominated(rivals_worst[order])
    for start in range(0, len(best), 1024):
        part = best[start : start + 1024, None, :]
        beaten = (rivals[None] <= part).all(axis=2) & (rivals[None] < part).any(axis=2)
        kept[start : start + 1024] = ~np.any(beaten, axis=1)
    return kept


def _undominated(points: Floats) -> Floats:
    """The points that no other one equals or beats in all; ``points`` in lexicographic order."""
    kept: list[Floats] = []
    front = np.empty((0, points.shape[1]))
    for point in points:
        if len(front) and (front <= point).all(axis=1).any():
            continue
        kept.append(point)
        front = np.array(kept)
    return front


def front_of(space: Space, rows: Iterable[Row]) -> list[int]:
    """Indices of the rows on a front, values as they are."""
    front = Front(space)
    for row in rows:
        front.add(row)
    return front.indices()


class Leaders:
    """The front of the rows so far with the rows themselves, values as they are: for people who watch a sweep."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.rows: list[dict[str, Any]] = []

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take ``rows`` into account and forget those that are beaten; the first objective's best come first."""
        candidates = [*self.rows, *rows]
        kept = set(front_of(self.space, candidates))
        name, way = next(iter(self.space.objectives.items()))
        sign = 1 if way == "min" else -1
        self.rows = sorted((row for row in candidates if row["index"] in kept), key=lambda row: sign * row[name])
