"""A scenario on a GPU: prefill and decode by the fitted model, or as measured where that very point was."""

from typing import Literal

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.gpu import Gpu, gpu_named
from mixflight.sim.cost import Energy
from mixflight.sim.gpu.fit import Committed, committed
from mixflight.sim.gpu.kernels import (
    Kernel,
    Packed,
    Storage,
    decode_kernels,
    int4_bytes_per_weight,
    pack,
    prefill_kernels,
)
from mixflight.sim.gpu.measured import Point, packaged_points
from mixflight.sim.gpu.model import Rates, Terms, kernel_terms, power_parts, rates_of, utilisations
from mixflight.sim.gpu.phase import GpuPhase
from mixflight.sim.simulate import Simulation
from mixflight.workloads.model import Model
from mixflight.workloads.recipe import Recipe, recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

INT4_RECIPE, IDEAL = "w4a16g128", "w4a16g128-ideal"
RECIPES = ("fp16", INT4_RECIPE, IDEAL)
REPEATABILITY = 0.04  # of a measured energy: 1 % in latency and 3 % in power, reports/gpu/data/README.md


class GpuRun(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU and the recipe that the model has on it."""

    gpu: Gpu
    recipe: str

    @staticmethod
    def parse(text: str, recipe: str | None = None) -> "GpuRun":
        """``GPU`` or ``GPU:RECIPE``; a recipe named here overrides ``recipe``, and without any it is fp16."""
        name, colon, own = text.partition(":")
        if colon and not own:
            raise InputError(f"GPU:RECIPE must name a recipe after the colon, not {text!r}")
        gpu, chosen = gpu_named(name), own or recipe or "fp16"
        if chosen not in RECIPES:
            raise InputError(f"the recipe of a GPU must be one of {', '.join(RECIPES)}, not {chosen!r}, for {name}")
        if chosen == INT4_RECIPE and not gpu.bf16:
            raise InputError(
                f"the 4-bit kernel of {INT4_RECIPE} must have BF16 tensor cores, and {name} has none; "
                f"fp16 and {IDEAL} are possible"
            )
        return GpuRun(gpu=gpu, recipe=chosen)


def storage_of(recipe: str, model: Model) -> Storage:
    """How ``recipe`` stores the weights of ``model``: 4-bit blocks as the measured kernel needs them, an FP16 head.

    The ideal stores what the recipe stores and multiplies as the 16-bit kernels do, at their shares of the bandwidth
    and of the tensor cores' rate.
    """
    if recipe == "fp16":
        return Storage()
    formats = recipe_named(INT4_RECIPE)
    for _, k in model.block_linears().values():
        formats.weight_format("layers.0.q").groups(k)
    if recipe == IDEAL:
        return Storage(block=formats.weight_format("layers.0.q").row_bits(128) / 8 / 128)
    return Storage(block=int4_bytes_per_weight(128), int4_block=True)


def simulate_gpu(run: GpuRun, model: Model, prefill: int, decode: int, batch: int = 1) -> Simulation:
    """Prefill of ``prefill`` tokens, then ``decode`` steps at contexts prefill + 1 ... prefill + decode.

    Kernels as graphs, back to back: host time, scheduling and sampling beyond argmax are not in the model. What does
    not fit in memory is an InputError.
    """
    formats: Recipe = recipe_named("fp16" if run.recipe == "fp16" else INT4_RECIPE)
    prefill_trace(model, formats, prefill, batch)
    decode_traces(model, formats, prefill, decode, batch)
    storage = storage_of(run.recipe, model)
    _fits(run, model, storage, prefill + decode, batch)
    contexts = range(prefill + 1, prefill + decode + 1)
    return Simulation(
        accelerator=run.gpu.name, model=model.name, formats=run.recipe, mode="corrected", batch=batch,
        prefill=_phase(
            run, model, "prefill", batch, prefill, prefill_kernels(model, storage, batch, prefill), batch * prefill,
            prefill_trace(model, formats, prefill, batch).macs, 1,
        ),
        decode=_phase(
            run, model, "decode", batch, contexts[0], decode_kernels(model, storage, batch, contexts), batch * decode,
            sum(trace.macs for trace in decode_traces(model, formats, prefill, decode, batch)), decode,
        ),
    )  # fmt: skip


def _fits(run: GpuRun, model: Model, storage: Storage, context: int, batch: int) -> None:
    blocks = model.layers * sum(n * k for n, k in model.block_linears().values())
    head = model.vocab * model.hidden
    weights = blocks * storage.block + head * storage.head + (0 if model.tied_head else 2 * head)
    cache = 2.0 * 2 * batch * context * model.layers * model.kv_heads * model.head_dim
    if weights + cache > run.gpu.memory_gb * 1e9:
        raise InputError(
            f"weights and cache must fit in the {run.gpu.memory_gb:g} GB of {run.gpu.name}, not need "
            f"{(weights + cache) / 1e9:.1f} GB: {model.name} {run.recipe}, batch {batch}, context {context}"
        )


def _phase(
    run: GpuRun, model: Model, phase: Literal["prefill", "decode"], batch: int, context: int, kernels: list[Kernel],
    tokens: int, macs: int, steps: int,
) -> GpuPhase:  # fmt: skip
    known = committed()
    packed = pack([kernels])
    rates = rates_of(run.gpu, known.fit.idle_share, fp16=run.recipe == "fp16")
    terms = kernel_terms(packed, rates, known.fit.time)
    seconds = float(packed.per_pass(terms.seconds)[0])
    parts = power_parts(utilisations(packed, rates, terms), rates, known.fit.power)
    watts = {name: float(part[0]) for name, part in parts.items()}
    error, source = _band(run, known)
    exact = _measured(run, model.name, phase, batch, context) if steps == 1 else None
    if exact:
        seconds, scale = exact.seconds, exact.power_w / sum(watts.values())
        watts = {name: part * scale for name, part in watts.items()}
        error, source = REPEATABILITY, "measured; band: repeatability of the measurement, 1 % in time and 3 % in power"
    components = {name: _energy(part * seconds, error) for name, part in watts.items() if part}
    bound, behind = _bounds(packed, rates, terms)
    return GpuPhase(
        tokens=tokens, time_ms=seconds * 1e3, energy=_energy(sum(watts.values()) * seconds, error),
        dram_bytes=sum(kernel.stored * kernel.count for kernel in kernels), macs=macs,
        bound_by=bound, next_bound=behind, operators=(), components=components, source=source,
    )  # fmt: skip


def _energy(joules: float, error: float) -> Energy:
    """An energy whose relative error (model - truth) / truth is within ``error`` either way."""
    return Energy(pj=joules * 1e12, low_pj=joules * 1e12 / (1 + error), high_pj=joules * 1e12 / (1 - error))


def _band(run: GpuRun, known: Committed) -> tuple[float, str]:
    measured = sorted({point.gpu for point in packaged_points()})
    files = " and ".join(f"{name}.csv" for name in measured)
    if run.recipe == IDEAL:
        return known.band.transferred, (
            f"ideal 4-bit kernel, no measurement behind it; shares of the data sheet fitted on {files}; band: largest "
            "error against a published figure"
        )
    if run.gpu.name not in measured:
        return known.band.transferred, (
            f"model fitted on measured {files}, transferred by data sheet; band: largest error against a published "
            "figure"
        )
    error = known.band.int4 if run.recipe == INT4_RECIPE else known.band.half
    return error, (
        f"model fitted on measured {files}; band: 95th percentile of the errors of held-back points of this kernel"
    )


def _measured(run: GpuRun, model: str, phase: str, batch: int, context: int) -> Point | None:
    """The measured point that is this very phase: FP16 only, for the measured 4-bit rows have a 4-bit head."""
    if run.recipe != "fp16":
        return None
    for point in packaged_points():
        key = (point.gpu, point.precision, point.model, point.phase, point.batch, point.context)
        if key == (run.gpu.name, "fp16", model, phase, batch, context):
            return point
    return None


def _bounds(packed: Packed, rates: Rates, terms: Terms) -> tuple[str, str]:
    """The limits with most time and with most after that: launch, or the largest term of each kernel's work."""
    work = np.stack([terms.memory, terms.tensor, np.maximum(terms.unpack, terms.int4)])
    largest = np.argmax(work, axis=0)
    totals = {"launch": float(packed.per_pass(terms.fixed)[0])}
    for index, name in enumerate(("dram", "tensor cores", "int4 kernel")):
        totals[name] = float(packed.per_pass(np.where(largest == index, terms.seconds - terms.fixed, 0.0))[0])
    first, second, *_ = sorted(totals, key=lambda name: -totals[name])
    return first, second
