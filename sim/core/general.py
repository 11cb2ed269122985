"""Traces with any operators on FlightLLM cores: each distinct work timed once, by the engine, and added up.

Operators stand between barriers (``mapping.core_general``), so a pass takes the sum of what they take alone. The core
with most to do sets the time of an operator and the others wait for it at the exchange; what is counted is that of all
cores. Operators that run with a probability count so often. A decode of more than ``STEPS`` steps is sampled: each of
``STEPS`` of them stands for a run of equal length around it.
"""

import functools
from collections import Counter, defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_general import Tile, Work, pieces_of, work_of_cores
from mixflight.mapping.vector import work_of
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.scenario import Run, load_of
from mixflight.sim.core.units import LIMITS, Floats, Units
from mixflight.sim.operator_table import sampled
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace

STEPS = 16
TILES = 256
"""Equal tiles of an operator that are executed one by one."""

Key = tuple[str, str]


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a work takes: cycles, instructions of all cores; ``spent`` and ``used`` of the busiest core, by
    ``LIMITS`` and ``CLASSES``; counts of all cores."""

    cycles: float
    instructions: int
    spent: Floats
    used: Floats
    counts: dict[Key, float]


class GeneralCores:
    """Times operators on one machine."""

    def __init__(self, machine: CoreMachine, units: Units) -> None:
        self.machine, self.units = machine, units
        self.alone = Units(msgspec.structs.replace(machine, cores=1))
        self._timed: dict[tuple[Work, ...], Timed] = {}
        self._rates: dict[Tile, Floats] = {}
        self._works: dict[Operator, tuple[Work, ...]] = {}

    def time(self, operator: Operator) -> Timed:
        """One run of ``operator``."""
        plain = msgspec.structs.replace(operator, name="", layers=(0,), probability=1.0)
        if plain not in self._works:
            self._works[plain] = work_of_cores(operator, self.machine)
        works = self._works[plain]
        if works not in self._timed:
            self._timed[works] = self._time(works)
        return self._timed[works]

    def _time(self, works: tuple[Work, ...]) -> Timed:
        distinct = list(dict.fromkeys(works))
        streams = [pieces_of(work) for work in distinct]
        counts = program_counts(self.machine, streams, [distinct.index(work) for work in works], 1)
        longest = max((self._run(work) for work in distinct if work.tiles), key=lambda run: float(run[0]))
        return Timed(
            cycles=float(longest[0]), spent=longest[1 : 1 + len(LIMITS)], used=longest[1 + len(LIMITS) :],
            instructions=sum(len(streams[distinct.index(work)]) for work in works),
            counts={key: float(values.sum()) for key, values in counts.items()},
        )  # fmt: skip

    def _run(self, work: Work) -> Floats:
        """Cycles, time by limit and occupancy by class, in a row, of one core alone with the barrier of all.

        Of more than ``TILES`` equal tiles so many are executed, and each further one adds what one of the second half
        of ``TILES`` of them alone takes.
        """
        some = work._replace(tiles=tuple((tile, min(count, TILES)) for tile, count in work.tiles))
        found = self._execute(some)
        for tile, count in work.tiles:
            if count > TILES:
                found = found + (count - TILES) * self._rate(tile)
        return found

    def _rate(self, tile: Tile) -> Floats:
        if tile not in self._rates:
            half, all_ = (self._execute(Work(((tile, count),))) for count in (TILES // 2, TILES))
            self._rates[tile] = (all_ - half) / (TILES - TILES // 2)
        return self._rates[tile]

    def _execute(self, work: Work) -> Floats:
        done = execute(self.alone, compile_streams(self.units, [pieces_of(work)], [0]), repeat=False)
        return np.concatenate([[done.total], done.spent[0, 0], done.used[0, 0]])

    def run(self, traces: Sequence[Trace], weights: Sequence[float]) -> Run:
        """Passes, each so many times, by operator."""
        times: Counter[Operator] = Counter()
        for trace, weight in zip(traces, weights, strict=True):
            for operator in trace.operators:
                times[operator] += weight * len(operator.layers) * operator.probability  # type: ignore[assignment]
        names = tuple(dict.fromkeys(operator.name for operator in times))
        kinds = {operator.name: operator.kind for operator in times}
        place = {name: index for index, name in enumerate(names)}
        spent, used = np.zeros((len(names), len(LIMITS))), np.zeros((len(names), len(CLASSES)))
        counts: dict[Key, Floats] = defaultdict(lambda: np.zeros(len(names)))
        cycles, instructions = 0.0, 0.0
        for operator, number in times.items():
            timed, at = self.time(operator), place[operator.name]
            cycles += number * timed.cycles
            instructions += number * timed.instructions
            spent[at] += number * timed.spent
            used[at] += number * timed.used
            for key, value in timed.counts.items():
                counts[key][at] += number * value
            for key, value in _elementwise(operator).items():
                counts[key][at] += number * value
        busy = {kind: float(used[:, index].sum()) / cycles for index, kind in enumerate(CLASSES)}
        return Run(
            names=names, kinds=tuple(kinds[name] for name in names), cycles=cycles, instructions=round(instructions),
            instruction_bytes=0, spent=spent, load=load_of(spent, used), busy=busy, counts=dict(counts),
        )  # fmt: skip

    def decode(self, steps: Sequence[Trace]) -> Run:
        """All steps of a decode, sampled where they are many."""
        return self.run(*sampled(steps, STEPS))


@functools.lru_cache(maxsize=1 << 14)
def _elementwise(operator: Operator) -> dict[Key, float]:
    """What an operator that says its own arithmetic does beside the operation it is timed as."""
    if operator.is_matrix or not (operator.multiplies or operator.adds or operator.table_reads):
        return {}
    elements = float(operator.vector_elements)
    timed_as = 1 if operator.kind in ("elementwise", "lookup") else 0  # the addition of a residual
    work = work_of(operator)
    return {
        ("sfu", "fp32_mul"): elements * operator.multiplies,
        ("sfu", "fp32_add"): elements * (operator.adds - timed_as),
        ("sfu", "table_read"): elements * (operator.table_reads + work.table_reads * timed_as),
    }
