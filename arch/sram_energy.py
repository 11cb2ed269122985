"""Energy of SRAM by size: a closed formula fitted to published CACTI points, with its error.

One bank of S bytes takes

    pJ a bit = a + b S^p        (read and write each with their a, b)
    leakage  = c S              mW

by weighted least squares: each residual relative to its point. The power p is 1 (bit lines grow with the rows) or 1/2
(wires as long as the side of the bank), whichever leaves less. A formula holds between its smallest and its largest
point; outside is an error.
"""

import functools
import math
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

_FILE = Path(__file__).with_suffix(".toml")
POWERS = (0.5, 1.0)
Action = Literal["read", "write"]


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One CACTI run: a bank, energy of an access through a port of ``port_bits``, and its leakage."""

    bytes: int
    port_bits: int
    read_pj: float
    write_pj: float
    leak_mw: float

    def pj_per_bit(self, action: Action) -> float:
        """Energy of an access over its bits; ``action`` is ``read`` or ``write``."""
        return (self.read_pj if action == "read" else self.write_pj) / self.port_bits


class SramNode(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The points of one node, and the formula through them."""

    name: str
    source: str
    date: str
    points: tuple[Point, ...]

    def coefficients(self, action: Action) -> tuple[float, float, float]:
        """(a, b, p) of pJ a bit = a + b S^p."""
        return min((self._fitted(action, power) for power in POWERS), key=lambda fit: self._left(action, fit))

    def _left(self, action: Action, fit: tuple[float, float, float]) -> float:
        return sum(
            ((fit[0] + fit[1] * math.pow(point.bytes, fit[2])) / point.pj_per_bit(action) - 1) ** 2
            for point in self.points
        )

    def _fitted(self, action: Action, power: float) -> tuple[float, float, float]:
        weights = [1 / point.pj_per_bit(action) ** 2 for point in self.points]
        sizes = [math.pow(point.bytes, power) for point in self.points]
        values = [point.pj_per_bit(action) for point in self.points]
        total = sum(weights)
        mean_x = sum(w * x for w, x in zip(weights, sizes, strict=True)) / total
        mean_y = sum(w * y for w, y in zip(weights, values, strict=True)) / total
        spread = sum(w * (x - mean_x) ** 2 for w, x in zip(weights, sizes, strict=True))
        together = sum(w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, sizes, values, strict=True))
        slope = together / spread
        return mean_y - slope * mean_x, slope, power

    def pj_per_bit(self, action: Action, size: int) -> float:
        """Energy of a bit of a bank of ``size`` bytes."""
        self._check(size)
        base, slope, power = self.coefficients(action)
        return base + slope * math.pow(size, power)

    def leak_mw(self, size: int) -> float:
        """Leakage of a bank of ``size`` bytes: mW, or pJ a nanosecond."""
        self._check(size)
        shares = [point.leak_mw / point.bytes for point in self.points]
        return size * sum(1 / share for share in shares) / sum(1 / share**2 for share in shares)

    def errors(self, action: Action) -> tuple[float, ...]:
        """Relative error of the formula at each point."""
        return tuple(self.pj_per_bit(action, point.bytes) / point.pj_per_bit(action) - 1 for point in self.points)

    def _check(self, size: int) -> None:
        sizes = [point.bytes for point in self.points]
        if not min(sizes) <= size <= max(sizes):
            raise InputError(f"an SRAM bank of {self.name} must have {min(sizes)} to {max(sizes)} bytes, not {size}")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    node: tuple[SramNode, ...]


@functools.cache
def sram_nodes() -> dict[str, SramNode]:
    """The nodes with published points, by name."""
    return {node.name: node for node in convert(read_toml(_FILE), _File, _FILE.name).node}


def sram_node(name: str) -> SramNode:
    """The formula of one node."""
    if name not in sram_nodes():
        raise InputError(f"SRAM must be of one of {', '.join(sram_nodes())}, not {name!r}")
    return sram_nodes()[name]
