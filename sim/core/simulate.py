"""Prefill and decode of a scenario on FlightLLM cores, in the terms in which arrays are simulated."""

import numpy as np

from mixflight.arch.core import CoreMachine
from mixflight.arch.prices import PriceTable, machine_prices
from mixflight.sim.activity import Activity
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.scenario import Cores, Effects, Run, limits
from mixflight.sim.cost import energy_by_component, total_energy
from mixflight.sim.simulate import OperatorShare, Phase, Simulation
from mixflight.workloads.model import Model
from mixflight.workloads.trace import Formats, decode_traces, prefill_trace


def simulate_cores(
    machine: CoreMachine, model: Model, formats: Formats, formats_name: str, prefill: int, decode: int, batch: int = 1,
    effects: Effects | None = None,
) -> Simulation:  # fmt: skip
    """Prefill of ``prefill`` tokens, then ``decode`` steps at contexts prefill + 1 ... prefill + decode."""
    cores = Cores(machine, model, formats, max_context=prefill + decode, batch=batch, effects=effects)
    first = prefill_trace(model, formats, prefill, batch, decode)
    steps = sum(trace.macs for trace in decode_traces(model, formats, prefill, decode, batch))
    return Simulation(
        accelerator=machine.name, model=model.name, formats=formats_name, mode="corrected", batch=batch,
        prefill=phase_of(cores.machine, cores.run(first), batch * prefill, first.macs),
        decode=phase_of(cores.machine, cores.decode(prefill, decode), batch * decode, steps),
    )  # fmt: skip


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
