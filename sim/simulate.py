"""A scenario on an accelerator: prefill and decode, time, energy, and what bound them."""

from collections import defaultdict
from typing import Literal

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.prices import PriceTable, machine_prices
from mixflight.mapping.compile import command_of
from mixflight.sim.activity import Activity
from mixflight.sim.cost import Energy, energy_by_component, total_energy
from mixflight.sim.engine import Timed, time_command
from mixflight.workloads.integer_operands import IntegerOperands
from mixflight.workloads.model import Model
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Formats, Trace, decode_traces, prefill_trace

FloatOperands = Literal["refuse", "int8"]


class OperatorShare(msgspec.Struct, frozen=True, kw_only=True):
    """What one operator took of a phase, all layers and steps together, its limit and the one behind that."""

    operator: str
    kind: str
    cycles: float
    bound_by: str
    utilisation: float
    energy: Energy
    next_bound: str = ""


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A prefill, or all steps of a decode: totals, and shares by operator and component.

    ``busy`` is each unit's share of the time where units have queues of their own.
    """

    tokens: int
    time_ms: float
    energy: Energy
    dram_bytes: float
    macs: int
    bound_by: str
    operators: tuple[OperatorShare, ...]
    components: dict[str, Energy]
    next_bound: str = ""
    busy: dict[str, float] = {}

    @property
    def power_w(self) -> float:
        """Mean power over the phase."""
        return self.energy.pj * 1e-12 / (self.time_ms * 1e-3)


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """Prefill and decode of one scenario on one machine. ``mode`` says under which rules, ``int8_operands`` which
    operators ran on INT8 in place of the floats of the recipe, ``path`` how cores ran it (fused or general) and in how
    many ``groups`` of sequences, one after another."""

    accelerator: str
    model: str
    formats: str
    mode: str
    batch: int
    prefill: Phase
    decode: Phase
    int8_operands: tuple[str, ...] = ()
    path: str = ""
    groups: int = 1


class Engine:
    """Times operators on one accelerator, each distinct one once."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.timed: dict[Operator, Timed] = {}

    def time(self, operator: Operator) -> Timed:
        """The timed command of ``operator``, for one layer."""
        if operator not in self.timed:
            self.timed[operator] = time_command(command_of(operator, self.accelerator), self.accelerator)
        return self.timed[operator]


def simulate(
    accelerator: Accelerator, model: Model, formats: Formats, formats_name: str, prefill: int, decode: int,
    batch: int = 1, float_operands: FloatOperands = "refuse",
) -> Simulation:  # fmt: skip
    """Prefill of ``prefill`` tokens, then ``decode`` steps at contexts prefill + 1 ... prefill + decode.

    ``float_operands``: what a machine does with floats that it does not compute with (an array of integers with all,
    one of FP16 with BF16 and F32), see ``workloads.integer_operands``.
    """
    engine = Engine(accelerator)
    operands = IntegerOperands(fp16_runs=accelerator.array.element.arithmetic != "integer")
    first = [prefill_trace(model, formats, prefill, batch, decode)]
    steps = list(decode_traces(model, formats, prefill, decode, batch))
    if float_operands == "int8":
        first, steps = [operands.of(trace) for trace in first], [operands.of(trace) for trace in steps]
    return Simulation(
        accelerator=accelerator.name, model=model.name, formats=formats_name, mode="corrected", batch=batch,
        prefill=_phase(engine, first, batch * prefill), decode=_phase(engine, steps, batch * decode),
        int8_operands=operands.changed,
    )  # fmt: skip


def _phase(engine: Engine, traces: list[Trace], tokens: int) -> Phase:
    accelerator = engine.accelerator
    prices = machine_prices(accelerator.technology, accelerator.memories)
    uses: dict[Operator, float] = defaultdict(float)
    for trace in traces:
        for operator in trace.operators:
            uses[operator] += len(operator.layers) * operator.probability
    by_name: dict[str, list[tuple[Timed, float]]] = defaultdict(list)
    for operator, times in uses.items():
        by_name[operator.name].append((engine.time(operator), times))
    activities = {}
    for name, parts in by_name.items():
        activity = Activity.total([timed.activity.scaled(times) for timed, times in parts])
        activities[name] = with_leakage(activity, accelerator, prices)
    total = Activity.total(list(activities.values()))
    limits: dict[str, float] = defaultdict(float)
    for parts in by_name.values():
        for timed, times in parts:
            limits[timed.bound_by] += times * timed.activity.cycles
    macs = sum(trace.macs for trace in traces)
    return Phase(
        tokens=tokens, time_ms=total.cycles / (accelerator.clock_mhz * 1e3), energy=total_energy(total, prices),
        dram_bytes=(total.counts["dram", "read_bit"] + total.counts["dram", "write_bit"]) / 8, macs=macs,
        bound_by=max(limits, key=lambda limit: limits[limit]),
        operators=tuple(
            OperatorShare(
                operator=name, kind=parts[0][0].kind, cycles=activities[name].cycles,
                bound_by=max(parts, key=lambda part: part[1] * part[0].activity.cycles)[0].bound_by,
                utilisation=_mean_utilisation(parts), energy=total_energy(activities[name], prices),
                next_bound=_next_bound(parts),
            )
            for name, parts in by_name.items()
        ),
        components=energy_by_component(total, prices),
        next_bound=_next_bound([part for parts in by_name.values() for part in parts]),
    )  # fmt: skip


def _next_bound(parts: list[tuple[Timed, float]]) -> str:
    """What would limit ``parts`` without their limit: the resource that was busy longest of the others, or latency."""
    limits: dict[str, float] = defaultdict(float)
    busy: dict[str, float] = defaultdict(float)
    for timed, times in parts:
        limits[timed.bound_by] += times * timed.activity.cycles
        for resource in ("array", "dram", "sfu"):
            busy[resource] += times * float(getattr(timed, f"{resource}_cycles"))
    bound = max(limits, key=lambda name: limits[name])
    busy.pop("array" if bound in ("array edge", "lanes") else bound, None)
    resource = max(busy, key=lambda name: busy[name])
    return resource if busy[resource] > 0 else "latency"


def _mean_utilisation(parts: list[tuple[Timed, float]]) -> float:
    cycles = sum(times * timed.activity.cycles for timed, times in parts)
    return sum(times * timed.activity.cycles * timed.utilisation for timed, times in parts) / cycles


def with_leakage(activity: Activity, accelerator: Accelerator, prices: PriceTable) -> Activity:
    """``activity`` with the leakage of every PE over its time, and of the buffers where a source has it."""
    array = accelerator.array
    nanoseconds = activity.cycles * 1e3 / accelerator.clock_mhz
    counts = {**activity.counts, (f"pe.{array.pe}", "leak_ns"): array.rows * array.cols * nanoseconds}
    for component, kib in accelerator.buffers.kib.items():
        if prices.has(component, "leak_kib_ns"):
            counts[component, "leak_kib_ns"] = kib * nanoseconds
    return Activity(activity.cycles, counts)
