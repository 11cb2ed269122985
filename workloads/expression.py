"""Small arithmetic expressions over a model's symbols, as recipes state the costs of operators.

expression := sums of products of powers of numbers, symbols, calls and parenthesised expressions
operators  := + - * / // % **, comparisons are not there; division by zero is an error
functions  := ceil floor round sqrt log2 (one argument), min max (two or more),
              factor(n)  the larger number of the most square factor pair of n with equal parity
              pow2(n)    the largest power of two that divides n
"""

import functools
import math
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mixflight.arch.errors import InputError

Number = int | float
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_]\w*)|(?P<op>\*\*|//|[-+*/%(),]))"
)


def factor(n: Number) -> int:
    """The larger of the most square pair a * b = n whose sum is even (the rule of FlatQuant's Kronecker factors)."""
    whole = int(n)
    for small in range(math.isqrt(whole), 0, -1):
        if whole % small == 0 and (whole // small - small) % 2 == 0:
            return whole // small
    raise InputError(f"factor(n) must have two factors of equal parity, not {whole}")


def pow2(n: Number) -> int:
    """The largest power of two that divides ``n``."""
    whole = int(n)
    return whole & -whole


_FUNCTIONS: dict[str, tuple[int, Callable[..., Number]]] = {
    "ceil": (1, math.ceil), "floor": (1, math.floor), "round": (1, round), "sqrt": (1, math.sqrt),
    "log2": (1, math.log2), "min": (-2, min), "max": (-2, max), "factor": (1, factor), "pow2": (1, pow2),
}  # fmt: skip


class Expression(NamedTuple):
    """A parsed expression: a number, a symbol, or a call of ``head`` on ``arguments``."""

    head: str
    arguments: "tuple[Expression, ...]" = ()
    number: Number = 0

    def value(self, symbols: Mapping[str, Number]) -> Number:
        """The value for ``symbols``; an unknown symbol or an impossible operation is an InputError."""
        if self.head == "number":
            return self.number
        if not self.arguments:
            if self.head not in symbols:
                raise InputError(f"a symbol must be one of {', '.join(sorted(symbols))}, not {self.head!r}")
            return symbols[self.head]
        values = [argument.value(symbols) for argument in self.arguments]
        try:
            return _apply(self.head, values)
        except (ZeroDivisionError, ValueError, OverflowError) as error:
            raise InputError(f"an expression must have a value, not {self.head} of {values}: {error}") from None

    def symbols(self) -> set[str]:
        """Names of the symbols in it."""
        if self.head == "number":
            return set()
        if not self.arguments:
            return {self.head}
        return set().union(*(argument.symbols() for argument in self.arguments))


_BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b,
    "//": lambda a, b: a // b, "%": lambda a, b: a % b,
}  # fmt: skip


def _apply(head: str, values: list[Number]) -> Number:
    if head == "negative":
        return -values[0]
    if head == "**":
        if abs(values[1]) > 64:
            raise ValueError("an exponent must be at most 64")
        power: Number = values[0] ** values[1]
        return power
    if head in _BINARY:
        return _BINARY[head](values[0], values[1])
    return _FUNCTIONS[head][1](*values)


@functools.lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression ``text``; what is no expression is an InputError that shows where."""
    if len(text) > 500:
        raise InputError(f"an expression must have at most 500 characters, not {len(text)}")
    return _Parser(text).whole()


def evaluate(text: str | Number, symbols: Mapping[str, Number]) -> Number:
    """The value of a number, or of the expression ``text`` for ``symbols``."""
    return parse(text).value(symbols) if isinstance(text, str) else text


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.next = text, 0
        self.tokens: list[tuple[str, str]] = []
        place = 0
        while place < len(text.rstrip()):
            match = _TOKEN.match(text, place)
            if not match:
                self._refuse(text[place:].strip()[:1])
            assert match is not None
            kind = str(match.lastgroup)
            self.tokens.append((kind, match[kind]))
            place = match.end()

    def _refuse(self, found: str) -> None:
        raise InputError(f"an expression must be arithmetic of numbers and symbols, not {self.text!r} at {found!r}")

    def _peek(self) -> str:
        return self.tokens[self.next][1] if self.next < len(self.tokens) else ""

    def _take(self, *wanted: str) -> str:
        if self._peek() not in wanted:
            self._refuse(self._peek() or "its end")
        self.next += 1
        return self.tokens[self.next - 1][1]

    def whole(self) -> Expression:
        found = self._sum()
        if self._peek():
            self._refuse(self._peek())
        return found

    def _sum(self) -> Expression:
        left = self._term()
        while self._peek() in ("+", "-"):
            left = Expression(self._take("+", "-"), (left, self._term()))
        return left

    def _term(self) -> Expression:
        left = self._unary()
        while self._peek() in ("*", "/", "//", "%"):
            left = Expression(self._take("*", "/", "//", "%"), (left, self._unary()))
        return left

    def _unary(self) -> Expression:
        if self._peek() == "-":
            self._take("-")
            return Expression("negative", (self._unary(),))
        base = self._atom()
        if self._peek() == "**":
            self._take("**")
            return Expression("**", (base, self._unary()))
        return base

    def _atom(self) -> Expression:
        if self.next >= len(self.tokens):
            self._refuse("its end")
        kind, text = self.tokens[self.next]
        if kind == "number":
            self.next += 1
            return Expression("number", number=float(text) if re.search(r"[.eE]", text) else int(text))
        if kind == "name":
            self.next += 1
            return self._call(text) if self._peek() == "(" else Expression(text)
        self._take("(")
        inner = self._sum()
        self._take(")")
        return inner

    def _call(self, name: str) -> Expression:
        if name not in _FUNCTIONS:
            raise InputError(f"a function must be one of {', '.join(_FUNCTIONS)}, not {name!r}")
        self._take("(")
        arguments = [self._sum()]
        while self._peek() == ",":
            self._take(",")
            arguments.append(self._sum())
        self._take(")")
        count = _FUNCTIONS[name][0]
        if len(arguments) != count if count > 0 else len(arguments) < -count:
            raise InputError(f"{name} must have {abs(count)} argument{'s' * (count != 1)}, not {len(arguments)}")
        return Expression(name, tuple(arguments))
