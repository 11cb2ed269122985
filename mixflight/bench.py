"""``make bench``: what the project's own tools take, each beside a stated reference.

Every figure is the median of repeated runs on this machine; the reference is a goal of the project or a figure of
another tool, named in the row. Nothing is asserted: a slow machine gives slow figures.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mixflight.arch.errors import InputError
from mixflight.cli.output import print_table

if TYPE_CHECKING:
    from mixflight.sim.core.scenario import Cores
    from mixflight.workloads.trace import Trace

REPEATS = 5


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured figure and what it is compared with; ``ratio`` > 1 is better than the reference."""

    name: str
    value: float
    unit: str
    reference: float
    reference_source: str
    larger_is_better: bool = False

    @property
    def ratio(self) -> float:
        """How many times better than the reference."""
        return self.value / self.reference if self.larger_is_better else self.reference / self.value


def median_seconds(
    call: Callable[[], object], repeats: int = REPEATS, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median time of ``call`` by ``clock``, wall time unless told, after one run that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        start = clock()
        call()
        times.append(clock() - start)
    return statistics.median(times)


def simulation_figures() -> list[Figure]:
    """Trace and simulation of LLaMA2-7B, prefill 512 and decode 512; the goal is for both together.

    Operators that layers or steps share are counted once, as they are timed once; chipleap's figure is jobs a second of
    its closed-form model, on two cores of the same kind.
    """
    from mixflight.arch.accelerator import array_named
    from mixflight.sim.simulate import simulate
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named
    from mixflight.workloads.trace import decode_traces, prefill_trace

    model, recipe, machine = model_named("llama2-7b"), recipe_named("w4a8g128"), array_named("mixpe-w4a8")

    def trace() -> object:
        return prefill_trace(model, recipe, 512), list(decode_traces(model, recipe, 512, 512))

    simulation = median_seconds(lambda: simulate(machine, model, recipe, recipe.name, 512, 512))
    traces = [prefill_trace(model, recipe, 512), *decode_traces(model, recipe, 512, 512)]
    distinct = len({operator for trace in traces for operator in trace.operators})
    goal = "goal 0.5 s"
    return [
        Figure(name="trace, 7B 512 + 512", value=median_seconds(trace), unit="s", reference=0.5,
               reference_source=goal),
        Figure(name="trace and simulate", value=simulation, unit="s", reference=0.5,
               reference_source=goal),
        Figure(name="distinct operators", value=distinct / simulation, unit="1/s",
               reference=3900, larger_is_better=True, reference_source="chipleap 0.3.0: 3,900"),
    ]  # fmt: skip


def recipe_figures() -> list[Figure]:
    """Trace of a long LLaMA2-7B scenario under FlightLLM's recipe, and every preset recipe simulated in its own."""
    from mixflight.recipe_runs import ARCHS, presets_of_methods, run_recipes
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named
    from mixflight.workloads.trace import decode_traces, prefill_trace

    model, recipe = model_named("llama2-7b"), recipe_named("flightllm")

    def trace() -> object:
        return prefill_trace(model, recipe, 2048), list(decode_traces(model, recipe, 2048, 2048))

    presets = presets_of_methods()
    started = time.perf_counter()
    runs = run_recipes(presets, ARCHS, jobs=2)
    seconds = time.perf_counter() - started
    done = sum(not item.refused for item in runs)
    return [
        Figure(name="trace, 7B 2048 + 2048", value=median_seconds(trace), unit="s", reference=0.3,
               reference_source="goal 0.3 s"),
        Figure(name=f"{done} of {len(runs)} runs of presets", value=seconds, unit="s", reference=60,
               reference_source="goal 60 s"),
    ]  # fmt: skip


def generation_figures(path: Path) -> list[Figure]:
    """Decoded tokens a second of the golden model on the real file."""
    from mixflight.generate import generate

    generate(path, "The capital of France is", 4)
    speeds = [generate(path, "The capital of France is", 32).tokens_per_s for _ in range(3)]
    return [
        Figure(name="golden generation", value=statistics.median(speeds), unit="tokens/s", reference=5,
               larger_is_better=True, reference_source="goal 5")
    ]  # fmt: skip


def evaluation_figures(path: Path) -> list[Figure]:
    """Scored tokens a second of one window of the evaluation text in golden arithmetic, in the file's own formats."""
    from mixflight.evaluate import evaluate

    evaluate(path, most_tokens=129)
    speeds = [evaluate(path, most_tokens=512).tokens_per_s for _ in range(3)]
    return [
        Figure(name="evaluate", value=statistics.median(speeds), unit="tokens/s", reference=100,
               larger_is_better=True, reference_source="goal 100")
    ]  # fmt: skip


def study_figures() -> list[Figure]:
    """The MixPE study in both modes, searches and engine runs not kept from one run to the next."""
    from mixflight.reproduce_mixpe import rows
    from mixflight.sim.mixpe_corrected.crossover import counted
    from mixflight.sim.mixpe_corrected.run import outcome

    def corrected() -> object:
        outcome.cache_clear()
        counted.cache_clear()
        return rows("corrected")

    return [
        Figure(name="reproduce mixpe, published", value=median_seconds(lambda: rows("published"), 3), unit="s",
               reference=10, reference_source="goal 10 s"),
        Figure(name="reproduce mixpe, corrected", value=median_seconds(corrected, 3), unit="s", reference=60,
               reference_source="goal 60 s"),
    ]  # fmt: skip


def rtl_figures() -> list[Figure]:
    """Cycles a second of the Verilated 8x8 array under cocotb, with the bench in Python. The reference is the measured
    speed of an 8x8 systolic grid of 32 bits in Amaranth's own simulator on two cores."""
    import numpy as np

    from mixflight.rtl.bench_systolic_array import array_job
    from mixflight.rtl.design import choose_top
    from mixflight.rtl.emit import emit_verilog
    from mixflight.rtl.harness import build_model, run_jobs
    from mixflight.verification import random_tile

    chosen = choose_top("mixpe-array", zero="f16-min")
    build = build_model(emit_verilog(chosen.component, chosen.module), top=chosen.module)
    tile = random_tile(chosen, np.random.default_rng(0), k=4096)
    job = array_job(chosen.component, [tile.beats()] * 4)
    speeds = []
    for _ in range(3):
        (result,) = run_jobs(build, [job])
        speeds.append(result.cycles / result.seconds)
    return [
        Figure(name="Verilated 8x8 array", value=statistics.median(speeds), unit="cycles/s",
               reference=3000, larger_is_better=True,
               reference_source="Amaranth's simulator: 3,000")
    ]  # fmt: skip


def sweep_figures() -> list[Figure]:
    """Points a minute of the randomised sweep on two weight-stationary designs: emission, Verilated run, golden values
    and both ways to compute cycles, the models built before. The reference is the measured speed of the unstalled ones
    of the same points in Amaranth's own simulator on two cores."""
    from mixflight.array_sweep import designs, points, sweep_design

    chosen = [(design, points(design, index)) for index, design in enumerate(designs()[:4]) if design.tokens]
    seconds = median_seconds(lambda: [sweep_design(design, runs) for design, runs in chosen], repeats=3)
    return [
        Figure(name="RTL-vs-engine sweep", value=60 * sum(len(runs) for _, runs in chosen) / seconds, unit="points/min",
               reference=9, larger_is_better=True, reference_source="Amaranth's simulator: 9")
    ]  # fmt: skip


def compile_figures() -> list[Figure]:
    """A decode step of LLaMA2-7B compiled for three FlightLLM cores: from nothing, and the next length."""
    from mixflight.arch.accelerator import accelerator_named
    from mixflight.arch.core import CoreMachine
    from mixflight.mapping.core_compile import CoreCompiler
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named
    from mixflight.workloads.trace import decode_traces

    machine = accelerator_named("flightllm-u280")
    assert isinstance(machine, CoreMachine)
    traces = list(decode_traces(model_named("llama2-7b"), recipe_named("flightllm"), 511, REPEATS + 1))
    compiler, lengths = CoreCompiler(machine), iter(traces)
    following = median_seconds(lambda: compiler.compile(next(lengths)), clock=time.process_time)
    first = median_seconds(lambda: CoreCompiler(machine).compile(traces[0]), clock=time.process_time)
    return [
        Figure(name="compile a 7B decode step", value=first, unit="CPU-s", reference=0.2,
               reference_source="goal 0.2 s"),
        Figure(name="compile the next length", value=following, unit="CPU-s", reference=0.02,
               reference_source="goal 20 ms"),
    ]  # fmt: skip


def space_figures() -> list[Figure]:
    """Points a CPU second of both tiers of a sweep, one process, and single products of the closed form.

    A point is LLaMA2-7B, prefill 512 and decode 512, on an array of its own: built, timed, priced, made a row. The
    other tools get the products of the same prefill (``mixflight.bench_peers``).
    """
    import numpy as np

    from mixflight.arch.accelerator import array_named
    from mixflight.sim.table_engine import Tier, count_table, scenario_tables, slice_of
    from mixflight.sweeping.measure import Evaluator
    from mixflight.sweeping.space import space_named
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named

    space = space_named("mixpe")
    lengths = msgspec.structs.replace(space.scenario, prefill=512, decode=512)
    axes = {"array.rows": (8, 16, 32, 64), "array.cols": (32, 64, 96, 128), "dram.peak_gb_s": tuple(range(16, 256))}
    space = msgspec.structs.replace(
        space, scenario=lengths, axes=axes, constraints=(), by=(), derived={"array.lanes": "array_cols"}
    )

    def rate(tier: Tier, count: int, repeats: int) -> float:
        places = iter(range(repeats + 1))

        def part() -> object:
            place = next(places)
            chunk = evaluator.chunk(tier, range(place * count, (place + 1) * count))
            if any(row.get("error") for row in chunk.rows):
                raise InputError("points of the benchmark must work")
            return chunk

        return count / median_seconds(part, repeats, time.process_time)

    evaluator = Evaluator(space)
    closed, engine = rate("closed-form", 1000, 3), rate("engine", 10, 3)
    machine = array_named("mixpe-w4a8")
    prefill = scenario_tables(model_named("llama2-7b"), recipe_named("w4a8g128"), 512, 1, 1, False).prefill
    copies = 100
    only = msgspec.structs.replace(
        prefill, matrix=np.tile(prefill.matrix, (copies, 1)), matrix_uses=np.tile(prefill.matrix_uses, copies),
        vector=prefill.vector[:0], vector_uses=prefill.vector_uses[:0],
    )  # fmt: skip
    products = len(only.matrix)
    single = products / median_seconds(
        lambda: count_table(slice_of(machine), only, "closed-form"), clock=time.process_time
    )
    from mixflight.bench_peers import PEERS

    beside = [(peer, *peer.rate()) for peer in PEERS]
    return [
        Figure(name="sweep, closed form, 7B 512 + 512", value=closed, unit="points/CPU-s", reference=2500,
               larger_is_better=True, reference_source="goal 5,000 on two cores"),
        Figure(name="the same", value=closed, unit="points/CPU-s", reference=1270, larger_is_better=True,
               reference_source="chipleap 0.3.0: 1,270 designs/CPU-s"),
        Figure(name="sweep, engine, 7B 512 + 512", value=engine, unit="points/CPU-s", reference=25,
               larger_is_better=True, reference_source="goal 50 on two cores"),
        Figure(name="closed form, one product", value=single, unit="1/CPU-s", reference=100_000,
               larger_is_better=True, reference_source="goal 100,000"),
        *(Figure(name="the same", value=single, unit="1/CPU-s", reference=rate, larger_is_better=True,
                 reference_source=f"{peer.name}: {rate:,.3g} {unit}, {how}") for peer, rate, unit, how in beside),
        Figure(name="the same", value=single, unit="1/CPU-s", reference=9 * 10_100, larger_is_better=True,
               reference_source="LLM-Viewer: 10,100 layers of 9 products/s, as recorded (it is not on the index)"),
    ]  # fmt: skip


def core_figures() -> list[Figure]:
    """The engine of FlightLLM cores on compiled passes of LLaMA2-7B for three cores, and the six published requests."""
    from mixflight.arch.accelerator import core_machines
    from mixflight.sim.core.scenario import Cores
    from mixflight.workloads.model import model_named
    from mixflight.workloads.recipe import recipe_named
    from mixflight.workloads.trace import decode_traces, prefill_trace

    machine, model, recipe = core_machines()["flightllm-u280"], model_named("llama2-7b"), recipe_named("w4a8g128")
    cores = Cores(machine, model, recipe, max_context=512)
    step, first = next(iter(decode_traces(model, recipe, 511, 1))), prefill_trace(model, recipe, 128)
    figures = _engine_figures("decode step", cores, step) + _engine_figures("prefill", cores, first)
    code = "from mixflight import bench; bench.published_requests()"
    cold = median_seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True), 3, _children)
    warm = median_seconds(published_requests, clock=time.process_time) / 6
    return [
        *figures,
        Figure(name="six published requests, cold", value=cold, unit="CPU-s", reference=3, reference_source="goal 3 s"),
        Figure(name="a published request, warm", value=warm, unit="CPU-s", reference=0.3,
               reference_source="goal 0.3 s"),
    ]  # fmt: skip


