"""The functional coverage model of a core: points, their crosses and what cannot be reached, from ``model.toml``.

    functional_model   the model
    Counter            counts samples into its bins; ``bins`` says what was reached and what is missing

A *sample* is what one instruction shows: a group and, by point, the name of a bin. A point that says nothing about an
instruction is absent from its sample, and so are its crosses.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Sample(NamedTuple):
    """What one instruction shows of a group: bins by point."""

    group: str
    bins: Mapping[str, str]


class Exclusion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bins in which all points of ``where`` have one of the values given are out of reach, for a ``reason``."""

    where: dict[str, list[str]]
    reason: str

    def holds(self, bins: Mapping[str, str]) -> bool:
        """Whether it speaks of a bin that is so."""
        return all(bins.get(point) in names for point, names in self.where.items())


class Group(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points of one kind of sample, the crosses of them that count, and exclusions."""

    name: str
    meaning: str
    points: dict[str, list[str]]
    crosses: list[list[str]] = []
    excluded: list[Exclusion] = []


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All groups."""

    group: list[Group]


class Bins(msgspec.Struct, frozen=True, kw_only=True):
    """A point, a cross or a field: how many bins can be reached, how many were, the names of the others.

    ``excluded`` counts bins by the reason why they cannot be reached; ``unexpected`` are excluded and were reached, so
    the rule is wrong.
    """

    group: str
    name: str
    reachable: int
    covered: int
    holes: list[str]
    excluded: dict[str, int]
    unexpected: list[str]


@functools.cache
def functional_model() -> Model:
    """The model of ``model.toml``; one that names what it does not have is an InputError."""
    path = Path(__file__).with_name("model.toml")
    model = convert(read_toml(path), Model, path.name)
    for group in model.group:
        for where in [*group.crosses, *(item.where for item in group.excluded)]:
            unknown = [name for name in where if name not in group.points]
            if unknown:
                raise InputError(f"points of {group.name} must be among {', '.join(group.points)}, not "
                                 f"{', '.join(unknown)}, in {path.name}")  # fmt: skip
        for item in group.excluded:
            for point, names in item.where.items():
                other = [name for name in names if name not in group.points[point]]
                if other:
                    raise InputError(f"bins of {point} must be among {', '.join(group.points[point])}, not "
                                     f"{', '.join(other)}, in {path.name}")  # fmt: skip
    return model


class Counter:
    """Samples counted into the bins of ``model``; ``more`` exclusions by group are a machine's own."""

    def __init__(self, model: Model, more: Mapping[str, Sequence[Exclusion]] | None = None) -> None:
        self._groups = {group.name: group for group in model.group}
        self._more = dict(more or {})
        self._seen: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], int]] = {
            (group.name, points): {} for group in model.group for points in _crosses(group)
        }

    def add(self, samples: Iterable[Sample]) -> None:
        """Count; a bin that the model does not have is an InputError."""
        for sample in samples:
            group = self._groups[sample.group]
            for point, name in sample.bins.items():
                if name not in group.points[point]:
                    raise InputError(f"a bin of {group.name}, {point}, must be one of "
                                     f"{', '.join(group.points[point])}, not {name}")  # fmt: skip
            for points in _crosses(group):
                if all(point in sample.bins for point in points):
                    key, seen = tuple(sample.bins[point] for point in points), self._seen[group.name, points]
                    seen[key] = seen.get(key, 0) + 1

    def bins(self) -> list[Bins]:
        """Of every point and cross what was reached."""
        return [self._bins(group, points) for group in self._groups.values() for points in _crosses(group)]

    def _bins(self, group: Group, points: tuple[str, ...]) -> Bins:
        seen = self._seen[group.name, points]
        holes, unexpected, excluded, covered = [], [], dict[str, int](), 0
        rules = [*self._more.get(group.name, ()), *group.excluded]
        for key in itertools.product(*(group.points[point] for point in points)):
            where = dict(zip(points, key, strict=True))
            reason = next((rule.reason for rule in rules if rule.holds(where)), None)
            name = ", ".join(f"{point} {value}" for point, value in where.items())
            if reason is not None:
                excluded[reason] = excluded.get(reason, 0) + 1
                unexpected += [name] if key in seen else []
            elif key in seen:
                covered += 1
            else:
                holes.append(name)
        return Bins(group=group.name, name=" x ".join(points), reachable=covered + len(holes), covered=covered,
                    holes=holes, excluded=excluded, unexpected=unexpected)  # fmt: skip


def _crosses(group: Group) -> Iterator[tuple[str, ...]]:
    """Each point alone, then the crosses."""
    yield from ((point,) for point in group.points)
    yield from (tuple(points) for points in group.crosses)
