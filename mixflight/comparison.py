"""Machines and GPUs side by side, at one batch or at several.

compare_machines   simulates every machine and GPU at every batch
comparison_document   the JSON document of ``mixflight compare``
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from mixflight.advantage import advantages, claims, corrected_claims, token_cost
from mixflight.arch.accelerator import core_machines
from mixflight.arch.costs import Costs
from mixflight.arch.errors import InputError
from mixflight.machines import Machine, run, run_gpu
from mixflight.results import simulation_document
from mixflight.sim.gpu.phase import GpuPhase
from mixflight.sim.gpu.scenario import GpuRun
from mixflight.sim.simulate import Simulation
from mixflight.workload import load_workload

CHIP = "chip and DRAM, by counted actions"
"""What the energy of an array covers."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that cannot run a batch, in words."""

    name: str
    batch: int
    reason: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Simulations of accelerators and of GPUs, machine by machine, and what could not run."""

    machines: tuple[Simulation, ...]
    gpus: tuple[Simulation, ...]
    refused: tuple[Refusal, ...]

    @property
    def all(self) -> list[Simulation]:
        """Accelerators, then GPUs."""
        return [*self.machines, *self.gpus]


def parse_batches(text: str) -> tuple[int, ...]:
    """``1,4,16`` as numbers, ascending."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--batches must be whole numbers with commas between them, not {text!r}") from None
    if list(found) != sorted(set(found)) or found[0] < 1:
        raise InputError(f"--batches must be ascending numbers of at least 1, not {text!r}")
    return found


def compare_machines(
    archs: Sequence[str], gpus: Sequence[str], model: str, prefill: int, decode: int, *, recipe: str | None = None,
    batches: Sequence[int] = (1,), mode: str = "corrected", float_operands: str = "refuse",
) -> Comparison:  # fmt: skip
    """Simulate ``ARCH[:RECIPE]`` and ``GPU[:RECIPE]`` at every batch.

    With several batches, what a machine cannot run at one of them is noted (memory that is too small). It is an
    InputError with one batch, or where nothing runs at all; so are unknown names.
    """
    for name in archs:
        load_workload(model, Machine.parse(name, recipe).recipe)
    for name in gpus:
        GpuRun.parse(name, recipe)
    refused: list[Refusal] = []

    def of_arch(name: str, batch: int) -> Simulation:
        return run(Machine.parse(name, recipe), model, prefill, decode, batch, mode, float_operands)

    def of_gpu(name: str, batch: int) -> Simulation:
        return run_gpu(name, model, prefill, decode, recipe, batch, mode)

    def every(names: Sequence[str], one: Any) -> tuple[Simulation, ...]:
        found = []
        for name in names:
            for batch in batches:
                try:
                    found.append(one(name, batch))
                except InputError as error:
                    if len(batches) == 1:
                        raise
                    refused.append(Refusal(name=name, batch=batch, reason=str(error)))
        return tuple(found)

    found = Comparison(machines=every(archs, of_arch), gpus=every(gpus, of_gpu), refused=tuple(refused))
    if not found.all:
        raise InputError(refused[0].reason)
    return found


def energy_scope(simulation: Simulation) -> str:
    """What the energy of ``simulation`` covers: comparing a chip with a board flatters the chip."""
    if isinstance(simulation.decode, GpuPhase):
        return "board"
    cores = simulation.accelerator.partition("@")[0] in core_machines()
    return "card" if cores else CHIP


def comparison_document(found: Comparison, costs: Costs, *, strict: bool = False) -> dict[str, Any]:
    """What ``mixflight compare`` says as one document.

    ``rows`` as ``simulate`` with cost, FlightLLM's ``claims`` where it is among the machines, ``advantages`` of every
    accelerator over every GPU, and what was ``refused``.
    """
    flightllm = any(item.accelerator == "flightllm-u280" for item in found.machines)
    return {
        "rows": [
            {
                "name": item.accelerator, "energy_scope": energy_scope(item),
                **token_cost(item, costs, strict=strict), **simulation_document(item),
            }
            for item in found.all
        ],
        "claims": [*claims(costs), *corrected_claims(found.machines, found.gpus, costs)] if flightllm else [],
        "advantages": advantages(found.machines, found.gpus, costs),
        "refused": found.refused,
    }  # fmt: skip
