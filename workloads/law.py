"""Laws: what depends on data, stated as numbers with a seed, so that a run can be repeated."""

import csv
import functools
import math
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError


class _Law(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="law"):
    seed: int = 0


class Constant(_Law, frozen=True, kw_only=True, tag="constant"):
    """Always ``value``. A bare number in a recipe means this."""

    value: float

    def mean(self, x: float = 0.0) -> float:
        """The expected value."""
        return self.value

    def draw(self, generator: np.random.Generator, x: float = 0.0) -> float:
        """A value."""
        return self.value


class Table(_Law, frozen=True, kw_only=True, tag="table"):
    """A function of ``x`` (a length, a layer, a step): ``points`` [x, value], linear between them in x or in log2 x."""

    points: tuple[tuple[float, float], ...]
    scale: Literal["linear", "log2"] = "linear"

    def __post_init__(self) -> None:
        xs = [x for x, _ in self.points]
        if not xs or xs != sorted(set(xs)) or (self.scale == "log2" and xs[0] <= 0):
            raise ValueError("the points of a table must have ascending x (greater than 0 for log2)")

    def mean(self, x: float = 0.0) -> float:
        """The value at ``x``; beyond the points that of the nearest."""
        xs, ys = zip(*self.points, strict=True)
        if self.scale == "log2":
            return float(np.interp(math.log2(max(x, xs[0])), np.log2(xs), ys))
        return float(np.interp(x, xs, ys))

    def draw(self, generator: np.random.Generator, x: float = 0.0) -> float:
        """The same: a table has no chance in it."""
        return self.mean(x)


class Geometric(_Law, frozen=True, kw_only=True, tag="geometric"):
    """Successes in a row, each with probability ``p``, at most ``most``, plus one: a chain of accepted drafts."""

    p: float
    most: int

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1 or self.most < 0:
            raise ValueError(f"p must lie in 0..1 and most be at least 0, not {self.p} and {self.most}")

    def mean(self, x: float = 0.0) -> float:
        """1 + p + p^2 + ... + p^most."""
        return sum(self.p**power for power in range(self.most + 1))

    def draw(self, generator: np.random.Generator, x: float = 0.0) -> float:
        """One run's length."""
        misses = generator.random(self.most) >= self.p if self.most else np.array([], bool)
        return 1.0 + (int(np.argmax(misses)) if misses.any() else self.most)


class Empirical(_Law, frozen=True, kw_only=True, tag="empirical"):
    """A histogram: ``values`` with ``weights`` (all equal if none are given)."""

    values: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.values or (self.weights and len(self.weights) != len(self.values)):
            raise ValueError("a histogram must have values, and a weight for each or none")
        if self.weights and (min(self.weights) < 0 or not sum(self.weights)):
            raise ValueError("the weights of a histogram must be at least 0 and not all 0")

    def _shares(self) -> NDArray[np.float64]:
        weights: NDArray[np.float64] = np.array(self.weights or (1.0,) * len(self.values))
        shares: NDArray[np.float64] = weights / weights.sum()
        return shares

    def mean(self, x: float = 0.0) -> float:
        """The mean of the histogram."""
        return float(self._shares() @ np.array(self.values))

    def draw(self, generator: np.random.Generator, x: float = 0.0) -> float:
        """A value by its weight."""
        return float(generator.choice(self.values, p=self._shares()))


class Recorded(_Law, frozen=True, kw_only=True, tag="recorded"):
    """A column of numbers of the CSV file ``file``: value by value in order, from place ``seed`` on, and again from the
    beginning at its end."""

    file: str
    column: str

    def mean(self, x: float = 0.0) -> float:
        """The mean of the column."""
        return float(_column(self.file, self.column).mean())

    def value(self, drawn: int) -> float:
        """The value after ``drawn`` others."""
        column = _column(self.file, self.column)
        return float(column[(self.seed + drawn) % len(column)])


@functools.lru_cache(maxsize=64)
def _column(file: str, column: str) -> NDArray[np.float64]:
    try:
        with Path(file).open(newline="") as text:
            values = np.array([float(row[column]) for row in csv.DictReader(text)])
    except (OSError, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"a recorded law must name a CSV file with numbers in column {column!r}: {file}: {error}"
        ) from None
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"a recorded law must have finite numbers in column {column!r} of {file}")
    return values


Law = float | Constant | Table | Geometric | Empirical | Recorded


def mean(law: Law, x: float = 0.0) -> float:
    """The expected value of ``law`` at ``x``."""
    return float(law) if isinstance(law, int | float) else law.mean(x)


class Draws:
    """Values of a law one after the other, from its seed."""

    def __init__(self, law: Law) -> None:
        self.law, self.drawn = law, 0
        self.generator = np.random.default_rng(0 if isinstance(law, int | float) else law.seed)

    def next(self, x: float = 0.0) -> float:
        """The next value."""
        self.drawn += 1
        if isinstance(self.law, int | float):
            return float(self.law)
        if isinstance(self.law, Recorded):
            return self.law.value(self.drawn - 1)
        return self.law.draw(self.generator, x)
