"""What binds a scenario and what to change first, each claim re-simulated."""

from collections.abc import Callable

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.machines import Machine, run
from mixflight.sim.simulate import Phase, Simulation

# One change each: a resource doubled, everything else as it is. Lanes grow with the columns: each serves as many.
CHANGES: dict[str, Callable[[Accelerator], Accelerator]] = {
    "twice the DRAM bandwidth": lambda a: _with(a, dram={"peak_gb_s": 2 * a.dram.peak_gb_s}),
    "half the DRAM latency": lambda a: _with(a, dram={"latency_ns": a.dram.latency_ns / 2}),
    "twice the rows": lambda a: _with(a, array={"rows": 2 * a.array.rows}),
    "twice the columns": lambda a: _with(a, array={"cols": 2 * a.array.cols, "lanes": 2 * a.array.lanes}),
    "twice the SFU": lambda a: _with(a, sfu={"elements_per_cycle": 2 * a.sfu.elements_per_cycle}),
    "twice the buffers": lambda a: _with(
        a, buffers={name: 2 * getattr(a.buffers, name) for name in ("weight_kib", "act_kib", "output_kib")}
    ),
    "twice the clock": lambda a: msgspec.structs.replace(a, clock_mhz=2 * a.clock_mhz),
}


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """A single change and how many times faster it makes the phase (1: nothing gained)."""

    change: str
    speedup: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a phase takes its time: the share of each limit, and every single change re-simulated, best first."""

    phase: str
    limits: dict[str, float]
    gains: tuple[Gain, ...]

    @property
    def sentence(self) -> str:
        """What to change first, and what it gains."""
        limit = max(self.limits, key=lambda name: self.limits[name])
        best = self.gains[0]
        bound = f"{self.phase} is bound by {limit} for {self.limits[limit]:.0%} of its time"
        if best.speedup < 1.01:
            return f"{bound}; doubling no single resource gains more than 1 %"
        return f"{bound}; change first: {best.change}, which makes it {best.speedup:.2f} times as fast (re-simulated)"


def explain(
    machine: Machine, model: str, prefill: int, decode: int, batch: int = 1, base: Simulation | None = None
) -> tuple[Explanation, Explanation]:
    """Explanations of prefill and decode. ``base`` is the scenario already simulated, if it is at hand."""
    base = base or run(machine, model, prefill, decode, batch)
    machines = {
        name: Machine(accelerator=change(machine.accelerator), recipe=machine.recipe)
        for name, change in CHANGES.items()
    }
    changed = {name: run(item, model, prefill, decode, batch) for name, item in machines.items()}
    return (
        _explain("prefill", base.prefill, {name: item.prefill for name, item in changed.items()}),
        _explain("decode", base.decode, {name: item.decode for name, item in changed.items()}),
    )


def _explain(name: str, base: Phase, changed: dict[str, Phase]) -> Explanation:
    total = sum(item.cycles for item in base.operators)
    limits: dict[str, float] = {}
    for item in base.operators:
        limits[item.bound_by] = limits.get(item.bound_by, 0.0) + item.cycles / total
    gains = [Gain(change=change, speedup=base.time_ms / phase.time_ms) for change, phase in changed.items()]
    return Explanation(
        phase=name, limits=dict(sorted(limits.items(), key=lambda item: -item[1])),
        gains=tuple(sorted(gains, key=lambda gain: -gain.speedup)),
    )  # fmt: skip


def _with(accelerator: Accelerator, **tables: dict[str, object]) -> Accelerator:
    changes = {name: msgspec.structs.replace(getattr(accelerator, name), **fields) for name, fields in tables.items()}
    return msgspec.structs.replace(accelerator, **changes)
