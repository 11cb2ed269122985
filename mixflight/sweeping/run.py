"""A sweep from beginning to end: screen, re-evaluate what may be on the front, say how far the tiers disagree.

sweep      a space into a folder; Outcome is what ``--json`` prints
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.sim.table_engine import Tier
from mixflight.sweeping.measure import Chunk, Row
from mixflight.sweeping.pareto import Front, Leaders, front_of
from mixflight.sweeping.quantities import ESTIMATED, EXACT, Slack
from mixflight.sweeping.search import optimise, points
from mixflight.sweeping.space import Space, column
from mixflight.sweeping.store import Store, stored_rows
from mixflight.sweeping.workers import Job, Workers

PART: dict[Tier, int] = {"closed-form": 512, "engine": 16}
"""Points of a part: what a crash can lose of each worker's work."""
CORE_PART: dict[Tier, int] = {"closed-form": 16, "engine": 1}
"""The same of machines of cores, whose points take the engine a second."""
ROUNDS = 4
WIDER = 1.25
"""By how much more than the largest disagreement seen the next screening allows for."""


class Progress(msgspec.Struct, kw_only=True):
    """How far a sweep is; ``front`` are points that may still be on it, ``resumed`` those of earlier runs.

    ``best``     the best value of each objective among the points that count
    ``leading``  rows of the front so far by this tier's values, the first objective's best first
    """

    stage: str
    total: int
    done: int = 0
    resumed: int = 0
    failed: int = 0
    excluded: int = 0
    front: int = 0
    best: dict[str, float] = {}
    leading: list[Row] = []
    started: float = msgspec.field(default_factory=time.perf_counter)

    @property
    def points_per_s(self) -> float:
        """Rate of this run."""
        return (self.done - self.resumed) / max(time.perf_counter() - self.started, 1e-9)


OnProgress = Callable[[Progress], None]
"""Called after every part; without one no front is kept while the sweep runs."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a sweep found. ``evaluated`` points were measured by the first tier, ``engine_evaluated`` by the engine;
    ``excluded`` did not meet a constraint on exact quantities, ``failed`` could not be built or run.

    ``pareto``   the points of the front, with both tiers' values of the objectives and how far they are apart
    ``finding``   what the study says that its results support
    ``largest_disagreement``   over all points that both tiers measured: time and energy, engine over closed form less 1
    """

    summary: str
    objectives: dict[str, str]
    by: tuple[str, ...]
    points: int
    evaluated: int
    engine_evaluated: int
    excluded: dict[str, int]
    failed: int
    errors: dict[str, int]
    fidelity: str
    slack: Slack | None
    largest_disagreement: dict[str, float]
    pareto: tuple[dict[str, Any], ...]
    finding: str = ""
    points_per_s: float | None = None
    seconds: float | None = None


