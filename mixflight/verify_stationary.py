"""The checks of a weight-stationary array: random, extreme and real tiles, whole and partial, stalled or not."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from mixflight.array_run import Design, Outcome, Point, PointRun, shaped_like
from mixflight.rtl.harness import Build, run_jobs
from mixflight.rtl.weight_stationary_array import WeightStationaryArray
from mixflight.verify_tiles import GROUP, Tile, real_tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class StationaryOutcome:
    """What was compared and what was wrong; cycles are sums over the unstalled runs."""

    tests: int
    messages: tuple[str, ...]
    cycles_rtl: int
    cycles_sim: int
    values: int
    real_tiles: int
    run_s: float


def design_of(array: WeightStationaryArray) -> Design:
    """The array's parameters."""
    return Design(
        dataflow="weight-stationary",
        pe=array.pe,
        rows=array.rows,
        cols=array.cols,
        lanes=array.lanes,
        split=1,
        tokens=array.tokens,
        zero=array.zero,
        two_pass=array.two_pass,
        group_max=array.group_max,
    )


def stationary_points(array: WeightStationaryArray, seed: int = 0) -> dict[str, Point]:
    """The runs with random operands, by name."""

    def point(
        tokens: int = array.tokens,
        *,
        k: int = 4 * GROUP,
        group: int = GROUP,
        passes: int = 1,
        tiles: int = 2,
        extreme: bool = False,
        stall: dict[str, float] | None = None,
    ) -> Point:
        return Point(
            k=k,
            group=group,
            passes=passes,
            tokens=tokens,
            split=1,
            tiles=tiles,
            stall=stall or {},
            seed=seed,
            extreme=extreme,
        )

    longest, streams = array.group_max, ("act", "wgt", "params", "out")
    found = {
        "random tile": point(tiles=1),
        "back to back": point(tiles=3),
        "one token": point(1),
        "some tokens": point(array.tokens // 2 + 1),
        "groups shorter than the rows": point(group=array.rows // 2 or 1, k=4 * (array.rows // 2 or 1)),
        "groups that leave a part of a weight tile": point(group=array.rows + 1, k=3 * array.rows + 3),
        "extreme operands": point(extreme=True),
        "largest group, extreme operands": point(k=2 * longest, group=longest, extreme=True),
        "all streams stalled": point(stall=dict.fromkeys(streams, 0.3)),
        **{f"late {name}": point(stall={name: 0.9}) for name in streams},
    }
    if array.two_pass:
        found["8-bit weights"] = point(passes=2)
        found["8-bit weights, stalled"] = point(passes=2, stall={"act": 0.4, "out": 0.4})
    return found


def stationary_runs(array: WeightStationaryArray, model: Path | None, seed: int) -> dict[str, PointRun]:
    """All runs; with ``model`` also on tiles of its linears, as many tokens as the array takes."""
    design = design_of(array)
    runs = {name: PointRun(design, point, array) for name, point in stationary_points(array, seed).items()}
    tiles: Sequence[Tile] = real_tiles(model, shaped_like(design, array, array.tokens)) if model else ()
    for tile in tiles:
        point = Point(
            k=tile.a.shape[1], group=tile.group, passes=1, tokens=array.tokens, split=1, tiles=1, stall={}, seed=seed
        )
        runs[tile.source] = PointRun(design, point, array, [tile])
    return runs


def check_stationary(
    array: WeightStationaryArray, build: Build, *, model: Path | None = None, seed: int = 0
) -> StationaryOutcome:
    """Run ``build``, made of ``array``; stalled runs too have their cycles computed."""
    runs = stationary_runs(array, model, seed)
    jobs = [run.job() for run in runs.values()]
    results = run_jobs(build, jobs)
    outcomes: dict[str, Outcome] = {
        name: run.outcome(job, result) for (name, run), job, result in zip(runs.items(), jobs, results, strict=True)
    }
    plain = [outcome for outcome in outcomes.values() if not outcome.point.stall]
    return StationaryOutcome(
        tests=len(outcomes), values=sum(outcome.values for outcome in outcomes.values()),
        messages=tuple(f"{name}: {outcome.wrong} of {outcome.values} values differ; {outcome.cycles_rtl} cycles, "
                       f"computed {outcome.cycles_engine}" for name, outcome in outcomes.items() if not outcome.holds),
        cycles_rtl=sum(outcome.cycles_rtl for outcome in plain),
        cycles_sim=sum(outcome.cycles_engine for outcome in plain),
        real_tiles=len(outcomes) - len(stationary_points(array)), run_s=sum(result.seconds for result in results),
    )  # fmt: skip
