"""Time and energy of a model's prefill and decode on the machines of equal area.

The scenarios: a prefill of 512 tokens, and one decode step at a context of 1,024 for batches of 1 to 256. Real shapes
(gated FFN where the model has one), attention over the cache, LM head, vector operators. Whether a batch's cache fits a
memory is not asked.
"""

import functools
from collections import defaultdict

import msgspec

from mixflight.sim.activity import Activity
from mixflight.sim.cost import energy_by_component
from mixflight.sim.mixpe_corrected.machines import SPLIT, Sized, formats_of, sized
from mixflight.sim.mixpe_corrected.prices import prices_for
from mixflight.sim.simulate import Engine
from mixflight.workloads.model import model_named
from mixflight.workloads.trace import Trace, decode_traces, prefill_trace

MODELS = ("opt-6.7b", "llama2-13b")
PREFILL = 512
CONTEXT = 1024
BATCHES = (1, 4, 16, 64, 256)
PHASES = ("prefill", *(f"decode-b{batch}" for batch in BATCHES))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One phase on one machine: what happened, and what bound it (by cycles)."""

    activity: Activity
    bound_by: str
    macs: int
    ms: float

    def picojoules(self, machine: Sized, dram_pj_per_bit: float, *, anchored: bool = False) -> float:
        """Energy without leakage, in pJ."""
        prices = prices_for(machine, dram_pj_per_bit, anchored=anchored)
        return sum(energy.pj for energy in energy_by_component(self.activity, prices).values())


def _trace(machine: Sized, model: str, phase: str) -> Trace:
    formats = formats_of(machine.candidate)
    if phase == "prefill":
        return prefill_trace(model_named(model), formats, PREFILL)
    batch = int(phase.removeprefix("decode-b"))
    return next(iter(decode_traces(model_named(model), formats, CONTEXT - 1, 1, batch)))


@functools.cache
def outcome(name: str, model: str, phase: str, split: int = SPLIT) -> Outcome:
    """``phase`` of ``model`` on the machine ``name``."""
    machine = sized(name)
    engine = Engine(machine.accelerator(split))
    parts, limits = [], defaultdict[str, float](float)
    trace = _trace(machine, model, phase)
    for operator in trace.operators:
        timed = engine.time(operator)
        parts.append(timed.activity.scaled(len(operator.layers)))
        limits[timed.bound_by] += timed.activity.cycles * len(operator.layers)
    total = Activity.total(parts)
    return Outcome(
        activity=total,
        bound_by=max(limits, key=lambda limit: limits[limit]),
        macs=trace.macs,
        ms=total.cycles / (engine.accelerator.clock_mhz * 1e3),
    )
