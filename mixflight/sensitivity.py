"""Which number decides that A beats B: every price and assumption moved alone to its lowest and its highest.

    sensitivity   the rows of ``mixflight sensitivity``

A *price* is moved by component, for both machines at once where both take it from the same table (technology, or DRAM
standard): energy is linear in prices, nothing is simulated again. A whole *table* is taken in place of another on all
machines that have it, which are charged anew. An *assumption* (``sensitivity.toml``) is moved on
one machine and that machine simulated again. A *cost* (``arch/costs.toml``) moves what both share, or one machine's
price. Of a GPU the energy is moved to the ends of its model's error band, and a measured 4-bit kernel is replaced by
the ideal one. The ratio is A's metric over B's: A beats B above 1, and a number *flips* the conclusion where the ratio
crosses 1. A machine that cannot run with a moved parameter has no ratio there, and the row says why.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from mixflight.arch.core import CoreMachine
from mixflight.arch.costs import Amount, Costs
from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.machines import Machine, run, run_gpu
from mixflight.sim.gpu.scenario import IDEAL, INT4_RECIPE, GpuRun
from mixflight.sim.simulate import Simulation

METRICS = ("tokens_per_joule", "tokens_per_s", "tokens_per_usd")
Tried = dict[tuple[str, str, float | str], Simulation | str]
"""Machine, parameter and value -> what came of it: the first machine is moved once, not once for every other."""


class Assumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A parameter of arrays or of machines of cores, and the range it is moved over."""

    machine: Literal["array", "cores"]
    parameter: str
    low: float
    high: float
    times: bool = False
    source: str


class OtherTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price table that can stand in place of ``technology``'s on machines of arrays, and what it says otherwise."""

    technology: str
    other: str
    source: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    assumption: tuple[Assumption, ...]
    table: tuple[OtherTable, ...]


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What all machines run."""

    model: str
    prefill: int
    decode: int
    batch: int = 1


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """One number at its lowest and its highest, and A's metric over B's at both; ``base`` with nothing moved.

    ``low`` and ``high`` are values in the parameter's unit; of prices and of energies, multiples of the base value. A
    ratio is None where the machine cannot run so, and ``error`` says why.
    """

    parameter: str
    of: str
    against: str
    kind: Literal["price", "assumption", "cost"]
    low: float | str
    high: float | str
    base: float
    ratio_low: float | None
    ratio_high: float | None
    flips: bool
    source: str
    error: str = ""

    @property
    def swing(self) -> float:
        """How far the ratio moves, as a factor."""
        values = [ratio for ratio in (self.ratio_low, self.base, self.ratio_high) if ratio is not None]
        return max(values) / min(values)


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One machine with its simulation; ``machine`` is None of a GPU."""

    name: str
    text: str
    simulation: Simulation
    machine: Machine | None

    def group(self, component: str) -> str:
        """The table that prices ``component``: machines with the same one move together."""
        assert self.machine is not None
        memories = self.machine.accelerator.memories
        if component in memories:
            return f"{memories[component].upper().split('-')[0]} DRAM"
        return f"{component} ({self.machine.accelerator.technology})"


def assumptions() -> tuple[Assumption, ...]:
    """The assumptions that are moved."""
    return _file().assumption


@functools.cache
def _file() -> _File:
    path = Path(__file__).with_name("sensitivity.toml")
    table: _File = convert(read_toml(path), _File, path.name)
    return table


def sensitivity(
    archs: Sequence[str], gpus: Sequence[str], scenario: Scenario, metric: str, costs: Costs, recipe: str | None = None,
) -> list[Moved]:  # fmt: skip
    """Rows of the first machine named against each other one, the largest swing first."""
    if metric not in METRICS:
        raise InputError(f"--metric must be one of {', '.join(METRICS)}, not {metric!r}")
    if len(archs) + len(gpus) < 2:
        raise InputError(f"sensitivity must have at least two machines, not {len(archs) + len(gpus)}")
    sides = [_arch(text, scenario, recipe) for text in archs] + [_gpu(text, scenario, recipe) for text in gpus]
    tried: Tried = {}
    found = [row for other in sides[1:] for row in _pair(sides[0], other, scenario, metric, costs, tried)]
    return sorted(found, key=lambda row: (sides.index(_named(sides, row.against)), -row.swing))


def _named(sides: Sequence[Side], name: str) -> Side:
    return next(side for side in sides if side.name == name)


def _arch(text: str, scenario: Scenario, recipe: str | None) -> Side:
    machine = Machine.parse(text, recipe)
    found = run(machine, scenario.model, scenario.prefill, scenario.decode, scenario.batch)
    return Side(name=f"{found.accelerator}:{found.formats}", text=text, simulation=found, machine=machine)


def _gpu(text: str, scenario: Scenario, recipe: str | None) -> Side:
    found = run_gpu(text, scenario.model, scenario.prefill, scenario.decode, recipe, scenario.batch)
    return Side(name=f"{found.accelerator}:{found.formats}", text=text, simulation=found, machine=None)


