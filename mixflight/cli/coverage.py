"""What ``mixflight verify flightllm-core --coverage DIR`` says."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mixflight.core_coverage_results import CoreCoverage, Reached


def show_coverage(
    tops: Sequence[str], arch: str | None, folder: Path, *, count: int, rtl: bool, json: bool
) -> int:  # fmt: skip
    """Measure, write ``coverage.json`` and ``holes.txt`` into ``folder``, print tables or the document.

    Exit status 1 where a program fails on the Verilog, or reaches what the model excludes. What is no core is an
    InputError.
    """
    from mixflight.arch.errors import InputError
    from mixflight.cli.output import encoded, print_json, progress
    from mixflight.core_coverage import core_coverage
    from mixflight.core_coverage_results import holes_text
    from mixflight.rtl.design import CORES, choose_top

    if len(tops) != 1 or tops[0] not in CORES:
        given = ", ".join(tops) or "of every top"
        raise InputError(f"coverage must be of one top among {', '.join(CORES)}, not {given}")
    component = choose_top(tops[0], arch=arch).component
    component._MustUse__used = True
    with progress() as bars:
        bar = bars.add_task("programs", total=None)
        found = core_coverage(component.machine, count=count, rtl=rtl,
                              progress=lambda what: bars.update(bar, description=what))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "coverage.json").write_bytes(encoded(found, "coverage/1"))
    (folder / "holes.txt").write_text(holes_text(found))
    if json:
        print_json(found, "coverage/1")
    else:
        _print(found)
        print(f"{folder / 'holes.txt'} names what is missing, {folder / 'coverage.json'} has every bin")
    bins = [*found.functional, *found.fields]
    wrong = [f"{item.group}, {item.name}: excluded, but reached: {name}" for item in bins for name in item.unexpected]
    wrong += found.checked.failures if found.checked else []
    for message in wrong:
        print(message, file=sys.stderr)
    return 1 if wrong else 0


def _print(found: "CoreCoverage") -> None:
    from mixflight.cli.output import print_table
    from mixflight.core_coverage_results import by_group, unit_of

    shown = f"of {found.machine} by {found.programs} programs of {found.instructions:,} instructions"
    for title, bins in (("functional coverage", found.functional), ("instruction fields", found.fields)):
        rows = [(name, covered, reachable, f"{100 * covered / reachable:.1f} %", excluded)
                for name, covered, reachable, excluded in by_group(bins) if reachable]  # fmt: skip
        print_table(f"{title} {shown}", ("of", "reached", "bins", "share", "excluded"), rows)
    checked = found.checked
    if checked:
        exact = checked.programs - len(checked.failures)
        mean, most = 100 * checked.cycle_error_mean, 100 * checked.cycle_error_max
        print(f"{exact} of {checked.programs} programs exact on the Verilog; the engine times {checked.timed} of them, "
              f"{checked.cycles:,} cycles, {mean:.2f} % off on average, {most:.2f} % at most")  # fmt: skip
    if found.verilog:
        units = sorted({unit_of(item.module) for item in found.verilog.modules})
        rows_ = [(unit or "all", *(_reached(found.verilog.total(kind, unit)) for kind in ("line", "branch", "toggle")))
                 for unit in (*units, "")]  # fmt: skip
        print_table(f"the Verilog in {found.verilog.runs} runs of {found.verilog.cycles:,} cycles",
                    ("unit", "lines", "branches", "toggles"), rows_)  # fmt: skip
        print(f"{sum(found.verilog.waived.values()):,} points do not count, for "
              f"{len(found.verilog.waived)} written reasons")  # fmt: skip


def _reached(part: "Reached") -> str:
    return f"{100 * part.covered / part.points:.1f} % of {part.points:,}" if part.points else ""
