"""What verifies a core, measured: bins and fields of instructions by programs, lines and signals by their runs.

    core_coverage   all of it for a core of a machine
"""

import time
from collections.abc import Callable, Sequence

from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.core_coverage_results import Checked, CoreCoverage
from mixflight.core_coverage_rtl import verilog_coverage
from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import build_core
from mixflight.sim.core_coverage.campaign import PROGRAMS, cores_programs, programs
from mixflight.sim.core_coverage.measure import ProgramCoverage
from mixflight.sim.core_values.random_program import RandomProgram
from mixflight.verify_core import run_program

RTL_PROGRAMS = 20
"""So many of the programs run on the Verilog that counts."""
STALL_PERCENT = 30


Progress = Callable[[str], None]


def core_coverage(
    machine: CoreMachine, *, count: int = PROGRAMS, rtl: bool = True, progress: Progress = lambda _: None
) -> CoreCoverage:  # fmt: skip
    """Coverage of the cores of ``machine`` by the first ``count`` programs, a program a core that meet where there are
    several; with ``rtl`` they run on the Verilog, and ``RTL_PROGRAMS`` of them on one that counts, which one core alone
    has."""
    begun, classes = time.perf_counter(), core_shape(machine).classes
    if rtl and machine.cores > 1:
        raise InputError(f"lines and signals must be of a machine of one core, not {machine.name}: add --no-rtl")
    coverage, made, instructions = ProgramCoverage(machine, classes), list[RandomProgram](), 0
    drawn = ((item,) for item in programs(machine, classes, range(count)))
    for number, items in enumerate(drawn if machine.cores == 1 else cores_programs(machine, classes, range(count))):
        progress(f"program {number}")
        coverage.add(*items)
        instructions += sum(len(item.instructions) for item in items)
        made += items
    checked = verilog = None
    if rtl:
        checked = _check(machine, made, progress)
        verilog = verilog_coverage(machine, made[:RTL_PROGRAMS], progress)
    return CoreCoverage(
        machine=machine.name, programs=count, instructions=instructions, functional=coverage.functional(),
        fields=coverage.fields(), checked=checked, verilog=verilog, seconds=time.perf_counter() - begun,
    )  # fmt: skip


def _check(machine: CoreMachine, made: Sequence[RandomProgram], progress: Progress) -> Checked:
    """Every byte of each program, every other one once more with stalls; the cycles of those that the engine times."""
    progress("building the core")
    model = build_core(Core(machine, generic=True))
    failures, errors, cycles = [], [], 0
    for number, item in enumerate(made):
        progress(f"program {number} on the core")
        for stall in (0, STALL_PERCENT) if number % 2 else (0,):
            timed = not _fills_slots_by_channel(item)
            run = run_program(model, machine, item, stall=stall, seed=number, timed=timed)
            if run.wrong:
                failures.append(f"program {number}{f', stalls {stall} %' if stall else ''}: {run.wrong}")
            elif not stall and timed:
                errors.append(abs(run.error))
                cycles += run.cycles
    return Checked(programs=len(made), failures=failures, timed=len(errors), cycles=cycles,
                   cycle_error_mean=_mean(errors), cycle_error_max=max(errors, default=0.0))  # fmt: skip


def _fills_slots_by_channel(made: RandomProgram) -> bool:
    """Whether a slot is filled by loads of single channels, of which the RTL has several under way and the engine one
    (D16)."""
    return any(item.kind == "LD" and item.fields["slotted"] and not item.fields["wide"] for item in made.instructions
               if not item.empty)  # fmt: skip


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
