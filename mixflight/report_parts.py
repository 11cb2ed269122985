"""Parts of a page's document that a run has beside its machines: layers, GPUs, the front of a sweep.

pass_of      what a traced pass computes and moves
layers_of    a decode step of a machine, layer by layer
gpus_of      GPUs on the scenario of a document
gpus_beside  the same, simulated already
deviations   the list of approximations
sweep_of     the finished sweep of a folder
joined       a document with GPUs and a sweep in it
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.errors import InputError
from mixflight.arch.gpu import gpu_named
from mixflight.comparison import CHIP, energy_scope
from mixflight.machines import run_gpu
from mixflight.reports import document as doc
from mixflight.results import simulation_document
from mixflight.sim.gpu.phase import GpuPhase
from mixflight.sim.layer_costs import layer_costs
from mixflight.sim.simulate import Simulation
from mixflight.workloads.trace import Trace


def pass_of(trace: Trace) -> doc.Pass:
    """What ``trace`` computes and moves."""
    return doc.Pass(phase=trace.phase, context=trace.context, ops=trace.ops, macs=trace.macs,
                    weight_bytes=trace.weight_bytes, kv_bytes=trace.kv_bytes)  # fmt: skip


def deviations() -> str:
    """The list of approximations without its title."""
    import mixflight.sim

    text = Path(str(mixflight.sim.__file__)).with_name("DEVIATIONS.md").read_text()
    return text.partition("\n")[2] if text.startswith("# ") else text


def layers_of(accelerator: Accelerator, step: Trace, batch: int) -> doc.Layers:
    """The layers of the decode ``step`` of ``batch`` tokens on ``accelerator``."""
    share = 1e-9 / batch
    return doc.Layers(machine=accelerator.name, context=step.context, layers=tuple(
        doc.Layer(
            layer=item.layer, time_us=item.time_us, busy_us=item.busy_us,
            components=tuple(
                doc.Component(
                    component=name, energy_mj_per_token=energy.pj * share,
                    energy_mj_per_token_low=energy.low_pj * share, energy_mj_per_token_high=energy.high_pj * share,
                )
                for name, energy in item.components.items()
            ),
        )
        for item in layer_costs(accelerator, step)
    ))  # fmt: skip


def gpus_of(scenario: doc.Scenario, gpus: Sequence[str]) -> doc.GpuComparison:
    """Each ``GPU[:RECIPE]`` on ``scenario``; one that names no model, or names another by now, is an InputError."""
    if scenario.source is None:
        raise InputError("GPUs must join results that name their MODEL, as mixflight demo and compare write them now")
    found = []
    for text in gpus:
        simulation = run_gpu(text, scenario.source, scenario.prefill, scenario.decode, batch=scenario.batch)
        if simulation.model != scenario.model:
            raise InputError(
                f"{scenario.source} must be the model of the results, {scenario.model}, not {simulation.model}")
        found.append(simulation)
    return gpus_beside(found)


def gpus_beside(simulations: Sequence[Simulation]) -> doc.GpuComparison:
    """The ``simulations`` of GPUs as a page has them beside arrays."""
    return doc.GpuComparison(machine_scope=CHIP, gpus=tuple(_gpu(item) for item in simulations))


def _gpu(simulation: Simulation) -> doc.Gpu:
    assert isinstance(simulation.decode, GpuPhase)
    return doc.Gpu(
        name=simulation.accelerator, recipe=simulation.formats, summary=gpu_named(simulation.accelerator).summary,
        scope=energy_scope(simulation), evidence=simulation.decode.source,
        simulation=msgspec.convert(simulation_document(simulation), doc.Simulation),
    )  # fmt: skip


def sweep_of(folder: Path) -> doc.Sweep:
    """What the page shows of the finished sweep in ``folder``; any other folder is an InputError."""
    from mixflight.sweeping.store import document_of, read_manifest

    if not (folder / "sweep.json").exists():
        raise InputError(f"a sweep must be the folder that mixflight sweep wrote, not {folder}")
    outcome, manifest = document_of(folder), read_manifest(folder)
    return sweep_document(outcome, msgspec.to_builtins(manifest))


def sweep_document(outcome: Any, manifest: Any) -> doc.Sweep:
    """The same of the documents ``front.json`` and ``sweep.json``."""
    from mixflight.sweeping.space import column

    space = manifest["space"]
    axes = [column(path) for path in (*space["axes"], *space["derived"])]
    rows = [_front_row(item, axes, outcome["objectives"]) for item in outcome["pareto"]]
    varied = tuple(name for name in axes if len({row[name] for row in rows}) > 1)
    constant = [name for name in axes if name not in varied]
    names = [*varied, *outcome["objectives"], *("bound_by", "disagreement"), *constant]
    lengths = space["scenario"]
    return doc.Sweep(
        summary=outcome["summary"], finding=outcome["finding"], model=space["model"], recipe=space["recipe"],
        lengths=f"prefill {lengths['prefill']}, decode {lengths['decode']}, batch {lengths['batch']}",
        fidelity=outcome["fidelity"], objectives=outcome["objectives"],
        by=tuple(column(path) for path in outcome["by"]), axes=varied, points=outcome["points"],
        evaluated=outcome["evaluated"], engine_evaluated=outcome["engine_evaluated"],
        excluded=sum(outcome["excluded"].values()), failed=outcome["failed"], apart=outcome["largest_disagreement"],
        front=tuple(rows),
        sources={name: column_source(name, manifest) for name in names if rows and name in rows[0]},
        code_sha256=manifest["code_sha256"], space_sha256=manifest["space_sha256"],
    )  # fmt: skip


def _front_row(item: Any, axes: Sequence[str], objectives: Any) -> dict[str, Any]:
    apart = item.get("disagreement")
    row = {name: item[name] for name in (*axes, *objectives, "energy_mj_per_token", "tokens_per_s", "bound_by")}
    return row if apart is None else {**row, "disagreement": max(apart.values(), key=abs)}


def column_source(name: str, manifest: Any) -> str:
    """Where the numbers of a column of a sweep come from."""
    from mixflight.sweeping.quantities import ESTIMATED, EXACT
    from mixflight.sweeping.space import column

    space = manifest["space"]
    derived = {column(path): text for path, text in space["derived"].items()}
    if name in derived:
        return f"derived: {derived[name]}, as the space says"
    if name in EXACT:
        return f"derived: of the design alone, {EXACT[name]}"
    if name in ESTIMATED:
        tier = "the closed form" if space["fidelity"] == "closed-form" else "the cycle engine"
        priced = ESTIMATED[name] in ("energy", "efficiency", "power")
        return f"derived: {tier}{' and prices of counted actions' * priced}; code {manifest['code_sha256'][:16]}"
    if name in ("bound_by", "prefill_bound_by"):
        return "derived: what the cycle engine found to set most of the time"
    if name == "disagreement":
        return "derived: engine over closed form less 1, of time or energy, whichever is farther"
    if name in ("index", "key"):
        return "derived: the point's place in the space and the digest of its design"
    return "chosen: a value of the space's axis"


def joined(document: doc.Document, gpus: Sequence[str] = (), sweep: Path | None = None) -> doc.Document:
    """``document`` with the GPUs and the sweep's front in it, in place of those that it has."""
    if gpus:
        document = msgspec.structs.replace(document, gpus=gpus_of(document.scenario, gpus))
    if sweep is not None:
        document = msgspec.structs.replace(document, sweep=sweep_of(sweep))
    return document