def _children() -> float:
    """CPU seconds of all processes started so far and ended."""
    found = os.times()
    return found.children_user + found.children_system


def _engine_figures(what: str, cores: "Cores", trace: "Trace") -> list[Figure]:
    """Instructions a CPU second, each one executed: by the event loop alone; with the times of the instructions found
    before; the same with transfers timed by bank and row, none of them simulated before. Then with equal layers
    skipped."""
    from mixflight.sim.core import memory
    from mixflight.sim.core.execution import compile_streams, execute
    from mixflight.sim.core.units import Units

    program = cores.program(trace)
    plain, rows = Units(cores.machine, rows=False), Units(cores.machine)
    ready = compile_streams(plain, program.streams, program.core_of)

    def timed(units: Units) -> object:
        return execute(units, compile_streams(units, program.streams, program.core_of), repeat=False)

    def unseen() -> object:
        memory.forget()
        return timed(rows)

    runs: tuple[tuple[str, Callable[[], object], float], ...] = (
        ("event loop", lambda: execute(plain, ready, repeat=False), 20e6),
        ("instructions timed too, no rows", lambda: timed(plain), 20e6),
        ("rows, transfers seen before", lambda: timed(rows), 2e6),
        ("rows, every transfer new", unseen, 2e6),
        ("event loop, equal layers skipped", lambda: execute(plain, ready), 20e6),
    )
    count = sum(len(program.streams[index]) for index in program.core_of)
    return [
        Figure(name=f"{what}: {name}", value=count / median_seconds(run, clock=time.process_time),
               unit="instructions/CPU-s", reference=goal, larger_is_better=True, reference_source=f"goal {goal:.0e}")
        for name, run, goal in runs
    ]  # fmt: skip


