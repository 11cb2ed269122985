"""RTL against golden: the emitted Verilog runs under Verilator, its values must be exact, its cycles as computed.

    verify_top      one top in one configuration
    verify_array    a systolic array: random, extreme and real tiles, alone and back to back, with and without stalls
    verify_stationary   a weight-stationary array: the same
    verify_pe       a processing element: its operands alone, then random groups with gaps
    verify_function a function unit: every significand, or a million points and the edges, then stalls
    verify_widen    the widening unit: every width, padding, stalls
    verify_core_mv  a core's matrix engine: every layout and width, several slabs, stalls
    verify_core_sfu a core's special-function unit: every operation in random order, stalls
    verify_core     a whole core: random programs of a part of its instructions, without and with stalls

All return a :class:`Row`. A failed check is a line of the row, not an exception.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.rtl.bench_systolic_array import array_job, array_span, array_values
from mixflight.rtl.core import Core
from mixflight.rtl.core_cluster import CoreCluster
from mixflight.rtl.core_harness import build_core
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_sfu import CoreSfu
from mixflight.rtl.csd_chain import CsdChain
from mixflight.rtl.design import CORES, ChosenTop, choose_top, cores_of
from mixflight.rtl.harness import Build, Result, build_model, run_jobs
from mixflight.rtl.primitive_models import models_for
from mixflight.rtl.sfu_functions import FunctionUnit
from mixflight.rtl.weight_stationary_array import WeightStationaryArray
from mixflight.rtl.widen import Widen
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import lane_values
from mixflight.verify_cluster import check_cluster
from mixflight.verify_core import SEEDS, check_core, parts_of
from mixflight.verify_core_mv import check_core_mv
from mixflight.verify_core_sfu import build_text, check_sfu
from mixflight.verify_cores_model import DECODE, check_cores_model
from mixflight.verify_csd import check_chain
from mixflight.verify_outcome import NOTHING, StreamOutcome
from mixflight.verify_pe import build_element, check_element
from mixflight.verify_prefill import PREFILL, check_prefill
from mixflight.verify_sfu import build_function, check_function
from mixflight.verify_stationary import check_stationary
from mixflight.verify_tiles import GROUP, PROMPT, REAL_TENSORS, Tile, digits_tile, random_tile, real_tiles
from mixflight.verify_widen import check_widen

__all__ = ["PROMPT", "REAL_TENSORS", "Check", "Row", "Tile", "array_checks", "compare", "plan", "random_tile",
           "real_source", "real_tiles", "verify_array", "verify_core", "verify_function", "verify_pe",
           "verify_top", "verify_widen"]

Mutate = Callable[[str], str]
"""Changes the emitted text: how the tests make sure that wrong hardware is found."""

CONFIGURATIONS: tuple[Mapping[str, Any], ...] = (
    {"zero": "f16-min"},
    {"zero": "int4", "two_pass": True},
    {"zero": "none", "pe": "multiply"},
    {"zero": "f16-min", "split": 4},
    *({"rows": 4, "cols": 4, "lanes": 2, **kind} for kind in (
        {"pe": "centred", "zero": "int4", "two_pass": True},
        {"pe": "centred", "zero": "f16-min"},
        {"pe": "int8", "zero": "none"},
        {"pe": "int8", "zero": "int4"},
        {"pe": "dequantise", "zero": "none"},
        {"pe": "aligned", "zero": "none"},
        {"pe": "aligned", "zero": "int4"},
        {"pe": "aligned", "zero": "f16-min", "split": 2},
        {"pe": "float", "zero": "none", "split": 2},
        {"pe": "float", "zero": "f16-min"},
        {"pe": "fp16", "zero": "none"},
        {"dataflow": "weight-stationary", "zero": "f16-min"},
        {"dataflow": "weight-stationary", "pe": "centred", "zero": "int4", "two_pass": True},
        {"dataflow": "weight-stationary", "pe": "int8", "zero": "none"},
    )),
)
"""What is verified of ``mixpe-array`` when nothing is asked for: every kind of PE; the first one is what Q4_1 files
need."""

@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One run: these tiles back to back, with these stalls."""

    name: str
    tiles: Sequence[Tile]
    stall: Mapping[str, float] = dataclasses.field(default_factory=dict)
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The result for one top in one configuration.

    ``cycles_rtl`` and ``cycles_sim`` are sums over the unstalled runs of an array; for a PE, steps from an
    operand to its readable sum.
    """

    top: str
    configuration: Mapping[str, Any]
    tests: int
    failures: int
    cycles_rtl: int
    cycles_sim: int
    real_tiles: int
    values: int
    """Output values compared."""
    messages: tuple[str, ...]
    build_s: float
    run_s: float

    @property
    def shown(self) -> str:
        """The configuration in a few words."""
        array = self.configuration
        if "rows" not in array:
            return ", ".join(name if value is True else f"{name} {value}"
                             for name, value in array.items() if value is not False)
        return (f"{array['rows']}x{array['cols']}, {array['lanes']} lanes, {array['pe']}, zero {array['zero']}"
                f"{', two-pass' if array['two_pass'] else ''}"
                f"{', split ' + str(array['split']) if array['split'] > 1 else ''}"
                f"{', weights stay, ' + str(array['tokens']) + ' tokens' if 'tokens' in array else ''}")


def plan(top: str, **given: Any) -> list[ChosenTop]:
    """What to verify of ``top``: its configurations, or the one that the values which are not None choose."""
    if top in CORES:
        return _core_plan(choose_top(top, **given))
    decisive = ("zero", "pe", "two_pass", "split", "arch", "dataflow", "tokens")
    if top == "mixpe-array" and all(given.get(name) is None for name in decisive):
        chosen = {name: value for name, value in given.items() if value is not None}
        return [choose_top(top, **{**configuration, **chosen}) for configuration in CONFIGURATIONS]
    return [choose_top(top, **given)]


def _core_plan(chosen: ChosenTop) -> list[ChosenTop]:
    """A core's components in its sizes, then the core: programs for each unit, for all of them, with MM of a prompt."""
    machine, shape = chosen.component.machine, chosen.component.shape
    found = [choose_top("csd-chain", arch=machine.name)] if machine.products == "dsp48e2" else []
    if shape.columns == choose_top("core-mv").component.columns:
        found.append(choose_top("core-mv", banks=shape.channels, dots=shape.dots,
                                lanes=min(shape.lanes, shape.columns)))
    found.append(choose_top("core-sfu", width=shape.sfu_width, channels=shape.channels))
    layers = [*([DECODE] if machine.cores > 1 else []), *([PREFILL] if "MM" in shape.classes else [])]
    parts = [dataclasses.replace(chosen, parameters={"arch": machine.name, "programs": part})
             for part in (*parts_of(shape.classes, shape.kept), *layers)]
    return [*found, *parts]


