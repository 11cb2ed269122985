"""Every preset recipe simulated in its own scenario: time, bytes and energy of the prefill and the decode."""

import contextlib
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import msgspec

from mixflight.arch.accelerator import Accelerator, accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.sim.core.simulate import need_bytes, room_bytes, simulate_cores
from mixflight.sim.simulate import Phase, Simulation, simulate
from mixflight.workloads.model import Model, model_named
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
    whether cores ran fused layers or any operators (general). Where the memory of a machine of cores does not hold the
    model, ``layers`` of its ``model_layers`` ran, or, for recipes that name layers, a model of ``width`` of its heads,
    hidden and inner size."""

    id: str
    recipe: str
    arch: str
    model: str
    model_layers: int
    layers: int
    width: float = 1.0
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
    model = model_named(scenario.model)
    about = RecipeRun(
        id=recipe.id, recipe=recipe.name, arch=arch, model=scenario.model, model_layers=model.layers,
        layers=model.layers, prefill_tokens=scenario.prefill, decode_tokens=scenario.decode,
    )  # fmt: skip
    try:
        machine = accelerator_named(arch)
        for fitting in _fitting(machine, model, recipe, scenario):
            width = fitting.hidden / model.hidden
            about = msgspec.structs.replace(about, layers=fitting.layers, width=width, refused="")
            try:
                found = _run(machine, fitting, recipe, scenario)
            except InputError as error:
                about = msgspec.structs.replace(about, refused=str(error))
                continue
            return msgspec.structs.replace(
                about, prefill=_phase(found.prefill), decode=_phase(found.decode), float_operands=found.int8_operands,
                path=found.path,
            )  # fmt: skip
    except InputError as error:
        about = msgspec.structs.replace(about, refused=str(error))
    return about


def _fitting(
    machine: Accelerator | CoreMachine, model: Model, recipe: Recipe, scenario: Scenario
) -> Iterator[Model]:  # fmt: skip
    """``model``; where cores' memory does not hold it, as many of its layers as fit, then all in half the width."""
    if not isinstance(machine, CoreMachine):
        yield model
        return

    room = room_bytes(machine)

    def fits(candidate: Model) -> bool:
        return need_bytes(candidate, recipe, scenario.prefill, scenario.decode) <= room

    if fits(model):
        yield model
        return
    with contextlib.suppress(InputError):  # a recipe may name layers that a cut model lacks
        few, many = 1, model.layers  # ``many`` does not fit
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if fits(_cut(model, middle)) else (few, middle)
        yield _cut(model, few)
    narrow = model
    while narrow.kv_heads % 2 == 0 and not fits(narrow):
        narrow = _halved(narrow)
    yield narrow


def _cut(model: Model, layers: int) -> Model:
    return msgspec.structs.replace(model, layers=layers)


def _halved(model: Model) -> Model:
    """``model`` with half of the heads, and half of the hidden and inner size."""
    return msgspec.structs.replace(
        model, heads=model.heads // 2, kv_heads=model.kv_heads // 2, hidden=model.hidden // 2, ffn=model.ffn // 2
    )


def _run(machine: Accelerator | CoreMachine, model: Model, recipe: Recipe, scenario: Scenario) -> Simulation:
    """Fused layers on cores where they stand for the trace and fit the buffers, else operator by operator."""
    tokens = scenario.prefill, scenario.decode
    if not isinstance(machine, CoreMachine):
        return simulate(machine, model, recipe, recipe.name, *tokens, float_operands="int8")
    try:
        return simulate_cores(machine, model, recipe, recipe.name, *tokens, float_operands="int8")
    except InputError:
        return simulate_cores(machine, model, recipe, recipe.name, *tokens, float_operands="int8", path="general")


def run_recipes(wanted: Sequence[Recipe], archs: Sequence[str], jobs: int = 1) -> list[RecipeRun]:
    """All ``wanted`` on all ``archs``, recipe by recipe, in ``jobs`` processes."""
    pairs = [(recipe, arch) for recipe in wanted for arch in archs]
    if jobs < 2 or len(pairs) < 2 * jobs:
        return [run_recipe(recipe, arch) for recipe, arch in pairs]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(run_recipe, *zip(*pairs, strict=True)))


def _phase(phase: Phase) -> PhaseRun:
    return PhaseRun(
        time_ms=phase.time_ms, dram_bytes=phase.dram_bytes, energy_mj=phase.energy.pj * 1e-9, bound_by=phase.bound_by
    )