def value(simulation: Simulation, metric: str, costs: Costs, energy_pj: float | None = None) -> float:
    """The metric of decode; ``energy_pj`` in place of the simulation's own energy."""
    decode = simulation.decode
    energy = decode.energy.pj if energy_pj is None else energy_pj
    rate = decode.tokens / decode.time_ms * 1e3
    if metric == "tokens_per_s":
        return rate
    if metric == "tokens_per_joule":
        return decode.tokens / energy * 1e12
    return 1 / costs.usd_per_token(simulation.accelerator, rate, energy * 1e-9 / decode.time_ms)


def _pair(a: Side, b: Side, scenario: Scenario, metric: str, costs: Costs, tried: Tried) -> list[Moved]:
    base = value(a.simulation, metric, costs) / value(b.simulation, metric, costs)
    row = functools.partial(_row, a, b, base)
    found: list[Moved] = []
    if metric != "tokens_per_s":
        found += _prices(a, b, metric, costs, row)
        found += _other_tables(a, b, scenario, metric, costs, row, tried)
    if metric == "tokens_per_usd":
        found += _costs(a, b, metric, costs, row)
    for side in (a, b):
        found += _assumptions(a, b, side, scenario, metric, costs, row, tried)
    return found


def _row(
    a: Side, b: Side, base: float, parameter: str, of: str, kind: Any, low: float | str, high: float | str,
    ratio_low: float | None, ratio_high: float | None, source: str, error: str = "",
) -> Moved:  # fmt: skip
    flips = any((ratio > 1) != (base > 1) for ratio in (ratio_low, ratio_high) if ratio is not None)
    return Moved(
        parameter=parameter, of=of, against=b.name, kind=kind, low=low, high=high, base=base, ratio_low=ratio_low,
        ratio_high=ratio_high, flips=flips, source=source, error=error,
    )  # fmt: skip


def _prices(a: Side, b: Side, metric: str, costs: Costs, row: Callable[..., Moved]) -> list[Moved]:
    found = []
    tables: dict[str, dict[str, None]] = {}
    for side in (a, b):
        for component in side.simulation.decode.components if side.machine else ():
            tables.setdefault(side.group(component), {})[side.name] = None
    for table, owners in tables.items():
        ends = {
            end: [value(side.simulation, metric, costs, _energy(side, table, end)) for side in (a, b)]
            for end in ("low_pj", "high_pj")
        }
        low, high = (_multiple(a if a.name in owners else b, table, end) for end in ("low_pj", "high_pj"))
        if low == high:
            continue
        found.append(row(
            f"price of {table}", " and ".join(owners), "price", low, high,
            ends["low_pj"][0] / ends["low_pj"][1], ends["high_pj"][0] / ends["high_pj"][1],
            "spread of the price's sources",
        ))  # fmt: skip
    for side in (a, b):
        if side.machine is None:
            energy = side.simulation.decode.energy
            ratios = []
            for end in (energy.low_pj, energy.high_pj):
                other = value(side.simulation, metric, costs, end)
                ours = (other, value(b.simulation, metric, costs)) if side is a else (
                    value(a.simulation, metric, costs), other)  # fmt: skip
                ratios.append(ours[0] / ours[1])
            source = getattr(side.simulation.decode, "source", "")
            low, high = energy.low_pj / energy.pj, energy.high_pj / energy.pj
            found.append(row("energy of the GPU model", side.name, "price", low, high, *ratios, source))
    return found


def _other_tables(
    a: Side, b: Side, scenario: Scenario, metric: str, costs: Costs, row: Callable[..., Moved], tried: Tried
) -> list[Moved]:
    """A row for each table that can stand in place of one that a machine has; low is the machine's own."""
    found = []
    for item in _file().table:
        owners = [side for side in (a, b) if side.machine and side.machine.accelerator.technology == item.technology]
        if not owners:
            continue
        values, errors = [], []
        for side in (a, b):
            moved: Simulation | str = side.simulation
            if side in owners and side.machine:
                moved = _once(tried, side, "technology", item.other, scenario)
            if isinstance(moved, str):
                errors.append(f"with {item.other}: {moved}")
            else:
                values.append(value(moved, metric, costs))
        base = value(a.simulation, metric, costs) / value(b.simulation, metric, costs)
        found.append(row(
            f"{item.other} for {item.technology}", " and ".join(side.name for side in owners), "price", item.technology,
            item.other, base, None if errors else values[0] / values[1], item.source, "; ".join(errors),
        ))  # fmt: skip
    return found


def _energy(side: Side, table: str, end: str) -> float:
    """Energy of decode with the components of ``table`` at one end of their bands."""
    energy = side.simulation.decode.energy.pj
    if side.machine is None:
        return energy
    for component, part in side.simulation.decode.components.items():
        if side.group(component) == table:
            energy += float(getattr(part, end)) - part.pj
    return energy


def _multiple(side: Side, table: str, end: str) -> float:
    parts = [part for name, part in side.simulation.decode.components.items() if side.group(name) == table]
    total = sum(part.pj for part in parts)
    return sum(float(getattr(part, end)) for part in parts) / total if total else 1.0


