"""The first layer of a model on several joined cores' RTL: every byte of memory as the executor's, logits as the golden
model's, cycles beside the engine's.

    check_cores_model   a few decode steps, or a prompt in blocks
"""

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
from mixflight.verify_compared import Compared
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
    compared = Compared(TOLERANCE)
    block = BLOCK if part == PREFILL else 0
    made = machine_from_file(machine, path, CONTEXT, layers=1, block=block)
    tokens = np.random.default_rng(seed).integers(0, made.model.vocab, TOKENS[part]).tolist()
    golden = Session(first_layer(path))
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
                _run(compared, made, cores, steps, position, stall, logits if last or not block else None)
        except HarnessError as error:
            compared.found.append(str(error))
    return compared.outcome()


def _run(
    compared: Compared, made: MachineModel, cores: ClusterProcess, steps: Sequence[Step], position: int, stall: int,
    logits: NDArray[np.float32] | None,
) -> None:  # fmt: skip
    """Run ``steps`` from ``position`` on RTL and in the executor; their ``logits`` where there are any."""
    name = f"from position {position} on"
    cores.ddr[: len(made.cores[0].ddr[0])] = made.cores[0].ddr[0]
    cores.set_constants(steps[0].constants)
    cores.stall(stall, position)
    cycles = int(cores.run_all([step.numbered for step in steps], limit=LIMIT_CYCLES)["cycles"])
    computed = None if stall else round(made.engine(steps, loads=compared.runs == 0).total)
    compared.ran(name, cycles, computed)
    mine = made.execute(steps)
    for channel, (found, right) in enumerate(zip(cores.hbm, made.hbm, strict=True)):
        compared.same(found[: len(right)], right, f"{name}: channel {channel} of all")
    if logits is not None:
        compared.same(mine, logits, f"{name}: logits")
