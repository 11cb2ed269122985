"""What binds a scenario and what to change first, each claim re-simulated."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.core import Chains, CoreMachine
from mixflight.machines import Machine, run
from mixflight.mapping.block_mask import Mask
from mixflight.sim.core.passes import Passes
from mixflight.sim.core.scenario import Effects
from mixflight.sim.simulate import Phase, Simulation
from mixflight.workload import load_workload

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


CoreChange = Callable[[CoreMachine], tuple[CoreMachine, Effects]]
CORE_CHANGES: dict[str, CoreChange] = {
    "twice the HBM bandwidth": lambda m: (m, Effects(hbm_speed=2.0)),
    "twice the matrix engine": lambda m: (_twice_the_engine(m), Effects()),
    "twice the SFU": lambda m: (_with_core(m, sfu={"elements_per_cycle": 2 * m.sfu.elements_per_cycle}), Effects()),
    "twice the ports of small buffers": lambda m: (_twice_the_ports(m), Effects()),
    "twice the exchange": lambda m: (
        _with_core(m, exchange={"bytes_per_cycle": 2 * m.exchange.bytes_per_cycle}), Effects()
    ),
    "N:M positions as a bitmap": lambda m: (_with_core(m, memory_unit={"index_coding": "bitmap"}), Effects()),
    "twice the clock": lambda m: (
        msgspec.structs.replace(
            _with_core(m, hbm={"port_bytes_per_cycle": m.hbm.port_bytes_per_cycle / 2}), clock_mhz=2 * m.clock_mhz
        ), Effects(),
    ),
}  # fmt: skip


class Gain(msgspec.Struct, frozen=True, kw_only=True):
    """A single change and how many times faster it makes the phase (1: nothing gained)."""

    change: str
    speedup: float


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a phase takes its time: the share of each limit, and every single change re-simulated, best first."""

    phase: str
    limits: dict[str, float]
    next_limit: str
    gains: tuple[Gain, ...]

    @property
    def sentence(self) -> str:
        """What to change first, and what it gains."""
        limit = max(self.limits, key=lambda name: self.limits[name])
        best = self.gains[0]
        bound = f"{self.phase} is bound by {limit} for {self.limits[limit]:.0%} of its time, next by {self.next_limit}"
        if best.speedup < 1.01:
            return f"{bound}; doubling no single resource gains more than 1 %"
        return f"{bound}; change first: {best.change}, which makes it {best.speedup:.2f} times as fast (re-simulated)"


def explain(
    machine: Machine, model: str, prefill: int, decode: int, batch: int = 1, base: Simulation | None = None,
    masks: Sequence[Mask] = (),
) -> tuple[Explanation, Explanation]:  # fmt: skip
    """Explanations of prefill and decode. ``base`` is the scenario already simulated, if it is at hand. The gains of a
    decode on cores are those of its last step."""
    base = base or run(machine, model, prefill, decode, batch, masks=masks)
    if isinstance(machine.accelerator, CoreMachine):
        return _explain_cores(machine.accelerator, machine.recipe, model, prefill, decode, base, masks)
    accelerator = machine.accelerator
    machines = {
        name: Machine(accelerator=change(accelerator), recipe=machine.recipe)
        for name, change in CHANGES.items()
    }
    changed = {name: run(item, model, prefill, decode, batch) for name, item in machines.items()}
    return (
        _explain("prefill", base.prefill, {name: base.prefill.time_ms / item.prefill.time_ms
                                           for name, item in changed.items()}),
        _explain("decode", base.decode, {name: base.decode.time_ms / item.decode.time_ms
                                         for name, item in changed.items()}),
    )  # fmt: skip


def _explain_cores(
    machine: CoreMachine, recipe: str | None, model: str, prefill: int, decode: int, base: Simulation,
    masks: Sequence[Mask],
) -> tuple[Explanation, Explanation]:  # fmt: skip
    """Every change re-simulated on the path, fused or general, and in the groups in which ``base`` ran."""
    workload = load_workload(model, recipe)
    passes = Passes(
        workload.model, workload.recipe, prefill, decode, batch=-(-base.batch // base.groups),
        general=base.path == "general", masks=masks,
    )  # fmt: skip
    before = passes.times(machine)
    after = {name: passes.times(*change(machine)) for name, change in CORE_CHANGES.items()}
    prefills, decodes = ({name: before[i] / item[i] for name, item in after.items()} for i in range(2))
    return _explain("prefill", base.prefill, prefills), _explain("decode", base.decode, decodes)


def _explain(name: str, base: Phase, speedups: dict[str, float]) -> Explanation:
    return Explanation(
        phase=name, limits=limit_shares(base), next_limit=base.next_bound,
        gains=tuple(sorted((Gain(change=change, speedup=value) for change, value in speedups.items()),
                           key=lambda gain: -gain.speedup)),
    )  # fmt: skip


def limit_shares(phase: Phase) -> dict[str, float]:
    """Share of a phase's time that each limit binds, the largest first."""
    total = sum(item.cycles for item in phase.operators)
    found: dict[str, float] = {}
    for item in phase.operators:
        found[item.bound_by] = found.get(item.bound_by, 0.0) + item.cycles / total
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _with_core(machine: CoreMachine, **tables: Mapping[str, object]) -> CoreMachine:
    """``machine`` with fields of its tables changed, on a device without limits."""
    changes = {name: msgspec.structs.replace(getattr(machine, name), **fields) for name, fields in tables.items()}
    device = msgspec.structs.replace(machine.device, dsp=0, lut=0, ff=0, bram36=0, uram=0)
    return msgspec.structs.replace(machine, device=device, **changes)


def _twice_the_engine(machine: CoreMachine) -> CoreMachine:
    """Twice the chains (or columns), the widening and the lanes that feed them."""
    unit = {"widen_codes_per_cycle": 2 * machine.memory_unit.widen_codes_per_cycle,
            "lanes": 2 * machine.memory_unit.lanes}  # fmt: skip
    if isinstance(machine.mpe, Chains):
        chains = {"chains_per_mpu": 2 * machine.mpe.chains_per_mpu,
                  "mv_chains_per_mpu": 2 * machine.mpe.mv_chains_per_mpu}  # fmt: skip
        return _with_core(machine, memory_unit=unit, chains=chains)
    return _with_core(machine, memory_unit=unit, array={"cols": 2 * machine.mpe.cols, "lanes": 2 * machine.mpe.lanes})


def _twice_the_ports(machine: CoreMachine) -> CoreMachine:
    """Scale, index and small act buffers with twice the width and half the depth."""
    names = ("scale", "index", "act")
    halves = {
        name: msgspec.structs.replace(item, width_bytes=2 * item.width_bytes, depth=item.depth // 2)
        for name in names for item in (getattr(machine.buffers, name),)
    }  # fmt: skip
    return _with_core(machine, buffers=dict(halves))


def _with(accelerator: Accelerator, **tables: dict[str, object]) -> Accelerator:
    changes = {name: msgspec.structs.replace(getattr(accelerator, name), **fields) for name, fields in tables.items()}
    return msgspec.structs.replace(accelerator, **changes)
