"""What coverage of a core comes to: bins, points of its Verilog, and the list of what is missing."""

from collections.abc import Iterable

import msgspec

from mixflight.sim.core_coverage.model import Bins


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """Points that count, and those reached."""

    points: int
    covered: int


class ModulePoints(msgspec.Struct, frozen=True, kw_only=True):
    """A module: by kind of points what was reached; those missed: kind, line of the Verilog, signal or way."""

    module: str
    line: Reached
    branch: Reached
    toggle: Reached
    missed: list[str]


class VerilogCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """All modules of a core; ``waived`` points by reason, and those of them that were ``reached_though_waived``."""

    runs: int
    cycles: int
    modules: list[ModulePoints]
    waived: dict[str, int]
    reached_though_waived: dict[str, int]

    def total(self, kind: str, unit: str = "") -> Reached:
        """Of one kind, in all of the core or in one unit of it."""
        parts = [getattr(item, kind) for item in self.modules if unit in ("", unit_of(item.module))]
        return Reached(points=sum(part.points for part in parts), covered=sum(part.covered for part in parts))


def unit_of(module: str) -> str:
    """The unit of the core that a module is in."""
    return module.partition(".")[0]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """The programs on the core's Verilog: those that are wrong; of the ``timed`` ones the cycles, and by how much of a
    program's cycles the engine's differ, on average and at most."""

    programs: int
    failures: list[str]
    timed: int
    cycles: int
    cycle_error_mean: float
    cycle_error_max: float


class CoreCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Bins of the functional model and of the fields of instructions, of ``programs`` with ``instructions``; checks and
    coverage of the Verilog where it was asked for."""

    machine: str
    programs: int
    instructions: int
    functional: list[Bins]
    fields: list[Bins]
    checked: Checked | None
    verilog: VerilogCoverage | None
    seconds: float


def by_group(bins: Iterable[Bins]) -> list[tuple[str, int, int, int]]:
    """(Group, bins reached, bins that can be, excluded ones), and all together as the last row."""
    found: dict[str, list[int]] = {}
    for item in bins:
        row = found.setdefault(item.group, [0, 0, 0])
        for place, value in enumerate((item.covered, item.reachable, sum(item.excluded.values()))):
            row[place] += value
    total = [sum(row[place] for row in found.values()) for place in range(3)]
    return [(name, *row) for name, row in (*found.items(), ("all", total))]  # type: ignore[misc]


def holes_text(found: CoreCoverage) -> str:
    """Everything that was not reached, and what does not count, with its reason, a line each."""
    lines = []
    for title, bins in (("functional bins", found.functional), ("fields of instructions", found.fields)):
        lines += [f"# {title} not reached"]
        lines += [f"{item.group}: {item.name}: {hole}" for item in bins for hole in item.holes]
        lines += ["", f"# {title} that do not count"]
        lines += [f"{item.group}: {item.name}: {count}: {reason}" for item in bins
                  for reason, count in item.excluded.items()]  # fmt: skip
        lines += [""]
    if found.verilog is not None:
        lines += ["# points of the Verilog not reached"]
        lines += [f"{part.module}: {point}" for part in found.verilog.modules for point in part.missed]
        lines += ["", "# points of the Verilog that do not count"]
        lines += [f"{count}: {reason}" for reason, count in found.verilog.waived.items()]
    return "\n".join(lines) + "\n"
