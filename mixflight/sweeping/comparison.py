"""Constraints: comparisons of two expressions over named quantities."""

import itertools
import operator
import re
from collections.abc import Callable, Mapping

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.expression import Expression, Number, parse

_OPERATORS: dict[str, Callable[[Number, Number], bool]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_SPLIT = re.compile(r"<=|>=|==|<|>")


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """``left OP right``, as ``text`` says."""

    text: str
    sign: str
    left: Expression
    right: Expression

    @staticmethod
    def parse(text: str) -> "Comparison":
        """The comparison ``text``; anything but one sign between two expressions is an InputError."""
        found = _SPLIT.findall(text)
        if len(found) != 1:
            raise InputError(f"a constraint must be two expressions with one of {', '.join(_OPERATORS)}, not {text!r}")
        left, right = _SPLIT.split(text)
        return Comparison(text=text, sign=found[0], left=parse(left.strip()), right=parse(right.strip()))

    def symbols(self) -> set[str]:
        """Names in either expression."""
        return self.left.symbols() | self.right.symbols()

    def holds(self, values: Mapping[str, Number]) -> bool:
        """Whether it is so."""
        return _OPERATORS[self.sign](self.left.value(values), self.right.value(values))

    def may_hold(self, values: Mapping[str, Number], bands: Mapping[str, tuple[Number, Number]]) -> bool:
        """Whether it is so at a corner of the ``bands`` that some of the quantities have; the others are exact."""
        names = [name for name in self.symbols() if name in bands]
        corners = itertools.product(*(bands[name] for name in names))
        return any(self.holds({**values, **dict(zip(names, corner, strict=True))}) for corner in corners)

    def surely_holds(self, values: Mapping[str, Number], bands: Mapping[str, tuple[Number, Number]]) -> bool:
        """Whether it is so at every corner of the bands."""
        names = [name for name in self.symbols() if name in bands]
        corners = itertools.product(*(bands[name] for name in names))
        return all(self.holds({**values, **dict(zip(names, corner, strict=True))}) for corner in corners)
