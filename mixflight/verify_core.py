"""A whole core against the reference executor and the engine: random programs, every byte of memory, cycles."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mixflight.arch.compact import INSTRUCTION_BYTES, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import encode
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core_harness import LATENCY_CYCLES, CoreProcess
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.random_program import DECODE_FAMILIES, RandomProgram, random_program
from mixflight.verify_outcome import StreamOutcome

PARTS: Mapping[str, tuple[str, ...]] = {
    "memory": ("transfer",), "mpe": ("linear", "keys", "values"), "sfu": ("vector", "attention"),
    "core": DECODE_FAMILIES, "matrix": (*DECODE_FAMILIES, *["matrix"] * 6),
    "sparse": (*DECODE_FAMILIES, *["sparse"] * 6),
    "sparse-matrix": (*DECODE_FAMILIES, *["sparse"] * 4, *["matrix"] * 4),
}  # fmt: skip
"""What random programs are drawn from: instructions of one unit, with what brings their operands; all of them; these
and MM; these and N:M weights; with both."""
SEEDS, COUNT = 5, 60
"""Programs of a part, and instructions of each."""
TOLERANCE = 0.02
"""Most by which a program's cycles may differ from the engine's."""
LIMIT_CYCLES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """A program on the core: its cycles, those that the engine computes, and what is wrong (empty: nothing).

    ``differing`` of ``bytes`` of memory are not the executor's. A run with stalls has no computed cycles.
    """

    cycles: int
    computed: int
    bytes: int
    differing: int
    wrong: str

    @property
    def error(self) -> float:
        """Computed cycles over measured ones, less one."""
        return self.computed / self.cycles - 1 if self.computed else 0.0


def parts_of(classes: Sequence[str], kept: Sequence[int] = ()) -> list[str]:
    """Those of ``PARTS`` that a core has which carries out these classes of instructions, and such N:M weights."""
    return [part for part, families in PARTS.items()
            if ("matrix" not in families or "MM" in classes) and ("sparse" not in families or kept)]  # fmt: skip


def program_cycles(machine: CoreMachine, made: RandomProgram) -> int:
    """The engine's cycles of a program whose text is loaded first."""
    count = len(made.text)
    sequencer = Sequencer(made.text, np.zeros(count, np.int64), made.words, slot_bytes(machine),
                          machine.hbm.channels_per_core)  # fmt: skip
    units = Units(machine)
    streams = compile_streams(units, [sequencer.expand(made.registers, repeat=False)], [0])
    return round(execute(units, streams, text_bytes=INSTRUCTION_BYTES * count,
                         constants=len(made.words)).total)  # fmt: skip


def process_of(model: CompiledModel, machine: CoreMachine, made: RandomProgram) -> CoreProcess:
    """The core with the memories and the text of a program, and its constants."""
    latency = machine.hbm.answers_after_cycles or LATENCY_CYCLES
    core = CoreProcess(model, hbm=made.hbm, ddr=made.ddr[0], text=encode(made.text, compact()),
                       constants=made.words.tolist(), latency=latency)  # fmt: skip
    core.set_constants(made.constants)
    return core


def differences(core: CoreProcess, made: RandomProgram) -> list[tuple[int, int]]:
    """(Channel, byte) of what is not as the executor leaves it."""
    return [(channel, int(place)) for channel, (mine, golden) in enumerate(zip(core.hbm, made.after.hbm, strict=True))
            for place in np.flatnonzero(mine[: len(golden)] != golden)]


def run_program(
    model: CompiledModel, machine: CoreMachine, made: RandomProgram, *, stall: int = 0, seed: int = 0,
    timed: bool = True,
) -> ProgramRun:  # fmt: skip
    """Run a program on a core that was built for ``machine``; with ``stall`` every AXI channel is held up in so many of
    100 cycles. Cycles are computed where nothing stalls and it is ``timed``."""
    size = sum(map(len, made.after.hbm))
    with process_of(model, machine, made) as core:
        core.stall(stall, seed)
        try:
            cycles = int(core.run(made.registers, limit=LIMIT_CYCLES)["cycles"])
        except HarnessError as error:
            return ProgramRun(cycles=0, computed=0, bytes=size, differing=size, wrong=str(error))
        found = differences(core, made)
    computed = 0 if stall or not timed else program_cycles(machine, made)
    wrong = ""
    if found:
        channel, place = found[0]
        wrong = f"{len(found)} of {size} bytes differ, the first in channel {channel} at {place:#x}"
    elif computed and abs(computed / cycles - 1) > TOLERANCE:
        wrong = f"{cycles} cycles, computed {computed}"
    return ProgramRun(cycles=cycles, computed=computed, bytes=size, differing=len(found), wrong=wrong)


def check_core(
    model: CompiledModel, machine: CoreMachine, part: str, *, seeds: Sequence[int] = range(SEEDS), count: int = COUNT
) -> StreamOutcome:  # fmt: skip
    """Run programs of a part of ``PARTS``, each without and with stalls."""
    messages, cycles_rtl, cycles_sim, values, begun = [], 0, 0, 0, time.perf_counter()
    for seed in seeds:
        made = random_program(machine, seed, count, PARTS[part])
        for stall in (0, 30):
            run = run_program(model, machine, made, stall=stall, seed=seed)
            values += run.bytes
            if run.wrong:
                messages.append(f"{part}, program {seed}{f', stalls {stall} %' if stall else ''}: {run.wrong}")
            if not stall and not run.wrong:
                cycles_rtl, cycles_sim = cycles_rtl + run.cycles, cycles_sim + run.computed
    return StreamOutcome(tests=2 * len(seeds), failures=len(messages), messages=tuple(messages[:20]),
                         cycles_rtl=cycles_rtl, cycles_sim=cycles_sim, values=values,
                         run_s=time.perf_counter() - begun)  # fmt: skip
