"""One axis of a space: the values that a field takes."""

from collections.abc import Sequence

import msgspec

from mixflight.arch.errors import InputError

Value = int | float | str
MOST_VALUES = 1_000_000


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"start": "from"}):
    """Numbers ``from`` ... ``to``, both included: ``step`` apart, or each ``factor`` times the one before."""

    start: int | float
    to: int | float
    step: int | float | None = None
    factor: int | float | None = None

    def values(self, name: str) -> tuple[Value, ...]:
        """The numbers; ``name`` is the axis, for errors."""
        if (self.step is None) == (self.factor is None):
            raise InputError(f"a range must have one of step and factor, in axis {name!r}")
        if self.to < self.start:
            raise InputError(f"a range must not be empty: from {self.start} to {self.to}, in axis {name!r}")
        if self.step is not None:
            if self.step <= 0:
                raise InputError(f"step must be positive, not {self.step}, in axis {name!r}")
            count = int((self.to - self.start) / self.step + 1e-9) + 1
            _countable(count, name)
            return tuple(self.start + place * self.step for place in range(count))
        assert self.factor is not None
        if self.factor <= 1 or self.start <= 0:
            raise InputError(f"factor must be above 1 and from above 0, in axis {name!r}")
        found: list[Value] = []
        value = self.start
        while value <= self.to * (1 + 1e-9):
            found.append(value)
            value *= self.factor
            _countable(len(found), name)
        return tuple(found)


def _countable(count: int, name: str) -> None:
    if count > MOST_VALUES:
        raise InputError(f"an axis must have at most {MOST_VALUES:,} values, not more, in axis {name!r}")


def axis_values(given: Sequence[Value] | Range, name: str) -> tuple[Value, ...]:
    """The values of an axis, at least one, none twice."""
    values = given.values(name) if isinstance(given, Range) else tuple(given)
    if not values:
        raise InputError(f"an axis must have at least one value, in axis {name!r}")
    if len(set(values)) < len(values):
        twice = next(value for place, value in enumerate(values) if value in values[:place])
        raise InputError(f"an axis must have each value once, not {twice!r} twice, in axis {name!r}")
    return values
