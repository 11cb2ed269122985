"""Counts of (component, action): what a run did, to be priced."""

from collections.abc import Iterator, Mapping

import msgspec


class Activity(msgspec.Struct, frozen=True):
    """Cycles and action counts of a run; activities add up."""

    cycles: float
    counts: dict[tuple[str, str], float]

    def scaled(self, times: float) -> "Activity":
        """The activity of ``times`` such runs."""
        return Activity(self.cycles * times, {key: value * times for key, value in self.counts.items()})

    @staticmethod
    def total(parts: "Iterator[Activity] | list[Activity]") -> "Activity":
        """The sum of ``parts``, one after the other."""
        cycles = 0.0
        counts: dict[tuple[str, str], float] = {}
        for part in parts:
            cycles += part.cycles
            _add(counts, part.counts)
        return Activity(cycles, counts)


def _add(into: dict[tuple[str, str], float], counts: Mapping[tuple[str, str], float]) -> None:
    for key, value in counts.items():
        into[key] = into.get(key, 0.0) + value
