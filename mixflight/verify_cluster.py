"""Several joined cores against the reference executor and the engine: random programs that meet, every byte, cycles."""

import time
from collections.abc import Sequence

import numpy as np

from mixflight.arch.compact import INSTRUCTION_BYTES, compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import encode
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core_cluster_harness import ClusterProcess
from mixflight.rtl.core_harness import LATENCY_CYCLES
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.random_cores import random_cores
from mixflight.sim.core_values.random_program import RandomProgram
from mixflight.verify_core import COUNT, LIMIT_CYCLES, PARTS, SEEDS, TOLERANCE, ProgramRun
from mixflight.verify_outcome import StreamOutcome

STALL = 30
"""Percent of cycles in which every AXI channel is held up, in every other run."""


def cores_cycles(machine: CoreMachine, made: Sequence[RandomProgram]) -> int:
    """The engine's cycles of programs whose texts are loaded first; the longest is what all wait for."""
    pieces = []
    for item in made:
        count = len(item.text)
        sequencer = Sequencer(item.text, np.zeros(count, np.int64), item.words, slot_bytes(machine),
                              machine.hbm.channels_per_core)  # fmt: skip
        pieces.append(sequencer.expand(item.registers, repeat=False))
    units, size = Units(machine), INSTRUCTION_BYTES * max(len(item.text) for item in made)
    return round(execute(units, compile_streams(units, pieces, range(len(pieces))), text_bytes=size).total)


def run_cores(
    model: CompiledModel, machine: CoreMachine, made: Sequence[RandomProgram], *, stall: int = 0, seed: int = 0
) -> ProgramRun:  # fmt: skip
    """Run a program a core on joined cores that were built for ``machine``; ``stall`` as for a core alone."""
    golden = [channel for item in made for channel in item.after.hbm]
    size = sum(map(len, golden))
    process = ClusterProcess(
        model, hbm=[channel for item in made for channel in item.hbm], ddr=made[0].ddr[0],
        texts=[(encode(item.text, compact()), item.words.tolist()) for item in made],
        latency=machine.hbm.answers_after_cycles or LATENCY_CYCLES,
    )  # fmt: skip
    with process as cores:
        for core, item in enumerate(made):
            cores.set_constants(item.constants, core)
        cores.stall(stall, seed)
        try:
            cycles = int(cores.run_all([item.registers for item in made], limit=LIMIT_CYCLES)["cycles"])
        except HarnessError as error:
            return ProgramRun(cycles=0, computed=0, bytes=size, differing=size, wrong=str(error))
        found = [(channel, int(place)) for channel, (mine, right) in enumerate(zip(cores.hbm, golden, strict=True))
                 for place in np.flatnonzero(mine[: len(right)] != right)]  # fmt: skip
    computed = 0 if stall else cores_cycles(machine, made)
    wrong = ""
    if found:
        channel, place = found[0]
        wrong = f"{len(found)} of {size} bytes differ, the first in channel {channel} of all at {place:#x}"
    elif computed and abs(computed / cycles - 1) > TOLERANCE:
        wrong = f"{cycles} cycles, computed {computed}"
    return ProgramRun(cycles=cycles, computed=computed, bytes=size, differing=len(found), wrong=wrong)


def check_cluster(
    model: CompiledModel, machine: CoreMachine, part: str, *, seeds: Sequence[int] = range(SEEDS), count: int = COUNT
) -> StreamOutcome:  # fmt: skip
    """Run programs of a part of ``PARTS``, another on each core, all with meetings, without and with stalls."""
    families = tuple(name for name in PARTS[part] if name != "barrier")
    messages, cycles_rtl, cycles_sim, values, begun = [], 0, 0, 0, time.perf_counter()
    for seed in seeds:
        made = random_cores(machine, seed, count, families)
        for stall in (0, STALL):
            run = run_cores(model, machine, made, stall=stall, seed=seed)
            values += run.bytes
            if run.wrong:
                messages.append(f"{part}, programs {seed}{f', stalls {stall} %' if stall else ''}: {run.wrong}")
            if not stall and not run.wrong:
                cycles_rtl, cycles_sim = cycles_rtl + run.cycles, cycles_sim + run.computed
    return StreamOutcome(tests=2 * len(seeds), failures=len(messages), messages=tuple(messages[:20]),
                         cycles_rtl=cycles_rtl, cycles_sim=cycles_sim, values=values,
                         run_s=time.perf_counter() - begun)  # fmt: skip