def published_requests() -> None:
    """The six requests of FlightLLM's README under its own rules, from nothing."""
    from mixflight.published import published_simulator

    for prefill in (128, 512):
        for decode in (512, 1024, 1536):
            published_simulator("flightllm-vhk158", "llama2-7b", None).run(prefill, decode)


def rtl_token_figures(model: Path) -> list[Figure]:
    """A token of the whole model on the compiled Verilog of a core, where that is built: one run, the second token."""
    from mixflight.arch.accelerator import accelerator_named
    from mixflight.arch.core import CoreMachine
    from mixflight.generate_rtl import DEFAULT_ARCH
    from mixflight.rtl.core import Core
    from mixflight.rtl.core_harness import built_core
    from mixflight.rtl_session import RtlSession
    from mixflight.sim.core_values.decode import machine_from_file

    machine = accelerator_named(DEFAULT_ARCH)
    assert isinstance(machine, CoreMachine)
    compiled = built_core(Core(machine, generic=True))
    if compiled is None:
        print(f"a token on RTL is left out: mixflight generate --backend rtl builds the core of {DEFAULT_ARCH}")
        return []
    with RtlSession(compiled, machine_from_file(machine, model, 512)) as session:
        session.step(504)
        run, _ = session.step(3575)
    return [
        Figure(name=f"a token of SmolLM2 on {DEFAULT_ARCH}'s RTL", value=run.seconds, unit="s", reference=20,
               reference_source="goal 20 s"),
    ]  # fmt: skip