def real_source(name: str) -> tuple[Path | None, str | None]:
    """The path of a model's file, or why it cannot be had (offline, say); a name that no model has is an InputError."""
    from mixflight.workloads.fetch import fetch_model, source_named

    source_named(name)
    try:
        return fetch_model(name), None
    except InputError as error:
        return None, str(error)


def verify_top(chosen: ChosenTop, *, model: Path | None = None, seed: int = 0, mutate: Mutate | None = None) -> Row:
    """Verify one top in one configuration; ``model`` gives real tiles to an array that takes Q4_1's minima."""
    if isinstance(chosen.component, CsdChain):
        return verify_chain(chosen, seed=seed, mutate=mutate)
    if isinstance(chosen.component, FunctionUnit):
        return verify_function(chosen, seed=seed, mutate=mutate)
    if isinstance(chosen.component, Widen):
        return verify_widen(chosen, seed=seed, mutate=mutate)
    if isinstance(chosen.component, MatrixVector):
        return verify_core_mv(chosen, seed=seed, mutate=mutate)
    if isinstance(chosen.component, Core | CoreCluster):
        return verify_core(chosen, model=model, seed=seed)
    if isinstance(chosen.component, CoreSfu):
        return verify_core_sfu(chosen, seed=seed, mutate=mutate)
    if not hasattr(chosen.component, "lanes"):
        return verify_pe(chosen, seed=seed, mutate=mutate)
    array = chosen.component
    takes_minima = array.zero == "f16-min" and array.element.arithmetic == "integer" and array.element.w_bits == 4
    if isinstance(array, WeightStationaryArray):
        return verify_stationary(chosen, model=model if takes_minima else None, seed=seed, mutate=mutate)
    real = real_tiles(model, chosen) if model is not None and takes_minima else ()
    return verify_array(chosen, real=real, seed=seed, mutate=mutate)


