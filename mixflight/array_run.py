"""A run on an array of either dataflow: operands, beats, golden values, cycles of the RTL and as computed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from mixflight.arch.array import Dataflow
from mixflight.rtl.bench_systolic_array import array_job, array_span, array_values
from mixflight.rtl.bench_weight_stationary import stationary_job, stationary_span
from mixflight.rtl.design import ChosenTop
from mixflight.rtl.harness import Job, Result
from mixflight.rtl.stall_pattern import job_stalls
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.rtl.weight_stationary_array import WeightStationaryArray
from mixflight.sim.array_handshake import Span, output_stationary_span, weight_stationary_span
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import TileBeats, lane_values
from mixflight.sim.golden.stationary import StationaryBeats, stationary_beats
from mixflight.sim.stationary_timing import stationary_cycles
from mixflight.verify_tiles import Tile, random_tile

TOP = "mixpe_array"


class Design(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is elaborated; ``tokens`` is 0 and ``split`` 1 where the dataflow has none."""

    dataflow: Dataflow
    pe: str
    rows: int
    cols: int
    lanes: int
    split: int
    tokens: int
    zero: Any
    two_pass: bool
    group_max: int

    @property
    def shape(self) -> dict[str, Any]:
        """What every timing function wants of it."""
        return {"rows": self.rows, "cols": self.cols, "lanes": self.lanes, "zero": self.zero}

    def component(self) -> Any:
        """The array itself."""
        options = {**self.shape, "pe": self.pe, "two_pass": self.two_pass, "group_max": self.group_max}
        if self.dataflow == "weight-stationary":
            return WeightStationaryArray(**options, tokens=self.tokens)
        return SystolicArray(**options, split=self.split)


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One run: ``tiles`` tiles of ``tokens`` x channels over ``k`` back to back, with these stalls.

    ``extreme`` operands have only the largest magnitudes.
    """

    k: int
    group: int
    passes: int
    tokens: int
    split: int
    tiles: int
    stall: dict[str, float]
    seed: int
    extreme: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a point gave: cycles, FP32 values compared, and how many of them were wrong or missing."""

    point: Point
    cycles_rtl: int
    cycles_engine: int
    values: int
    wrong: int

    @property
    def holds(self) -> bool:
        """Values bit-exact and cycles as computed."""
        return self.wrong == 0 and self.cycles_rtl == self.cycles_engine


class PointRun:
    """A point made ready: operands, beats, the job for the bench. ``tiles``: these operands in place of random ones."""

    def __init__(self, design: Design, point: Point, component: Any, tiles: Sequence[Tile] | None = None) -> None:
        self.design, self.point, self.component = design, point, component
        self.shaped = shaped_like(design, component, point.tokens)
        random = np.random.default_rng(point.seed)
        codes = "signed8" if point.passes == 2 else None
        self.tiles: Sequence[Tile] = tiles or [
            random_tile(
                self.shaped, random, k=point.k, group=point.group, split=point.split, codes=codes, extreme=point.extreme
            )
            for _ in range(point.tiles)
        ]
        self.beats: Sequence[Any] = [self._beats(tile) for tile in self.tiles]

    def _beats(self, tile: Tile) -> TileBeats | StationaryBeats:
        if not self.design.tokens:
            return tile.beats()
        assert tile.s_a is not None
        return stationary_beats(
            a=tile.a, w=tile.words(), s_a=tile.s_a, d=tile.d, z=tile.z, group=tile.group, zero=tile.zero,
            passes=tile.passes, signed=bool(tile.signed), rows=self.design.rows, w_bits=tile.w_bits)  # fmt: skip

    def job(self) -> Job:
        """For the bench."""
        point = self.point
        if self.design.tokens:
            return stationary_job(self.component, self.beats, tokens=point.tokens, stall=point.stall, seed=point.seed)
        return array_job(self.component, self.beats, stall=point.stall, seed=point.seed)

    def closed_form(self) -> int:
        """Cycles where nothing stalls."""
        point = self.point
        workload: dict[str, Any] = {name: getattr(point, name) for name in ("k", "group", "passes", "tiles")}
        if self.design.tokens:
            return stationary_cycles(**self.design.shape, tokens=point.tokens, **workload)
        return array_cycles(**self.design.shape, **workload)

    def flow(self, job: Job) -> int:
        """Cycles by the flow rules, with the bench's own stalls."""
        stalls: Mapping[str, Callable[[], bool]] = job_stalls(job.beats, job.counts, job.stall, job.seed)
        if self.design.tokens:
            span: Span = weight_stationary_span(self.beats, stalls, **self.design.shape)
        else:
            span = output_stationary_span(self.beats, stalls, **self.design.shape, split=self.design.split)
        return span.cycles

    def outcome(self, job: Job, result: Result) -> Outcome:
        """Compare; a run that did not end, or broke the protocol, has all its values wrong."""
        lanes = self.design.lanes
        golden = np.stack([lane_values(tile.outputs(), lanes=lanes, split=tile.split) for tile in self.tiles])
        values = np.ascontiguousarray(array_values(self.shaped.component, result, tiles=len(self.tiles)))
        wrong = int((golden.view(np.uint32) != values.view(np.uint32)).sum())
        if not result.finished or result.protocol_errors:
            wrong, cycles = golden.size, 0
        else:
            cycles = (stationary_span if self.design.tokens else array_span)(self.component, result)
        engine = self.flow(job) if self.point.stall else self.closed_form()
        return Outcome(point=self.point, cycles_rtl=cycles, cycles_engine=engine, values=golden.size, wrong=wrong)


def shaped_like(design: Design, component: Any, tokens: int) -> ChosenTop:
    """The array whose tiles a run takes: the output-stationary one of as many rows as a weight tile meets tokens."""
    if design.tokens:
        component = unused(
            SystolicArray(
                **{**design.shape, "rows": tokens}, pe=design.pe, two_pass=design.two_pass, group_max=design.group_max
            )
        )
    return ChosenTop(top="mixpe-array", module=TOP, component=component, parameters={}, clock_mhz=500.0)


def unused(component: Any) -> Any:
    """A component that is looked at and never elaborated; Amaranth would warn."""
    component._MustUse__used = True
    return component
