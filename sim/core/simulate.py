"""Prefill and decode of a scenario on FlightLLM cores, in the terms in which arrays are simulated.

A trace of a plain decoder runs *fused* (``mapping.core_compile``), any other one *general*, operator by operator
(``mapping.core_general``). A decoder is plain where its steps follow each other token by token, no operator runs with a
probability, and operators read what their formats and the context say.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.prices import PriceTable, machine_prices
from mixflight.mapping.block_mask import Mask
from mixflight.mapping.core_network import network_of
from mixflight.sim.activity import Activity
from mixflight.sim.core.general import GeneralCores
from mixflight.sim.core.groups import run_grouped
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.scenario import Cores, Effects, Run, limits
from mixflight.sim.cost import energy_by_component, total_energy
from mixflight.sim.simulate import FloatOperands, OperatorShare, Phase, Simulation
from mixflight.workloads.integer_operands import IntegerOperands
from mixflight.workloads.model import Model
from mixflight.workloads.operators import Operator
from mixflight.workloads.quantities import Measured, resident_bytes
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.trace import Formats, Trace, decode_traces, prefill_trace

Path = Literal["auto", "fused", "general"]


def path_named(text: str) -> Path:
    """The value of a ``path``."""
    for known in get_args(Path):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise InputError(f"path must be one of {', '.join(get_args(Path))}, not {text!r}")


def simulate_cores(
    machine: CoreMachine, model: Model, formats: Formats, formats_name: str, prefill: int, decode: int, batch: int = 1,
    effects: Effects | None = None, float_operands: FloatOperands = "refuse", path: Path = "auto",
    masks: Sequence[Mask] = (),
) -> Simulation:  # fmt: skip
    """Prefill of ``prefill`` tokens, then ``decode`` steps at contexts prefill + 1 ... prefill + decode.

    ``path``: fused or general; auto takes fused for plain decoders, in groups of sequences (``groups``) where the
    buffers do not hold the batch. ``float_operands`` int8 runs general where there are floats. ``masks``: blocks of
    attention that the prefill computes, for all layers or one a layer; fused only.
    """
    first = prefill_trace(model, formats, prefill, batch, decode)
    steps = list(decode_traces(model, formats, prefill, decode, batch))
    operands = IntegerOperands()
    if float_operands == "int8":
        first, steps = operands.of(first), [operands.of(trace) for trace in steps]

    def cores_of(sequences: int) -> Cores:
        return Cores(
            machine, model, formats, max_context=prefill + decode, batch=sequences, effects=effects, masks=masks
        )  # fmt: skip

    cores, groups = cores_of(batch), 1
    if path == "auto":
        path = "general" if operands.changed or not is_plain(first, steps, prefill) else "fused"
    if masks and path == "general":
        raise InputError(f"attention masks must be for a plain decoder with integer operands, not this {model.name}")
    if path == "fused":
        grouped = run_grouped(cores_of, batch, prefill, decode)
        runs, groups = (grouped.prefill, grouped.decode), grouped.groups
    else:
        _check_memory(machine, model, formats, prefill, decode, batch)
        general = GeneralCores(cores.machine, cores.units)
        runs = general.run([first], [1.0]), general.decode(steps)
    return Simulation(
        accelerator=machine.name, model=model.name, formats=formats_name, mode="corrected", batch=batch,
        prefill=phase_of(cores.machine, runs[0], batch * prefill, first.macs),
        decode=phase_of(cores.machine, runs[1], batch * decode, sum(trace.macs for trace in steps)),
        int8_operands=operands.changed, path=path, groups=groups,
    )  # fmt: skip


def is_plain(first: Trace, steps: Sequence[Trace], prefill: int) -> bool:
    """Whether the fused layers stand for exactly what these traces say."""
    contexts = [trace.context for trace in steps]
    if contexts != list(range(prefill + 1, prefill + len(steps) + 1)):
        return False
    for trace in (first, *steps[:1], *steps[-1:]):
        if trace.phase == "decode" and (trace.tokens != 1 or trace.kept != 1):
            return False
        if not all(_as_stated(operator, trace) for operator in trace.operators):
            return False
        try:
            network_of(trace)
        except InputError:
            return False
    return True


def _as_stated(operator: Operator, trace: Trace) -> bool:
    """Whether an operator is certain, sees the whole context, and reads rows of its format (to a byte: a recipe's
    8-bit scale is laid out in 16)."""
    weight = operator.weight
    if operator.probability != 1 or (trace.phase == "decode" and operator.kind != "linear" and operator.density != 1):
        return False
    if operator.kind in ("qk", "av") and weight is not None:
        tokens, length = (operator.n, operator.k) if operator.kind == "qk" else (operator.k, operator.n)
        bits = operator.count * tokens * weight.row_bits(length)
        return tokens == trace.context and abs(bits - 8 * operator.kv_read_bytes) <= 8 * operator.count * tokens
    if operator.kind == "linear" and weight is not None and not operator.keep_m:
        bits = operator.n * weight.row_bits(operator.k)
        return operator.density == 1 and abs(bits - 8 * operator.weight_bytes) <= 8 * operator.n
    return True


def room_bytes(machine: CoreMachine) -> int:
    """Bytes of the channels that the cores of ``machine`` own."""
    return machine.cores * machine.hbm.channels_per_core * machine.hbm.capacity_bytes // machine.hbm.channels


def need_bytes(model: Model, recipe: Recipe, prefill: int, decode: int, batch: int = 1) -> int:
    """Bytes of weights and caches of a scenario, as stored."""
    return round(resident_bytes(Measured(recipe, model, prefill, decode, batch)))


def _check_memory(
    machine: CoreMachine, model: Model, formats: Formats, prefill: int, decode: int, batch: int
) -> None:  # fmt: skip
    """Weights and caches must fit the channels that cores own."""
    if not isinstance(formats, Recipe):
        return
    need, room = need_bytes(model, formats, prefill, decode, batch), room_bytes(machine)
    if need > room:
        raise InputError(
            f"{model.name} must fit the memory of {machine.name}: {need:,} of {room:,} bytes in the channels of its "
            "cores"
        )


def phase_of(machine: CoreMachine, run: Run, tokens: int, macs: int) -> Phase:
    """``run`` with its energy; ``macs`` as the trace counts them."""
    prices = machine_prices(machine.technology, machine.memories)
    whole = Activity(run.cycles, {key: float(values.sum()) for key, values in run.counts.items()})
    whole.counts.update(counts_over_time(machine, run.cycles))
    bound, behind = limits(run.load)
    return Phase(
        tokens=tokens, time_ms=run.cycles / (machine.clock_mhz * 1e3), energy=total_energy(whole, prices),
        dram_bytes=sum(whole.counts.get((memory, f"{way}_bit"), 0.0) for memory in machine.memories
                       for way in ("read", "write")) / 8,
        macs=macs, bound_by=bound, next_bound=behind, operators=_shares(machine, run, prices),
        components=energy_by_component(whole, prices), busy=run.busy,
    )  # fmt: skip


def _shares(machine: CoreMachine, run: Run, prices: PriceTable) -> tuple[OperatorShare, ...]:
    """Operators that took time; a machine-wide action by time goes to whoever owned the time. Utilisation is of the
    owned time, or of that in which the operator kept a unit busy beside others, if that is longer."""
    owned = run.spent.sum(axis=1)
    scale = run.cycles / float(owned.sum())
    macs = np.sum([values for (component, _), values in run.counts.items() if component.startswith("pe.")], axis=0)
    peak = machine.cores * machine.mm_macs_per_cycle
    found = []
    for index in np.argsort(-owned, kind="stable").tolist():
        cycles = float(owned[index]) * scale
        if cycles == 0:
            continue
        counts = {key: float(values[index]) for key, values in run.counts.items()}
        bound, behind = limits(run.load[index : index + 1])
        found.append(OperatorShare(
            operator=run.names[index], kind=run.kinds[index], cycles=cycles, bound_by=bound, next_bound=behind,
            utilisation=float(macs[index]) / (max(cycles, float(run.load[index].max())) * peak),
            energy=total_energy(Activity(cycles, counts | counts_over_time(machine, cycles)), prices),
        ))  # fmt: skip
    return tuple(found)