def _costs(a: Side, b: Side, metric: str, costs: Costs, row: Callable[..., Moved]) -> list[Moved]:
    found = []

    def ratio(changed: Costs) -> float:
        return value(a.simulation, metric, changed) / value(b.simulation, metric, changed)

    shared = ("electricity_usd_per_kwh", "lifetime_years", "utilisation")
    for name in shared:
        amount: Amount = getattr(costs, name)
        ends = [
            ratio(msgspec.structs.replace(costs, **{name: _fixed(amount, end)})) for end in (amount.low, amount.high)
        ]
        found.append(row(name, "both", "cost", amount.low, amount.high, *ends, amount.source))
    for side in (a, b):
        name = side.simulation.accelerator
        price = costs.price_of(name)
        field = "usd" if price.usd is not None else "usd_per_hour"
        ends = []
        for end in (price.amount.low, price.amount.high):
            changed = msgspec.structs.replace(price, **{field: _fixed(price.amount, end)})
            ends.append(ratio(msgspec.structs.replace(costs, machine={**costs.machine, name: changed})))
        amount = price.amount
        found.append(row(f"{field} of {name}", side.name, "cost", amount.low, amount.high, *ends, amount.source))
    return found


def _fixed(amount: Amount, end: float) -> Amount:
    return msgspec.structs.replace(amount, value=end, low=min(end, amount.low), high=max(end, amount.high))


def _assumptions(
    a: Side, b: Side, side: Side, scenario: Scenario, metric: str, costs: Costs, row: Callable[..., Moved], tried: Tried
) -> list[Moved]:
    def ratio(changed: Simulation) -> float:
        both = (changed, b.simulation) if side is a else (a.simulation, changed)
        return value(both[0], metric, costs) / value(both[1], metric, costs)

    if side.machine is None:
        return _kernel(side, scenario, ratio, row)
    rows = []
    kind = "cores" if isinstance(side.machine.accelerator, CoreMachine) else "array"
    for item in assumptions():
        if item.machine != kind:
            continue
        ends = [_moved(side.machine, item, end) for end in (item.low, item.high)]
        found = [_once(tried, side, item.parameter, end, scenario) for end in ends]
        ratios = [None if isinstance(one, str) else ratio(one) for one in found]
        errors = [f"at {end:g}: {one}" for end, one in zip(ends, found, strict=True) if isinstance(one, str)]
        parameter = f"{item.parameter} of {side.simulation.accelerator}"
        rows.append(row(parameter, side.name, "assumption", *ends, *ratios, item.source, "; ".join(errors)))
    return rows


def _kernel(
    side: Side, scenario: Scenario, ratio: Callable[[Simulation], float], row: Callable[..., Moved]
) -> list[Moved]:
    gpu = GpuRun.parse(side.text, side.simulation.formats)
    if gpu.recipe != INT4_RECIPE:
        return []
    ideal = run_gpu(
        f"{gpu.gpu.name}:{IDEAL}", scenario.model, scenario.prefill, scenario.decode, None, scenario.batch
    )  # fmt: skip
    return [row(
        f"4-bit kernel of {gpu.gpu.name}", side.name, "assumption", INT4_RECIPE, IDEAL, ratio(side.simulation),
        ratio(ideal),
        "low: the measured kernel; high: one as good as the 16-bit kernels",
    )]  # fmt: skip


def _moved(machine: Machine, item: Assumption, end: float) -> float:
    """The parameter's value at one end; whole numbers stay whole, and at least 1."""
    old = functools.reduce(getattr, item.parameter.split("."), machine.accelerator)
    new = old * end if item.times else end  # type: ignore[operator]
    return max(1, round(new)) if isinstance(old, int) else new


def _once(tried: Tried, side: Side, parameter: str, value: float | str, scenario: Scenario) -> Simulation | str:
    """``_tried`` of ``side``, or what came of it before."""
    assert side.machine is not None
    key = side.name, parameter, value
    if key not in tried:
        tried[key] = _tried(side.machine, parameter, value, scenario)
    return tried[key]


def _tried(machine: Machine, parameter: str, value: float | str, scenario: Scenario) -> Simulation | str:
    """The scenario with one parameter moved, or why the machine cannot run so."""
    try:
        changed = _with(machine, parameter, value)
    except ValueError as error:  # a check of the machine's own
        return str(error)
    try:
        return run(changed, scenario.model, scenario.prefill, scenario.decode, scenario.batch)
    except InputError as error:
        return str(error)


def _with(machine: Machine, parameter: str, value: float | str) -> Machine:
    """``machine`` with one parameter at ``value``."""
    accelerator: Any = machine.accelerator
    *tables, field = parameter.split(".")
    changed = msgspec.structs.replace(functools.reduce(getattr, tables, accelerator), **{field: value})
    if tables:
        changed = msgspec.structs.replace(accelerator, **{tables[0]: changed})
    return msgspec.structs.replace(machine, accelerator=changed)
