"""Line, branch and toggle coverage of a core's Verilog over programs, errors and resets.

Programs run one behind the other on a model that counts, so buffers begin as the program before left them: what
a program computes is not looked at here. The same programs run on the model that does not count, from zeros, and there
every byte is compared.
"""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import codes, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import encode
from mixflight.core_coverage_results import ModulePoints, Reached, VerilogCoverage
from mixflight.rtl.core import Core
from mixflight.rtl.core_harness import LATENCY_CYCLES, CoreProcess, build_core
from mixflight.rtl.coverage_data import KINDS, ModuleCoverage, Point, module_coverage, read_counts, read_points, waivers
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core_values.random_program import RandomProgram

Progress = Callable[[str], None]
LIMIT_CYCLES = 1_000_000


def verilog_coverage(
    machine: CoreMachine, made: Sequence[RandomProgram], progress: Progress = lambda _: None
) -> VerilogCoverage:  # fmt: skip
    """Coverage by the programs ``made``, every third one stalled, then by errors of every memory, instructions that no
    unit carries out, and resets."""
    progress("building the core that counts")
    model = build_core(Core(machine, generic=True), coverage=True)
    texts = [(encode(item.text, compact()), item.words.tolist()) for item in made]
    wrong = [(text, ()) for text in _wrong_texts(made[0])]
    with tempfile.TemporaryDirectory(prefix="mixflight-coverage-") as folder, CoreProcess(
        model, hbm=made[0].hbm, ddr=made[0].ddr[0], text=texts[0][0], constants=texts[0][1],
        more=[*texts[1:], *wrong], latency=machine.hbm.answers_after_cycles or LATENCY_CYCLES,
    ) as core:  # fmt: skip
        runs = cycles = 0
        for number, item in enumerate(made):
            progress(f"program {number} on the core that counts")
            core.stall(30 if number % 3 == 2 else 0, number)
            cycles, runs = cycles + _run(core, item, number), runs + 1
        core.stall(0)
        progress("errors and resets")
        runs += _errors(core, machine, made[0], [len(texts) + number for number in range(len(wrong))])
        path = Path(folder) / "coverage.dat"
        core.coverage(path)
        verilog = (model.executable.parent / f"{model.top}.v").read_text()
        points, counts = read_points(path, verilog), read_counts(path)
    return _summed(module_coverage(points, counts, waivers()), runs=runs, cycles=cycles)


def _run(core: CoreProcess, made: RandomProgram, number: int, limit: int = LIMIT_CYCLES) -> int:
    """Run the ``number``-th text on the memories of ``made``; its cycles."""
    for mine, first in zip(core.hbm, made.hbm, strict=True):
        mine[: len(first)] = first
    core.ddr[: len(made.ddr[0])] = made.ddr[0]
    core.select(number)
    core.set_constants(made.constants)
    return int(core.run(made.registers, limit=limit)["cycles"])


def _errors(core: CoreProcess, machine: CoreMachine, made: RandomProgram, wrong: Sequence[int]) -> int:
    """Runs that end with an error, and are begun anew; how many."""
    channels = machine.hbm.channels_per_core
    faults = [*((port, read) for port in range(channels) for read in (True, False)), (channels, True),
              (channels + 1, True)]  # fmt: skip
    for port, read in faults:
        core.fail(port, read=read, burst=1)
        _ends(core, made, 0)
    for number in wrong:
        _ends(core, made, number)
    for cycles in (100, 1000):
        _ends(core, made, 0, limit=cycles)
    _run(core, made, 0)
    return len(faults) + len(wrong) + 3


def _ends(core: CoreProcess, made: RandomProgram, number: int, limit: int = LIMIT_CYCLES) -> None:
    """A run that ends with an error, or is not at its end after ``limit`` cycles, and a reset."""
    with contextlib.suppress(HarnessError):
        _run(core, made, number, limit)
    core.reset()


def _wrong_texts(made: RandomProgram) -> list[NDArray[np.uint32]]:
    """The program with one instruction that means nothing, or that no unit carries out; and without its end."""
    found = []
    text = encode(made.text, compact()).reshape(-1, 4)
    malformed = text.copy()
    malformed[len(text) // 2] = 0xFFFFFFFF
    found += [malformed.ravel(), text[:-1].ravel()]
    changes = (("MISC", {"operation": codes("MISC", "operation")["softcap"]}), ("MISC", {"static": 1}),
               ("MV", {"zero": codes("MV", "zero")["integer"]}), ("ST", {"memory": 1}),
               ("LD", {"buffer": codes("LD", "buffer")["act"]}))  # fmt: skip
    for kind, fields in changes:
        table = made.text.tables[kind]
        size = {"LD": "bytes", "ST": "bytes", "MV": "columns", "MISC": "elements"}[kind]
        at = int(np.flatnonzero(table[size])[0])
        kept = {name: int(table[name][at]) for name in fields}
        for name, value in fields.items():
            table[name][at] = value
        found.append(encode(made.text, compact()))
        for name, value in kept.items():
            table[name][at] = value
    return found


def _summed(modules: Sequence[ModuleCoverage], *, runs: int, cycles: int) -> VerilogCoverage:
    waived, against = dict[str, int](), dict[str, int]()
    for item in modules:
        for into, part in ((waived, item.waived), (against, item.reached_though_waived)):
            for reason, count in part.items():
                into[reason] = into.get(reason, 0) + count
    return VerilogCoverage(
        runs=runs, cycles=cycles, waived=waived, reached_though_waived={k: v for k, v in against.items() if v},
        modules=[ModulePoints(module=item.module, missed=[_shown(point) for point in item.missed],
                              **{kind: Reached(points=item.points[kind], covered=item.covered[kind]) for kind in KINDS})
                 for item in modules],
    )  # fmt: skip


def _shown(point: Point) -> str:
    return f"{point.kind}, line {point.line}, {point.what}"
