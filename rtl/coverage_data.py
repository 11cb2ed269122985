"""Line, branch and toggle coverage of compiled Verilog: points, what waives them, and what was reached.

    without_unnamed    the text so that signals without a name are no points
    read_points        points and counts of a file that a compiled model wrote
    Waiver, waivers    what cannot be reached, with a written reason (``coverage_waivers.toml``)
    module_coverage    covered and all points of every module, and those that were missed

Toggle points are the rise and the fall of every bit of a named signal; line points are blocks of statements, branch
points both ways of a condition. A signal that is a port counts in each module that it is a port of.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.strict_toml import convert, read_toml

COVERAGE_OPTIONS = ("--coverage-line", "--coverage-toggle", "--coverage-max-width", "1024")
"""Verilator's options; without the last one signals of more than 256 bits were no points."""
COVERAGE_MAKE = ("OPT_FAST=-O1", "OPT_SLOW=-O0", "OPT_GLOBAL=-O2")
_UNNAMED = re.compile(r"\\\$(\d+) ")
_ESCAPED = re.compile("__0([0-9A-Fa-f]{2})")
_FIELDS = re.compile("\x01([a-zA-Z]+)\x02([^\x01']*)")
KINDS = ("line", "branch", "toggle")


class Point(NamedTuple):
    """A point: its kind, the path of its module below the core, its line in the Verilog and what that says; of a toggle
    the signal's bit and the direction, of a branch which way."""

    kind: str
    module: str
    line: int
    what: str
    code: str


class Waiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points of ``kinds`` whose module, signal with its bit, and line of Verilog match their patterns whole do not
    count, for a ``reason``."""

    kinds: tuple[str, ...]
    reason: str
    module: str = ".*"
    signal: str = ".*"
    code: str = ".*"


class _Waivers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    waiver: list[Waiver]


@dataclass(frozen=True, kw_only=True)
class ModuleCoverage:
    """Of a module, by kind: points that count, those reached; ``missed`` points, ``waived`` ones by reason, and by
    reason those of them that were reached all the same."""

    module: str
    points: dict[str, int]
    covered: dict[str, int]
    missed: list[Point]
    waived: dict[str, int]
    reached_though_waived: dict[str, int]


def without_unnamed(text: str) -> str:
    """``text`` with an underscore before signals that have a number alone, which Verilator then takes no points of:
    they are steps of expressions, whose results have names."""
    return _UNNAMED.sub(r"_step\1 ", text)


@cache
def waivers() -> tuple[Waiver, ...]:
    """All of ``coverage_waivers.toml``."""
    path = Path(__file__).with_name("coverage_waivers.toml")
    return tuple(convert(read_toml(path), _Waivers, path.name).waiver)


def read_counts(path: Path) -> NDArray[np.int64]:
    """How often each point of a file was reached, in the file's order: the same for all runs of a model."""
    with path.open(errors="replace") as file:
        return np.array([int(line.rpartition(" ")[2]) for line in file if line.startswith("C ")], np.int64)


def read_points(path: Path, verilog: str, below: str = "core") -> list[Point]:
    """The points of a file, in its order, of a model of ``verilog``; modules are named from the instance ``below`` on,
    others begin with a colon."""
    found, lines = [], verilog.split("\n")
    with path.open(errors="replace") as file:
        for line in file:
            if not line.startswith("C "):
                continue
            fields = dict(_FIELDS.findall(line))
            module = _module(fields["h"], below)
            number = int(fields["l"])
            found.append(Point(fields["t"], module, number, _plain(fields["o"]), lines[number - 1].strip()))
    return found


def _plain(name: str) -> str:
    """A name as the Verilog has it: Verilator writes other characters as their codes."""
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), name)


def _module(path: str, below: str) -> str:
    parts = path.removeprefix("TOP.").split(".")
    if below not in parts:
        return ":" + ".".join(parts)
    return ".".join(parts[parts.index(below) + 1 :]) or "(top)"


def module_coverage(
    points: Sequence[Point], counts: NDArray[np.int64], rules: Sequence[Waiver]
) -> list[ModuleCoverage]:  # fmt: skip
    """Coverage of every module, in the order of their names; those outside of the core do not count."""
    compiled = [(re.compile(rule.module), _Rule(set(rule.kinds), re.compile(rule.signal), re.compile(rule.code),
                                                rule.reason)) for rule in rules]  # fmt: skip
    by_module: dict[str, list[int]] = {}
    for index, point in enumerate(points):
        if not point.module.startswith(":"):
            by_module.setdefault(point.module, []).append(index)
    found = []
    for module, indices in sorted(by_module.items()):
        own = [rule for name, rule in compiled if name.fullmatch(module)]
        total, covered = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
        missed, waived, against = [], dict[str, int](), dict[str, int]()
        for index in indices:
            point, reached = points[index], bool(counts[index])
            reason = _reason(point, own)
            if reason is not None:
                waived[reason] = waived.get(reason, 0) + 1
                against[reason] = against.get(reason, 0) + reached
                continue
            total[point.kind] += 1
            covered[point.kind] += reached
            if not reached:
                missed.append(point)
        found.append(ModuleCoverage(module=module, points=total, covered=covered, missed=missed, waived=waived,
                                    reached_though_waived=against))  # fmt: skip
    return found


class _Rule(NamedTuple):
    kinds: set[str]
    signal: re.Pattern[str]
    code: re.Pattern[str]
    reason: str


def _reason(point: Point, rules: Sequence[_Rule]) -> str | None:
    signal = point.what.partition(":")[0]
    return next((rule.reason for rule in rules if point.kind in rule.kinds and rule.signal.fullmatch(signal)
                 and rule.code.fullmatch(point.code)), None)  # fmt: skip