class _Sweep:
    """A sweep under way: counts of what was done so far."""

    def __init__(self, store: Store, space: Space, workers: Workers, on_progress: OnProgress | None) -> None:
        self.store, self.space, self.workers, self.on_progress = store, space, workers, on_progress
        self.text = space.digest_text()
        self.cores = isinstance(space.base_machine(), CoreMachine)
        self.excluded: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.looked_at = self.evaluated = self.computed = 0

    def part(self, tier: Tier) -> int:
        """Points of a part."""
        return CORE_PART[tier] if self.cores else PART[tier]

    def measured(self, jobs: Sequence[Job], progress: Progress) -> Iterator[Chunk]:
        """Chunks of all jobs: those of parts that are there are read, the others are measured and kept."""
        missing = []
        for job in jobs:
            chunk = self.store.read(job[0], job[2])
            if chunk is None:
                missing.append(job)
            else:
                progress.resumed += len(job[2])
                self._note(job, chunk, progress)
                yield chunk
        for job, chunk in self.workers.run(self.text, missing):
            self.store.write(job[0], job[2], chunk)
            self.computed += len(chunk.rows)
            self._note(job, chunk, progress)
            yield chunk

    def _note(self, job: Job, chunk: Chunk, progress: Progress) -> None:
        progress.done += len(job[2])
        progress.excluded += sum(chunk.excluded.values())
        progress.failed += sum(1 for row in chunk.rows if row.get("error"))
        if self.on_progress is not None:
            self.on_progress(progress)

    def _note_best(self, row: Row, progress: Progress) -> None:
        if row.get("feasible"):
            for name, way in self.space.objectives.items():
                if row.get(name) is not None:
                    better = min if way == "min" else max
                    progress.best[name] = better(row[name], progress.best.get(name, row[name]))

    def first_tier(self, tier: Tier, front: Front) -> None:
        """Measure what the method asks for by ``tier``, into ``front``."""
        chosen = self.space.method in ("grid", "random")
        leaders = Leaders(self.space)
        for chunk, progress in self._chosen(tier) if chosen else self._optimised(tier):
            self.excluded.update(chunk.excluded)
            self.evaluated += len(chunk.rows)
            for row in chunk.rows:
                if row.get("error"):
                    self.errors[row["error"]] += 1
                front.add(row)
                self._note_best(row, progress)
            progress.front = front.size
            if self.on_progress is not None:
                leaders.add(chunk.rows)
                progress.leading = leaders.rows

    def _chosen(self, tier: Tier) -> Iterator[tuple[Chunk, Progress]]:
        indices = points(self.space)
        progress = Progress(stage=tier, total=len(indices))
        for chunk in self.measured(jobs_of(tier, indices, tier, self.part(tier)), progress):
            yield chunk, progress
        self.looked_at = len(indices)

    def _optimised(self, tier: Tier) -> Iterator[tuple[Chunk, Progress]]:
        progress = Progress(stage=f"{self.space.method}, {tier}", total=self.space.points)
        chunks: list[Chunk] = []
        parts = 0

        def measure(indices: Sequence[int]) -> list[Row]:
            nonlocal parts
            jobs = jobs_of(tier, indices, tier, self.part(tier), parts)
            parts += len(jobs)
            new = list(self.measured(jobs, progress))
            chunks.extend(new)
            self.looked_at += len(indices)
            return [row for chunk in new for row in chunk.rows]

        for done in optimise(self.space, measure):
            progress.done = done
            yield from ((chunk, progress) for chunk in chunks)
            chunks.clear()

    def engine(self, indices: Sequence[int], round_: int) -> list[Row]:
        """Measure ``indices`` by the engine, in order of the points."""
        progress = Progress(stage="engine", total=len(indices), front=len(indices))
        jobs = jobs_of("engine", indices, f"engine-{round_}", self.part("engine"))
        leaders, rows = Leaders(self.space), list[Row]()
        for chunk in self.measured(jobs, progress):
            rows += chunk.rows
            if self.on_progress is not None:
                leaders.add(chunk.rows)
                progress.leading = leaders.rows
        return sorted(rows, key=lambda row: int(row["index"]))


def jobs_of(tier: Tier, indices: Sequence[int], stage: str, size: int, first: int = 0) -> list[Job]:
    """Parts of ``indices`` of ``size`` points, numbered from ``first`` on."""
    return [
        (f"{stage}-{first + place:06d}", tier, indices[start : start + size])
        for place, start in enumerate(range(0, len(indices), size))
    ]


def sweep(
    space: Space, folder: Path, workers: Workers, resume: bool = False, on_progress: OnProgress | None = None
) -> Outcome:
    """Run or complete the sweep of ``space`` in ``folder``; a space without any feasible point is an InputError."""
    started = time.perf_counter()
    store = Store.open(folder, space, resume)
    try:
        run = _Sweep(store, space, workers, on_progress)
        outcome = _screened(run) if space.fidelity == "screened" else _one_tier(run, space.fidelity)
        with whole_file(folder / "front.json") as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(outcome)))
    finally:
        store.close()
    seconds = time.perf_counter() - started
    return msgspec.structs.replace(outcome, points_per_s=run.computed / seconds, seconds=seconds)


def _one_tier(run: _Sweep, tier: Tier) -> Outcome:
    front = Front(run.space)
    run.first_tier(tier, front)
    wanted = set(front.indices())
    _some_left(run, bool(wanted))
    rows = [row for row in stored_rows(run.store.folder, tier) if row["index"] in wanted]
    return _outcome(run, [_entry(run.space, row, None) for row in rows], {}, run.evaluated * (tier == "engine"), None)


