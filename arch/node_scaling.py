"""Area, delay and energy from one node to another, by one published table: ``arch/node_scaling.toml``.

A scaled figure is an estimate for comparison with figures of that node; ratios of two scaled figures are those of
the figures themselves.
"""

import functools
import math
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

_FILE = Path(__file__).with_suffix(".toml")

CLASSICAL = "Dennard et al., IEEE J. Solid-State Circuits 9(5), 1974: capacitance as the dimensions, energy as C V^2"


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node of the table: area relative to 180 nm, polynomials of the supply, highest power first."""

    name: str
    area: float
    delay: tuple[float, ...]
    energy: tuple[float, ...]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    node: list[Node]


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """Factors from one node and supply to another, and where they come from."""

    area: float
    delay: float
    energy: float
    source: str


@functools.cache
def _table() -> _File:
    table: _File = convert(read_toml(_FILE), _File, _FILE.name)
    return table


def node_scaling(source: str, source_v: float, target: str, target_v: float) -> Scaling:
    """Factors from node ``source`` at ``source_v`` to node ``target`` at ``target_v``."""
    nodes = {node.name: node for node in _table().node}
    for name in (source, target):
        if name not in nodes:
            raise InputError(f"a node to scale must be one of {', '.join(nodes)}, not {name!r}")
    old, new = nodes[source], nodes[target]
    delay, energy = (_at(after, target_v) / _at(before, source_v)
                     for before, after in ((old.delay, new.delay), (old.energy, new.energy)))
    if delay <= 0 or energy <= 0:
        raise InputError(f"the scaling table must hold at the supplies, not at {source_v} V and {target_v} V")
    return Scaling(area=new.area / old.area, delay=delay, energy=energy, source=_table().source)


def node_scaling_between(source: str, source_v: float, *, above: str, below: str, share: float,
                         target_v: float) -> Scaling:
    """Factors to a node that the table lacks: ``share`` of the way from node ``above`` to ``below``, geometrically.

    The way is that of the logarithm of the feature size: 28 nm is log(32 / 28) / log(32 / 16) = 0.193 of it from 32 to
    16 nm.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a node between two must be a share in 0..1 of the way, not {share}")
    first, last = (node_scaling(source, source_v, name, target_v) for name in (above, below))

    def between(one: float, other: float) -> float:
        return math.exp((1 - share) * math.log(one) + share * math.log(other))

    return Scaling(area=between(first.area, last.area), delay=between(first.delay, last.delay),
                   energy=between(first.energy, last.energy), source=first.source)


def classical_energy(source_nm: float, source_v: float, target_nm: float, target_v: float) -> float:
    """The factor of energy by ``CLASSICAL`` scaling: the ratio of lengths times that of supplies squared.

    It knows no node's devices. Both rules are in use, and how far they are apart says how far scaling can be believed:
    0.0625 by this one against 0.0265 by ``node_scaling`` from 180 nm at 1.8 V to 45 nm at 0.9 V.
    """
    if min(source_nm, source_v, target_nm, target_v) <= 0:
        raise InputError("nodes and supplies to scale must be above 0, not "
                         f"{source_nm} nm at {source_v} V to {target_nm} nm at {target_v} V")
    return target_nm / source_nm * (target_v / source_v) ** 2


def _at(polynomial: tuple[float, ...], volts: float) -> float:
    value = 0.0
    for coefficient in polynomial:
        value = value * volts + coefficient
    return value
