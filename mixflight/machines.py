"""A machine or a GPU with its recipe, and one scenario run on it."""

import logging
from collections.abc import Sequence
from typing import get_args

import msgspec

from mixflight.arch.accelerator import Accelerator, accelerator_named
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.block_mask import Mask
from mixflight.sim.core.simulate import path_named, simulate_cores
from mixflight.sim.simulate import FloatOperands, Simulation, simulate
from mixflight.workload import load_workload
from mixflight.workloads.recipe import Recipe

LOG = logging.getLogger(__name__)

MODES = ("corrected",)


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """An accelerator and the recipe that the model has on it (None: the model's own formats)."""

    accelerator: Accelerator | CoreMachine
    recipe: str | None

    @staticmethod
    def parse(text: str, recipe: str | None = None) -> "Machine":
        """``ARCH`` or ``ARCH:RECIPE``; a recipe named here overrides ``recipe``."""
        arch, _, own = text.partition(":")
        if text.endswith(":"):
            raise InputError(f"ARCH:RECIPE must name a recipe after the colon, not {text!r}")
        return Machine(accelerator=accelerator_named(arch), recipe=own or recipe)


def run(
    machine: Machine, model: str, prefill: int, decode: int, batch: int = 1, mode: str = "corrected",
    float_operands: str = "refuse", path: str = "auto", masks: Sequence[Mask] = (),
) -> Simulation:  # fmt: skip
    """Simulate ``model`` on ``machine``; ``float_operands`` (refuse or int8): what integer machines do with floats;
    ``path`` (auto, fused, general) and ``masks`` (blocks of attention that the prefill computes) of cores."""
    if mode not in MODES:
        raise InputError(f"mode must be {' or '.join(MODES)} for {machine.accelerator.name}, not {mode!r}")
    workload = load_workload(model, machine.recipe)
    LOG.info("%s: prefill %d, decode %d, batch %d", machine.accelerator.name, prefill, decode, batch)
    operands = float_operands_named(float_operands)
    if isinstance(machine.accelerator, CoreMachine):
        check_rows(machine.accelerator, batch, workload.recipe)
        return simulate_cores(
            machine.accelerator, workload.model, workload.recipe, workload.recipe.name, prefill, decode, batch,
            float_operands=operands, path=path_named(path), masks=masks,
        )  # fmt: skip
    if masks:
        raise InputError(f"attention masks must be for a machine of cores, not {machine.accelerator.name}")
    return simulate(
        machine.accelerator, workload.model, workload.recipe, workload.recipe.name, prefill, decode, batch,
        operands,
    )  # fmt: skip


def check_rows(machine: CoreMachine, batch: int, recipe: Recipe) -> None:
    """Refuse passes of more than one row where chains in LUTs work on vectors: they have no second row packed in."""
    rows = batch > 1 or recipe.decode is not None
    if rows and isinstance(machine.mpe, Chains) and machine.mpe.fabric_chains_per_mpu:
        raise InputError(f"chains in LUTs must have batch 1 and a plain decode: they take one row, on {machine.name}")


def float_operands_named(text: str) -> FloatOperands:
    """The value of ``--float-operands``."""
    for known in get_args(FloatOperands):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"--float-operands must be {' or '.join(get_args(FloatOperands))}, not {text!r}")


def run_gpu(
    gpu: str, model: str, prefill: int, decode: int, recipe: str | None = None, batch: int = 1, mode: str = "corrected"
) -> Simulation:
    """The same on ``GPU`` or ``GPU:RECIPE``, by the GPU model."""
    from mixflight.sim.gpu.scenario import GpuRun, simulate_gpu

    found = GpuRun.parse(gpu, recipe)
    if mode not in MODES:
        raise InputError(f"mode must be one of {', '.join(MODES)}, not {mode!r}, for {found.gpu.name}")
    return simulate_gpu(found, load_workload(model, "fp16").model, prefill, decode, batch)
