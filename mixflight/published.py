"""FlightLLM under its publication's rules, as the command line and the API give it out."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine, flightllm_machine
from mixflight.arch.isa import CLASSES
from mixflight.mapping.attention_mask import load_masks
from mixflight.mapping.published_program import PublishedProgram
from mixflight.mapping.published_recipe import flightllm_artifact
from mixflight.sim.published import PublishedSimulator
from mixflight.sim.queues import Execution
from mixflight.workloads.model import model_named

MACHINES = {"flightllm-vhk158": "vhk158-published", "flightllm-u280": "u280"}
RECIPE = "flightllm-artifact"

_UNIT = {"LD": "dram", "ST": "dram", "MM": "array", "MV": "array", "MISC": "sfu", "SYS": "barrier"}


class Preset(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe of mode ``published`` as the lists of presets show it."""

    name: str
    summary: str


def published_recipes() -> list[Preset]:
    """The recipes that exist in mode ``published`` only."""
    return [Preset(name=RECIPE, summary=f"{flightllm_artifact().summary} (--mode published)")]


def published_simulator(arch: str, model: str, recipe: str | None) -> PublishedSimulator:
    """The simulator of ``arch`` in mode ``published``, which has one recipe."""
    if arch not in MACHINES:
        raise InputError(f"mode published must have an ARCH of {', '.join(MACHINES)}, not {arch!r}")
    if recipe not in (None, RECIPE):
        raise InputError(f"mode published must have the recipe {RECIPE}, not {recipe!r}")
    return PublishedSimulator(flightllm_machine(MACHINES[arch]), flightllm_artifact(), model_named(model))


def published_document(
    arch: str, model: str, recipe: str | None, prefill: int, decode: int, mask_file: Path | None = None
) -> dict[str, Any]:  # fmt: skip
    """The JSON document of ``mixflight simulate --mode published``; energies are None where no power is reported."""
    simulator = published_simulator(arch, model, recipe)
    masks = load_masks(mask_file) if mask_file else ()
    run = simulator.run(prefill, decode, masks)
    first, last = simulator.prefill_program(prefill, masks), simulator.decode_program(prefill + decode)
    phases = {
        "prefill": _phase(simulator, first, prefill, run.prefill_ms, simulator.hbm_bytes(first)),
        "decode": _phase(simulator, last, decode, run.decode_ms, simulator.decode_bytes(prefill, decode)),
    }
    return {
        "arch": arch, "model": model, "recipe": RECIPE, "mode": "published", "batch": 1,
        "bound_by": phases["decode"]["bound_by"], "infeasible": simulator.machine.infeasible or None,
        "correction_factor": simulator.machine.correction_factor, **phases,
    }  # fmt: skip


def _phase(
    simulator: PublishedSimulator, program: PublishedProgram, tokens: int, time_ms: float, moved: float
) -> dict[str, Any]:  # fmt: skip
    """One phase; busy shares, limit and operators are those of ``program``, its (last) step."""
    done = simulator.execute(program)
    busiest = max(CLASSES, key=lambda kind: done.busy[kind])
    return {
        "tokens": tokens, "time_ms": time_ms, "time_ms_per_token": time_ms / tokens,
        "tokens_per_s": tokens / time_ms * 1e3, "hbm_bytes_per_token": moved / tokens, "bound_by": _UNIT[busiest],
        **_energy(simulator.machine, time_ms, tokens),
        "instructions": len(program), "barriers": len(program.order), "busy": done.shares,
        "operators": operator_times(program, done),
    }  # fmt: skip


def _energy(machine: FlightLlmMachine, time_ms: float, tokens: int) -> dict[str, float | None]:
    """Reported power times time; the publication gives no band, so low and high are the same."""
    power = machine.power_w or None
    per_token = power * time_ms / tokens if power else None
    return {
        "power_w": power, "tokens_per_joule": 1e3 / per_token if per_token else None,
        **{f"energy_mj_per_token{end}": per_token for end in ("", "_low", "_high")},
    }  # fmt: skip


def operator_times(program: PublishedProgram, done: Execution) -> list[dict[str, Any]]:
    """Time of each operator over all blocks: from the end of the fused layer before it to its own end."""
    latest = np.maximum.accumulate(done.ends)
    spent = np.diff(latest, prepend=0.0)
    totals: dict[str, float] = {}
    for index, value in zip(program.order.tolist(), spent.tolist(), strict=True):
        name = program.layers[index].name
        totals[name] = totals.get(name, 0.0) + value
    return [{"operator": name, "time_ms": value} for name, value in totals.items()]


def published_timeline(simulator: PublishedSimulator, program: PublishedProgram, blocks: int = 1) -> dict[str, Any]:
    """Chrome trace events of the first ``blocks`` blocks of ``program``: queues as tracks, fused layers as names."""
    in_block = (len(program.order) - 2) // simulator.model.layers
    part = PublishedProgram(layers=program.layers, order=program.order[: blocks * in_block])
    starts, durations = simulator.trace(part)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "tid": track, "name": "thread_name", "args": {"name": kind}}
        for track, kind in enumerate(CLASSES)
    ]
    for track, kind in enumerate(CLASSES):
        names = [part.layers[i].name for i in part.order.tolist() for _ in range(part.layers[i].stream.count(kind))]
        events += [
            {"ph": "X", "pid": 1, "tid": track, "name": name, "ts": start * 1e3, "dur": duration * 1e3}
            for name, start, duration in zip(names, starts[kind].tolist(), durations[kind].tolist(), strict=True)
        ]
    return {"traceEvents": events, "displayTimeUnit": "ns"}
