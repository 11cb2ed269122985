"""The folder of a comparison, from which ``mixflight report`` makes the page of a demo.

check_folder    refuses, before any work, what no page could show
write_folder    ``results.json`` and, of the first machine, ``timeline.json``
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

import mixflight
from mixflight.arch.accelerator import Accelerator, array_named
from mixflight.arch.errors import InputError
from mixflight.comparison import Comparison
from mixflight.files import publish, staging
from mixflight.report_parts import deviations, gpus_beside, layers_of, pass_of
from mixflight.reports import document as doc
from mixflight.reports.timeline import layer_of, timeline
from mixflight.results import names_of, simulation_document
from mixflight.sim.gpu.scenario import GpuRun
from mixflight.sim.simulate import Simulation
from mixflight.workload import load_workload, model_file
from mixflight.workloads.model import models
from mixflight.workloads.trace import decode_traces, prefill_trace

TIMELINE = "timeline.json"
VERIFIED = {"shift-add-4x8": "an 8x8", "multiply-4x8": "an 8x8", "multiply-8x8": "a 4x4", "fp16-mac": "a 4x4"}
"""PE -> the output-stationary array of it that ``mixflight verify`` runs."""


def check_folder(
    folder: Path, archs: Sequence[str], gpus: Sequence[str], model: str, recipe: str | None
) -> None:
    """Refuse a ``folder`` that cannot be written or is a demo's or a sweep's, machines that are not arrays, and such as
    cannot be told apart."""
    if not archs:
        raise InputError("-o must come with at least one --arch: a page has GPUs beside machines, not alone")
    if (folder / "sweep.json").exists() or (folder / "verilog").exists():
        raise InputError(f"-o must be a folder of its own, not that of a demo or a sweep: {folder}")
    labels = [f"{array.name}:{load_workload(model, own).recipe.name}" for array, own in _arrays(archs, recipe)]
    labels += [f"{run.gpu.name}:{run.recipe}" for run in (GpuRun.parse(name, recipe) for name in gpus)]
    for label, count in Counter(labels).items():
        if count > 1:
            raise InputError(f"-o must be given machines that differ in name or recipe, not {label} twice")
    with staging(folder):
        pass


def write_folder(folder: Path, archs: Sequence[str], found: Comparison, model: str, recipe: str | None) -> None:
    """Write what was ``found`` at one batch on ``archs`` (``ARCH[:RECIPE]``, else ``recipe``) and on GPUs.

    Nothing appears in ``folder`` before all of it is there.
    """
    document, events = _document(_arrays(archs, recipe), found, model)
    with staging(folder) as staged:
        if events is not None:
            (staged / TIMELINE).write_bytes(events)
        (staged / doc.DOCUMENT).write_bytes(doc.encode_document(document))
        publish(staged, folder, [name for name in (TIMELINE, doc.DOCUMENT) if (staged / name).exists()])


def _arrays(archs: Sequence[str], recipe: str | None) -> list[tuple[Accelerator, str | None]]:
    """Each array with its recipe."""
    parts = [name.partition(":") for name in archs]
    return [(array_named(arch), own or recipe) for arch, _, own in parts]


def _document(
    given: Sequence[tuple[Accelerator, str | None]], found: Comparison, model: str
) -> tuple[doc.Document, bytes | None]:
    """The document, and the timeline's file if its recipe decodes token by token."""
    first, arrays = found.machines[0], [array for array, _ in given]
    batch = first.batch
    prefill, decode = first.prefill.tokens // batch, first.decode.tokens // batch
    workload = load_workload(model, given[0][1])
    prompt = prefill_trace(workload.model, workload.recipe, prefill, batch, decode)
    steps = list(decode_traces(workload.model, workload.recipe, prefill, decode, batch))
    plain = workload.recipe.decode is None
    names = names_of(list(found.machines))
    named = msgspec.structs.replace(arrays[0], name=names[0])
    events = timeline(named, [prompt, steps[-1]]) if plain else None
    prices, technologies = doc.prices_of(arrays)
    document = doc.Document(
        version=doc.VERSION, mixflight=mixflight.__version__,
        scenario=_scenario(found, model, prefill, decode),
        trace=tuple(pass_of(item) for item in (prompt, steps[0], steps[-1])),
        machines=tuple(
            _machine(accelerator, simulation, name)
            for accelerator, simulation, name in zip(arrays, found.machines, names, strict=True)
        ),
        prices=prices, technologies=technologies, timeline=layer_of(events, TIMELINE) if events else None,
        layers=layers_of(named, steps[-1], batch) if plain else None,
        gpus=gpus_beside(found.gpus) if found.gpus else None, deviations=deviations(),
    )  # fmt: skip
    return document, msgspec.json.encode(events) if events else None


def _scenario(found: Comparison, model: str, prefill: int, decode: int) -> doc.Scenario:
    preset = model in models()
    path = None if preset else model_file(model)
    sha256 = None
    if path is not None and path.is_file():
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return doc.Scenario(
        model=found.machines[0].model, recipe=", ".join(dict.fromkeys(item.formats for item in found.machines)),
        prefill=prefill, decode=decode, batch=found.machines[0].batch, sha256=sha256,
        source=model if path is None else str(path.absolute()),
    )  # fmt: skip


def _machine(accelerator: Accelerator, simulation: Simulation, name: str) -> doc.Machine:
    return doc.machine_of(accelerator, simulation_document(simulation), _evidence(accelerator), name)


def _evidence(accelerator: Accelerator) -> str:
    """How far the arrays of this kind are verified."""
    array = accelerator.array
    size = VERIFIED.get(array.pe)
    if size is None or array.dataflow != "output-stationary" or array.split > 1:
        return "simulated only; mixflight verify lists the arrays that are compared as Verilog"
    return (
        f"in mixflight verify, {size} array of its PEs with dequantisation lanes is exact in values and cycles as "
        "Verilog; the shape of this machine, its buffers, DRAM, vector unit and control are simulated only"
    )