def array_checks(chosen: ChosenTop, real: Sequence[Tile] = (), *, seed: int = 0) -> list[Check]:
    """The runs of :func:`verify_array`."""
    random = np.random.default_rng(seed)
    long, short = 4 * GROUP, GROUP // 4
    several = [random_tile(chosen, random, k=k) for k in (long, GROUP, 2 * GROUP)]
    checks = [
        Check(name="random tile", tiles=several[:1]),
        Check(name="one group", tiles=[random_tile(chosen, random, k=GROUP)]),
        Check(name="back to back", tiles=[random_tile(chosen, random, k=long) for _ in range(3)]),
        Check(name="groups shorter than the lanes' time",
              tiles=[random_tile(chosen, random, k=long, group=short) for _ in range(2)]),
        Check(name="extreme operands", tiles=[random_tile(chosen, random, k=long, extreme=True)]),
        Check(name="largest group, extreme operands", tiles=[random_tile(
            chosen, random, k=2 * chosen.component.group_max, group=chosen.component.group_max, extreme=True)]),
        Check(name="different tiles, all streams stalled", tiles=several, seed=seed + 1,
              stall={"act": 0.3, "wgt": 0.3, "params": 0.3, "out": 0.3}),
        Check(name="late outputs", tiles=several, seed=seed + 2, stall={"out": 0.9}),
        Check(name="late scales", tiles=several, seed=seed + 3, stall={"params": 0.97}),
    ]
    if chosen.component.two_pass:
        wide = [random_tile(chosen, random, k=long, codes="signed8") for _ in range(2)]
        checks += [Check(name="8-bit weights", tiles=wide),
                   Check(name="8-bit weights, stalled", tiles=wide, stall={"act": 0.4, "out": 0.4}, seed=seed + 4)]
    if chosen.component.element.digits:
        checks += [Check(name=f"{kind} weights as groups of digits",
                         tiles=[digits_tile(chosen, random, k=long, bits=bits) for _ in range(2)])
                   for kind, bits in (("8-bit", 8), ("FP16", 12))]
    if chosen.component.split > 1:
        checks += _split_checks(chosen, random, seed)
    for tile in real:
        checks.append(Check(name=tile.source, tiles=[tile]))
    if real:
        checks.append(Check(name="real tiles, stalled", tiles=list(real), seed=seed + 5,
                            stall={"act": 0.2, "wgt": 0.2, "out": 0.5}))
    return checks


