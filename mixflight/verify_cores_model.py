"""The first layer of a model on several joined cores' RTL: every byte of memory as the executor's, logits as the golden
model's, cycles beside the engine's.

    check_cores_model   a few decode steps, or a prompt in blocks
"""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import compact
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import encode
from mixflight.rtl.compiled_model import CompiledModel
from mixflight.rtl.core_cluster_harness import ClusterProcess
from mixflight.rtl.core_harness import LATENCY_CYCLES
from mixflight.rtl.harness import HarnessError
from mixflight.sim.core_values.decode import MachineModel, Step, machine_from_file
from mixflight.sim.golden.llama import Session
from mixflight.verify_outcome import StreamOutcome
from mixflight.verify_prefill import BLOCK, CONTEXT, LIMIT_CYCLES, PREFILL, TOLERANCE, first_layer

DECODE = "decode"
"""What these programs are called among those of several cores, beside ``PREFILL``."""
TOKENS = {DECODE: 4, PREFILL: 2 * BLOCK}
"""Of random ones; every other decode step is stalled."""
STALL = 30


def check_cores_model(
    model: CompiledModel, machine: CoreMachine, path: Path, part: str, *, seed: int = 0
) -> StreamOutcome:  # fmt: skip
    """Run random tokens through the first layer of the model file ``path`` and its head, on cores that were built for
    ``machine``: one by one, or with the ``part`` ``PREFILL`` in blocks, the last of them with logits."""
    begun = time.perf_counter()
    block = BLOCK if part == PREFILL else 0
    made = machine_from_file(machine, path, CONTEXT, layers=1, block=block)
    tokens = np.random.default_rng(seed).integers(0, made.model.vocab, TOKENS[part]).tolist()
    golden, checked = Session(first_layer(path)), _Compared(made)
    first = made.block_steps(tokens[:block], 0) if block else made.steps(tokens[0], 0)
    texts = [(encode(step.text.text.stream, compact()), step.text.text.constants.tolist()) for step in first]
    latency = machine.hbm.answers_after_cycles or LATENCY_CYCLES
    with ClusterProcess(model, hbm=made.hbm, ddr=made.cores[0].ddr[0], texts=texts, latency=latency) as cores:
        try:
            for position in range(0, len(tokens), block or 1):
                part_of = tokens[position : position + (block or 1)]
                last = position + len(part_of) == len(tokens)
                if block:
                    steps = made.block_steps(part_of, position, logits=last)
                    stall = 0
                else:
                    steps = made.steps(part_of[0], position)
                    stall = STALL * (position % 2)
                logits = golden.extend(part_of)[-1]
                checked.run(cores, steps, position, stall, logits if last or not block else None)
        except HarnessError as error:
            checked.found.append(str(error))
    return StreamOutcome(tests=checked.runs, failures=len(checked.found), messages=tuple(checked.found[:20]),
                         cycles_rtl=checked.cycles_rtl, cycles_sim=checked.cycles_sim, values=checked.values,
                         run_s=time.perf_counter() - begun)  # fmt: skip


class _Compared:
    """What was compared so far."""

    def __init__(self, made: MachineModel) -> None:
        self.made = made
        self.found: list[str] = []
        self.runs = self.values = self.cycles_rtl = self.cycles_sim = 0

    def run(
        self, cores: ClusterProcess, steps: Sequence[Step], position: int, stall: int,
        logits: NDArray[np.float32] | None,
    ) -> None:  # fmt: skip
        """Run ``steps`` from ``position`` on RTL and in the executor; their ``logits`` where there are any."""
        made, name = self.made, f"from position {position} on"
        cores.ddr[: len(made.cores[0].ddr[0])] = made.cores[0].ddr[0]
        cores.set_constants(steps[0].constants)
        cores.stall(stall, position)
        cycles = int(cores.run_all([step.numbered for step in steps], limit=LIMIT_CYCLES)["cycles"])
        self.runs += 1
        if not stall:
            computed = round(made.engine(steps, loads=self.runs == 1).total)
            self.cycles_rtl, self.cycles_sim = self.cycles_rtl + cycles, self.cycles_sim + computed
            if abs(computed / cycles - 1) > TOLERANCE:
                self.found.append(f"{name}: {cycles} cycles, computed {computed}")
        mine = made.execute(steps)
        for channel, (found, right) in enumerate(zip(cores.hbm, made.hbm, strict=True)):
            self._same(found[: len(right)], right, f"{name}: channel {channel} of all")
        if logits is not None:
            self._same(mine.view(np.uint8), logits.view(np.uint8), f"{name}: logits")

    def _same(self, mine: NDArray[np.uint8], golden: NDArray[np.uint8], name: str) -> None:
        """Both to the bit."""
        self.values += len(golden)
        wrong = np.flatnonzero(mine != golden)
        if len(wrong):
            self.found.append(f"{name}: {len(wrong)} of {len(golden)} bytes differ, the first at {int(wrong[0]):#x}")
