"""Every preset recipe simulated in its own scenario: time, bytes and energy of the prefill and the decode."""

from collections.abc import Sequence

import msgspec

from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.machines import Machine, run
from mixflight.sim.simulate import Phase, Simulation
from mixflight.workloads.quantities import FITTING
from mixflight.workloads.recipe import Recipe, Scenario, recipes

ARCHS = ("mixpe-w4a8", "flightllm-u280")


class PhaseRun(msgspec.Struct, frozen=True, kw_only=True):
    """A prefill, or all steps of a decode (of a denoiser: its passes)."""

    time_ms: float
    dram_bytes: float
    energy_mj: float
    bound_by: str


class RecipeRun(msgspec.Struct, frozen=True, kw_only=True):
    """One recipe on one machine; ``refused`` says why there are no numbers. ``float_operands`` ran as INT8; ``path``:
    whether cores ran fused layers or any operators (general)."""

    id: str
    recipe: str
    arch: str
    model: str
    prefill_tokens: int
    decode_tokens: int
    prefill: PhaseRun | None = None
    decode: PhaseRun | None = None
    float_operands: tuple[str, ...] = ()
    refused: str = ""
    path: str = ""


def presets_of_methods() -> list[Recipe]:
    """The preset recipes that are rows of the list of methods."""
    return [recipe for recipe in recipes().values() if recipe.id]


def run_recipe(recipe: Recipe, arch: str) -> RecipeRun:
    """``recipe`` in its scenario on ``arch``, float operands of integer machines as INT8."""
    scenario = recipe.scenario or FITTING
    about = RecipeRun(
        id=recipe.id, recipe=recipe.name, arch=arch, model=scenario.model, prefill_tokens=scenario.prefill,
        decode_tokens=scenario.decode,
    )  # fmt: skip
    try:
        machine = Machine.parse(arch, recipe.name)
        found = _run(machine, scenario)
    except InputError as error:
        return msgspec.structs.replace(about, refused=str(error))
    return msgspec.structs.replace(
        about, prefill=_phase(found.prefill), decode=_phase(found.decode), float_operands=found.int8_operands,
        path=found.path,
    )  # fmt: skip


def _run(machine: Machine, scenario: Scenario) -> Simulation:
    """Fused layers on cores where they stand for the trace and fit the buffers, else operator by operator."""
    try:
        return run(machine, scenario.model, scenario.prefill, scenario.decode, float_operands="int8")
    except InputError:
        if not isinstance(machine.accelerator, CoreMachine):
            raise
    return run(machine, scenario.model, scenario.prefill, scenario.decode, float_operands="int8", path="general")


def run_recipes(wanted: Sequence[Recipe], archs: Sequence[str]) -> list[RecipeRun]:
    """All ``wanted`` on all ``archs``."""
    return [run_recipe(recipe, arch) for recipe in wanted for arch in archs]


def _phase(phase: Phase) -> PhaseRun:
    return PhaseRun(
        time_ms=phase.time_ms, dram_bytes=phase.dram_bytes, energy_mj=phase.energy.pj * 1e-9, bound_by=phase.bound_by
    )