def core_rtl_figures() -> list[Figure]:
    """The small core's Verilog: how long it takes to write, and where it is built how fast it runs and how far from its
    cycles the engine's are, over random programs of everything."""
    from mixflight.arch.accelerator import accelerator_named
    from mixflight.arch.core import CoreMachine
    from mixflight.rtl.core import Core
    from mixflight.rtl.core_harness import TOP, built_core
    from mixflight.rtl.emit import emit_verilog
    from mixflight.sim.core_values.random_program import random_program
    from mixflight.verify_core import PARTS, process_of, program_cycles

    name = "mixpe-mini"
    machine = accelerator_named(name)
    assert isinstance(machine, CoreMachine)
    started = time.perf_counter()
    emit_verilog(Core(machine, generic=True), TOP)
    figures = [Figure(name=f"Verilog of {name}, written", value=time.perf_counter() - started, unit="s", reference=95,
                      reference_source="95 s, first measured on a busy machine")]  # fmt: skip
    compiled = built_core(Core(machine, generic=True))
    if compiled is None:
        print(f"programs on RTL are left out: mixflight verify flightllm-core --arch {name} builds the core")
        return figures
    errors, speeds = [], []
    for seed in range(10):
        made = random_program(machine, seed, families=PARTS["matrix"])
        with process_of(compiled, machine, made) as core:
            run = core.run(made.registers)
        errors.append(100 * abs(program_cycles(machine, made) / run["cycles"] - 1))
        speeds.append(run["simulated_cycles"] / run["seconds"])
    return [
        *figures,
        Figure(name="engine beside RTL, mean error", value=statistics.mean(errors), unit="%", reference=0.5,
               reference_source="goal 0.5 %"),
        Figure(name="engine beside RTL, largest error", value=max(errors), unit="%", reference=2,
               reference_source="goal 2 %"),
        Figure(name=f"Verilated {name}", value=statistics.median(speeds), unit="cycles/s", reference=100_000,
               larger_is_better=True, reference_source="goal 100,000"),
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    from mixflight.workloads.fetch import fetch_model

    figures = simulation_figures() + compile_figures() + core_figures()
    try:
        figures += generation_figures(fetch_model("smollm2"))
        figures += evaluation_figures(fetch_model("smollm2"))
        figures += rtl_token_figures(fetch_model("smollm2"))
    except InputError as error:
        print(f"golden generation and evaluation are left out: {error}")
    figures += study_figures()
    figures += rtl_figures()
    figures += core_rtl_figures()
    figures += sweep_figures()
    figures += space_figures()
    print_table(
        "benchmarks (medians on this machine)", ("what", "value", "unit", "ratio", "better than"),
        [(item.name, item.value, item.unit, item.ratio, item.reference_source) for item in figures],
    )  # fmt: skip


if __name__ == "__main__":
    main()