def _split_checks(chosen: ChosenTop, random: np.random.Generator, seed: int) -> list[Check]:
    """Tiles on split rows, alone and among others; every stream late in turn."""
    array = chosen.component

    def tile(split: int = array.split, **fields: Any) -> Tile:
        return random_tile(chosen, random, **{"k": 4 * GROUP, **fields}, split=split)

    mixed = [tile(), tile(1), tile(), tile(), tile(1)]
    short = [tile(group=GROUP // 4), tile(1, group=GROUP // 4), tile(group=GROUP // 4)]
    checks = [
        Check(name="split rows", tiles=mixed[:1]),
        Check(name="split rows, extreme operands", tiles=[tile(
            k=2 * array.group_max, group=array.group_max, extreme=True)]),
        Check(name="split and whole rows by turns", tiles=mixed),
        Check(name="split and whole rows, groups shorter than the lanes' time", tiles=short),
        Check(name="split and whole rows, all streams stalled", tiles=mixed, seed=seed + 6,
              stall={"act": 0.3, "wgt": 0.3, "params": 0.3, "out": 0.3}),
    ]
    for number, stream in enumerate(("act", "wgt", "params", "out")):
        checks.append(Check(name=f"split and whole rows, late {stream}", tiles=mixed, stall={stream: 0.9},
                            seed=seed + 7 + number))
    if array.two_pass:
        checks.append(Check(name="split rows, 8-bit weights", tiles=[tile(codes="signed8"), tile(1, codes="signed8")]))
    return checks


def verify_array(chosen: ChosenTop, *, real: Sequence[Tile] = (), seed: int = 0, mutate: Mutate | None = None,
                 checks: Sequence[Check] | None = None) -> Row:
    """Run an emitted array against golden values and computed cycles."""
    build = _build(chosen, mutate)
    planned = array_checks(chosen, real, seed=seed) if checks is None else checks
    jobs = [array_job(chosen.component, [tile.beats() for tile in check.tiles], stall=check.stall, seed=check.seed)
            for check in planned]
    results = run_jobs(build, jobs)
    messages: list[str] = []
    failures = cycles_rtl = cycles_sim = values = 0
    for check, result in zip(planned, results, strict=True):
        found, taken, computed = compare(chosen, check, result)
        failures += bool(found)
        messages += [f"{check.name}: {message}" for message in found]
        cycles_rtl += taken
        cycles_sim += computed
        values += sum(len(words) for words in result.outputs.values())
    return Row(top=chosen.top, configuration=dict(chosen.parameters), tests=len(planned), failures=failures,
               cycles_rtl=cycles_rtl, cycles_sim=cycles_sim, values=values, messages=tuple(messages[:20]),
               real_tiles=len(real), build_s=round(build.seconds, 2),
               run_s=round(sum(result.seconds for result in results), 2))


def compare(chosen: ChosenTop, check: Check, result: Result) -> tuple[list[str], int, int]:
    """What is wrong with a run, the cycles it took and those computed; stalled runs have no computed cycles."""
    array, tiles = chosen.component, check.tiles
    if not result.finished:
        return [f"stopped: no transfer for too long, after {result.cycles} cycles"], 0, 0
    found = list(result.protocol_errors)
    # Tiles of different K differ in nothing here: a tile has rows * cols outputs.
    golden = np.stack([lane_values(tile.outputs(), lanes=array.lanes, split=tile.split) for tile in tiles])
    values = array_values(array, result, tiles=len(tiles))
    wrong = np.argwhere(golden.view(np.uint32) != np.ascontiguousarray(values).view(np.uint32))
    if len(wrong):
        tile, lane, index = (int(place) for place in wrong[0])
        found.append(f"{len(wrong)} of {golden.size} values differ; first tile {tile}, lane {lane}, output {index}: "
                     f"golden {golden[tile, lane, index]!r}, RTL {values[tile, lane, index]!r}")
    if check.stall:
        return found, 0, 0
    taken = array_span(array, result)
    computed = array_cycles(rows=array.rows, cols=array.cols, lanes=array.lanes, zero=array.zero,
                            k=tiles[0].a.shape[1], group=tiles[0].group, passes=tiles[0].passes, tiles=len(tiles))
    if taken != computed:
        found.append(f"{taken} cycles, computed {computed}")
    return found, taken, computed


def verify_stationary(chosen: ChosenTop, *, model: Path | None = None, seed: int = 0,
                      mutate: Mutate | None = None) -> Row:
    """Run an emitted weight-stationary array against golden values and computed cycles."""
    build = _build(chosen, mutate)
    outcome = check_stationary(chosen.component, build, model=model, seed=seed)
    return Row(top=chosen.top, configuration=dict(chosen.parameters), tests=outcome.tests,
               failures=len(outcome.messages), cycles_rtl=outcome.cycles_rtl, cycles_sim=outcome.cycles_sim,
               real_tiles=outcome.real_tiles, values=outcome.values, messages=outcome.messages[:20],
               build_s=round(build.seconds, 2), run_s=round(outcome.run_s, 2))


def verify_pe(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None, sample: int = 1) -> Row:
    """Run a PE over its operands as groups of one, every ``sample``-th of them, then over random groups with gaps."""
    build = build_element(chosen.component, _text(chosen, mutate), top=chosen.module)
    outcome = check_element(chosen.component, build, seed=seed, sample=sample)
    return Row(top=chosen.top, configuration=dict(chosen.parameters), tests=outcome.tests,
               failures=len(outcome.messages), cycles_rtl=outcome.latency, cycles_sim=outcome.expected_latency,
               real_tiles=0, values=outcome.values, messages=outcome.messages, build_s=round(build.seconds, 2),
               run_s=round(outcome.run_s, 2))


def verify_chain(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None) -> Row:
    """Run a sparse DSP chain: every ratio, extreme operands, one row, stalls; values, cycles and busy lanes."""
    build = _build(chosen, mutate)
    outcome = check_chain(chosen.component, build, seed=seed)
    return _row(chosen, outcome, build.seconds)


def verify_function(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None, sample: int = 1) -> Row:
    """Run a function unit over every ``sample``-th of its operands and over its edges, then with stalls."""
    driver = build_function(_text(chosen, mutate), top=chosen.module)
    outcome = check_function(chosen.component, driver, seed=seed, sample=sample)
    return _row(chosen, outcome, driver.seconds)


def verify_widen(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None) -> Row:
    """Run the widening unit over runs of every width, with padding and stalls."""
    build = _build(chosen, mutate)
    outcome = check_widen(chosen.component, build, seed=seed)
    return _row(chosen, outcome, build.seconds)


def verify_core_mv(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None) -> Row:
    """Run a core's matrix engine over tiles of every kind."""
    build = _build(chosen, mutate)
    outcome = check_core_mv(chosen.component, build, seed=seed)
    return _row(chosen, outcome, build.seconds)


def verify_core_sfu(chosen: ChosenTop, *, seed: int = 0, mutate: Mutate | None = None) -> Row:
    """Run a core's special-function unit over random instructions, with and without stalls."""
    unit, model = chosen.component, build_text(_text(chosen, mutate))
    outcome = check_sfu(model, width=unit.width, channels=unit.channels, seed=seed)
    return _row(chosen, outcome, model.seconds)


def verify_core(chosen: ChosenTop, *, model: Path | None = None, seed: int = 0) -> Row:
    """Run programs of the ``programs`` among its parameters on a core, DSP blocks as operators (the same values in the
    same cycles), or on several that meet; ``prefill`` those of a prompt through the first layer of ``model``, without
    which there are none, ``decode`` of single tokens likewise."""
    machine, part = chosen.component.machine, chosen.parameters["programs"]
    if part in (PREFILL, DECODE) and model is None:
        return _row(chosen, NOTHING, 0.0)
    core = cores_of(machine, generic=True)
    core._MustUse__used = True      # its Verilog may be known, then Amaranth would warn
    built = build_core(core)
    if model is not None and part in (PREFILL, DECODE):
        outcome = (check_prefill(built, machine, model, seed=seed) if machine.cores == 1 else
                   check_cores_model(built, machine, model, part, seed=seed))
    else:
        check = check_core if machine.cores == 1 else check_cluster
        outcome = check(built, machine, part, seeds=range(seed, seed + SEEDS))
    return _row(chosen, outcome, built.seconds)


def _row(chosen: ChosenTop, outcome: StreamOutcome, build_s: float) -> Row:
    return Row(top=chosen.top, configuration=dict(chosen.parameters), tests=outcome.tests, failures=outcome.failures,
               cycles_rtl=outcome.cycles_rtl, cycles_sim=outcome.cycles_sim, real_tiles=0, values=outcome.values,
               messages=outcome.messages, build_s=round(build_s, 2), run_s=round(outcome.run_s, 2))


def _build(chosen: ChosenTop, mutate: Mutate | None) -> Build:
    return build_model(_text(chosen, mutate), top=chosen.module)


def _text(chosen: ChosenTop, mutate: Mutate | None) -> str:
    text = models_for(chosen.emit())
    return mutate(text) if mutate else text
