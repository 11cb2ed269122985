"""Simulations as the documents and tables that the command line and the API give out."""

from typing import Any

from mixflight.reports.component_groups import GroupEnergy, grouped
from mixflight.sim.cost import Energy
from mixflight.sim.gpu.phase import GpuPhase
from mixflight.sim.simulate import Phase, Simulation


def simulation_document(simulation: Simulation) -> dict[str, Any]:
    """The JSON document of ``mixflight simulate``; energies carry their band as ``_low`` and ``_high``,
    ``float_operands`` are the operators that ran on INT8 in their place, ``path`` how cores ran (fused or general), and
    ``groups`` in how many groups of sequences, one after another."""
    return {
        "arch": simulation.accelerator,
        "model": simulation.model,
        "recipe": simulation.formats,
        "mode": simulation.mode,
        "batch": simulation.batch,
        "bound_by": simulation.decode.bound_by,
        "float_operands": list(simulation.int8_operands),
        **({"path": simulation.path, "groups": simulation.groups} if simulation.path else {}),
        "prefill": _phase_document(simulation.prefill),
        "decode": _phase_document(simulation.decode),
    }


def _phase_document(phase: Phase) -> dict[str, Any]:
    total = _banded("energy_mj", phase.energy, 1e-9)
    return {
        "tokens": phase.tokens,
        "time_ms": phase.time_ms,
        "time_ms_per_token": phase.time_ms / phase.tokens,
        "tokens_per_s": phase.tokens / phase.time_ms * 1e3,
        **total,
        **_banded("energy_mj_per_token", phase.energy, 1e-9 / phase.tokens),
        "hbm_bytes_per_token": phase.dram_bytes / phase.tokens,
        "power_w": phase.power_w,
        "power_w_low": phase.power_w * phase.energy.low_pj / phase.energy.pj,
        "power_w_high": phase.power_w * phase.energy.high_pj / phase.energy.pj,
        "tokens_per_joule": phase.tokens / (phase.energy.pj * 1e-12),
        "tokens_per_joule_low": phase.tokens / (phase.energy.high_pj * 1e-12),
        "tokens_per_joule_high": phase.tokens / (phase.energy.low_pj * 1e-12),
        "macs": phase.macs,
        "bound_by": phase.bound_by,
        **({"next_bound": phase.next_bound} if phase.next_bound else {}),
        **({"busy": phase.busy} if phase.busy else {}),
        **({"source": phase.source} if isinstance(phase, GpuPhase) else {}),
        "components": [
            {"component": name, **_banded("energy_mj_per_token", energy, 1e-9 / phase.tokens)}
            for name, energy in phase.components.items()
        ],
        "component_groups": list(energy_groups(phase)),
        "operators": [
            {
                "operator": item.operator, "kind": item.kind, "cycles": item.cycles, "bound_by": item.bound_by,
                "next_bound": item.next_bound, "utilisation": item.utilisation,
                **_banded("energy_mj", item.energy, 1e-9),
            }
            for item in phase.operators
        ],
    }  # fmt: skip


def energy_groups(phase: Phase) -> tuple[GroupEnergy, ...]:
    """Energy a token by group of components, each with its band."""
    share = 1e-9 / phase.tokens
    return grouped(
        (name, energy.pj * share, energy.low_pj * share, energy.high_pj * share)
        for name, energy in phase.components.items()
    )


ENERGY_COLUMNS = ("machine", "component", "mJ/token", "mJ band", "%")


def energy_rows(simulations: list[Simulation]) -> list[tuple[object, ...]]:
    """Lines of the table of decode's energy by group of components, with bands."""
    return [
        (name if index == 0 else "", part.group, part.energy_mj_per_token,
         f"{_short(part.energy_mj_per_token_low)} - {_short(part.energy_mj_per_token_high)}",
         1e11 * part.energy_mj_per_token * item.decode.tokens / item.decode.energy.pj)
        for item, name in zip(simulations, names_of(simulations), strict=True)
        for index, part in enumerate(energy_groups(item.decode))
    ]  # fmt: skip


def names_of(simulations: list[Simulation]) -> list[str]:
    """The machines, with recipe and batch where they differ."""
    recipes = len({item.formats for item in simulations}) > 1
    batches = len({item.batch for item in simulations}) > 1
    return [
        item.accelerator + f":{item.formats}" * recipes + f" x{item.batch}" * batches for item in simulations
    ]  # fmt: skip


def _banded(key: str, energy: Energy, factor: float) -> dict[str, float]:
    return {key: energy.pj * factor, f"{key}_low": energy.low_pj * factor, f"{key}_high": energy.high_pj * factor}


def flat_row(simulation: Simulation) -> dict[str, Any]:
    """The numbers of ``simulation`` in one flat record, ``prefill_`` and ``decode_`` before their keys."""
    document = simulation_document(simulation)
    row = {key: value for key, value in document.items() if not isinstance(value, dict | list)}
    for phase in ("prefill", "decode"):
        row |= {f"{phase}_{key}": value for key, value in document[phase].items() if not isinstance(value, list)}
    return row


COMPARE_COLUMNS = ("machine", "prefill ms", "tokens/s", "mJ/token", "mJ band", "MB/token", "bound by")


def compare_rows(simulations: list[Simulation]) -> list[tuple[object, ...]]:
    """Lines of the comparison table, decode but for the prefill's time; the recipe is named where it differs."""
    return [_compare_row(item, name) for item, name in zip(simulations, names_of(simulations), strict=True)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _compare_row(simulation: Simulation, name: str) -> tuple[object, ...]:
    decode = _phase_document(simulation.decode)
    return (
        name.replace(":", ":\n"),
        simulation.prefill.time_ms, decode["tokens_per_s"], decode["energy_mj_per_token"],
        f"{_short(decode['energy_mj_per_token_low'])} - {_short(decode['energy_mj_per_token_high'])}",
        decode["hbm_bytes_per_token"] / 1e6, decode["bound_by"],
    )  # fmt: skip


def scenario_title(simulations: list[Simulation]) -> str:
    """What a comparison is about: model, recipe where it is one, lengths."""
    first = simulations[0]
    recipes = {item.formats for item in simulations}
    recipe = f", {recipes.pop()}" if len(recipes) == 1 else ""
    lengths = f"prefill {first.prefill.tokens // first.batch}, decode {first.decode.tokens // first.batch}"
    batches = ", ".join(f"{batch}" for batch in sorted({item.batch for item in simulations}))
    return f"{first.model}{recipe}: {lengths}, batch {batches}"