def _screened(run: _Sweep) -> Outcome:
    """The closed form for all, the engine for what may be on the front; where the engine is farther from the closed
    form than was allowed for, more is allowed for, and points that were left out come back."""
    slack, folder = Slack(), run.store.folder
    front = Front(run.space, slack)
    run.first_tier("closed-form", front)
    found: dict[int, Row] = {}
    forms: dict[int, Row] = {}
    apart: dict[str, float] = {}
    for round_ in range(ROUNDS):
        wanted = [index for index in front.indices() if index not in found]
        _some_left(run, bool(wanted or found))
        found |= {row["index"]: row for row in run.engine(wanted, round_)}
        new = set(wanted)
        forms |= {row["index"]: row for row in stored_rows(folder, "closed-form") if row["index"] in new}
        apart = _largest(_disagreement(found[index], forms[index]) for index in sorted(found))
        less = max(_less(found[index], forms[index]) for index in found)
        wider = Slack(
            time=_wider(slack.time, apart["time"]), energy=_wider(slack.energy, apart["energy"]),
            less=_wider(slack.less, less),
        )  # fmt: skip
        if wider == slack:
            break
        slack = wider
        front = Front(run.space, slack)
        for row in stored_rows(folder, "closed-form"):
            front.add(row)
    kept = front_of(run.space, found.values())
    _some_left(run, bool(kept))
    entries = [_entry(run.space, found[index], forms[index]) for index in kept]
    return _outcome(run, entries, apart, len(found), slack)


def _wider(allowed: float, seen: float) -> float:
    """What to allow for where ``seen`` was seen."""
    return WIDER * seen if seen > allowed else allowed


_TIMES = ("prefill_time_ms", "decode_time_ms")
_ENERGIES = ("prefill_energy_mj_per_token", "energy_mj_per_token")


def _less(engine: Row, form: Row) -> float:
    """By how much the engine says less than the closed form, of the time or energy of either phase; 0 where it says
    more of all."""
    if engine.get("error") or form.get("error"):
        return 0.0
    return max(0.0, *(1 - float(engine[name] / form[name]) for name in (*_TIMES, *_ENERGIES)))


def _disagreement(engine: Row, form: Row) -> dict[str, float]:
    """Engine over closed form less 1: the phase whose time differs most, and the energy."""
    if engine.get("error") or form.get("error"):
        return {"time": 0.0, "energy": 0.0}

    def largest(*names: str) -> float:
        return max((float(engine[name] / form[name] - 1) for name in names), key=abs)

    return {
        "time": largest(*_TIMES),
        "energy": largest(*_ENERGIES, "hbm_bytes_per_token"),
    }


def _largest(items: Iterable[dict[str, float]]) -> dict[str, float]:
    found = {"time": 0.0, "energy": 0.0}
    for item in items:
        found = {name: max(value, abs(item[name])) for name, value in found.items()}
    return found


def _some_left(run: _Sweep, some: bool) -> None:
    """Refuse a space in which no point counts, and say what left most of them out."""
    if some:
        return
    if not run.excluded and run.evaluated == run.errors.total():
        (error, _), *_ = _commonest(run.errors)
        raise InputError(f"some point of the space must work, none of {run.evaluated:,} does: {error}")
    text = ", ".join(repr(item) for item in run.space.constraints)
    most = f"; {_commonest(run.excluded)[0][0]!r} leaves most out" if run.excluded else ""
    raise InputError(f"the constraints must leave a point, none of {run.looked_at:,} meets {text}{most}")


def _commonest(counts: Counter[str]) -> list[tuple[str, int]]:
    """The ten largest counts; equal ones by their text, whatever came first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]


def _entry(space: Space, row: Row, form: Row | None) -> dict[str, Any]:
    """A point of the front for people and programs: its values, its quantities, both tiers' objectives."""
    names = [column(path) for path in (*space.values, *space.derived)]
    quantities = [name for name in (*EXACT, *ESTIMATED) if row.get(name) is not None]
    entry = {"index": row["index"], **{name: row[name] for name in (*names, *quantities)}}
    entry |= {"prefill_bound_by": row["prefill_bound_by"], "bound_by": row["bound_by"], "key": row["key"]}
    if form is not None:
        entry["closed_form"] = {name: form[name] for name in space.objectives}
        entry["disagreement"] = _disagreement(row, form)
    return entry


def _outcome(
    run: _Sweep, entries: list[dict[str, Any]], apart: dict[str, float], by_engine: int, slack: Slack | None
) -> Outcome:
    space = run.space
    name, way = next(iter(space.objectives.items()))
    sign = 1 if way == "min" else -1
    groups = [column(path) for path in space.by]
    entries.sort(key=lambda item: (*(item[group] for group in groups), sign * item[name], item["index"]))
    return Outcome(
        summary=space.summary, objectives=dict(space.objectives), by=space.by, points=run.looked_at,
        evaluated=run.evaluated, engine_evaluated=by_engine, excluded=dict(sorted(run.excluded.items())),
        failed=run.errors.total(), errors=dict(_commonest(run.errors)), fidelity=space.fidelity, slack=slack,
        largest_disagreement=apart, pareto=tuple(entries), finding=space.finding,
    )  # fmt: skip
