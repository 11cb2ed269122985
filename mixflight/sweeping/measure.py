"""A point measured: its design, whether it counts, and what a tier says of it, as one flat row."""

import functools
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import msgspec

from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.sim.table_engine import (
    Counted,
    Tables,
    Tier,
    count_table,
    phase_result,
    scenario_tables,
    slice_of,
)
from mixflight.sweeping.design import Design, Designer, WorkloadKey
from mixflight.sweeping.quantities import (
    ESTIMATED,
    EXACT,
    exact_quantities,
    phase_quantities,
    recorded_perplexities,
)
from mixflight.sweeping.space import Space, assignment, column
from mixflight.workloads.expression import Number

Row = dict[str, Any]
_T = TypeVar("_T")
_REAL_MODELS = ("smollm2", "smollm2-135m")
_TABLES_KEPT = 64
_COUNTS_KEPT = 4096


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of some points, and how many points each constraint left out before they were measured."""

    rows: tuple[Row, ...]
    excluded: dict[str, int]


class _Kept:
    """The latest results by content: equal sub-problems are computed once."""

    def __init__(self, most: int) -> None:
        self.most, self.items = most, OrderedDict[Hashable, Any]()

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        if key in self.items:
            self.items.move_to_end(key)
        else:
            self.items[key] = make()
            if len(self.items) > self.most:
                self.items.popitem(last=False)
        found: _T = self.items[key]
        return found


class Evaluator:
    """Measures points of one space."""

    def __init__(self, space: Space) -> None:
        self.space, self.values, self.designer = space, space.values, Designer(space)
        self.comparisons = space.comparisons()
        self.asked = set(space.objectives).union(*(item.symbols() for item in self.comparisons))
        self.exact = [item for item in self.comparisons if not item.symbols() & set(ESTIMATED)]
        self.tables, self.counts = _Kept(_TABLES_KEPT), _Kept(_COUNTS_KEPT)

    def chunk(self, tier: Tier, indices: Sequence[int]) -> Chunk:
        """The points ``indices`` of the grid; a point that cannot be built or run is a row with its error."""
        excluded: Counter[str] = Counter()
        rows = []
        for index in indices:
            values = assignment(self.values, index)
            row: Row = {"index": index, **{column(path): value for path, value in values.items()}}
            try:
                found = self._measure(self.designer.design(values), tier)
            except InputError as error:
                found = {"error": str(error)}
            except Exception as error:  # a defect of one point must not stop the others: its row says it
                found = {"error": f"{type(error).__name__}: {error}"}
            if isinstance(found, str):
                excluded[found] += 1
            else:
                rows.append({**row, **found})
        return Chunk(rows=tuple(rows), excluded=dict(excluded))

    def _measure(self, design: Design, tier: Tier) -> Row | str:
        """The row of a design, or the exact constraint that it does not meet."""
        exact = exact_quantities(design.accelerator)
        if "perplexity" in self.asked:
            exact["perplexity"] = _perplexity(design.workload)
        if "weight_bytes" in self.asked:
            exact["weight_bytes"] = float(self._tables(design.workload).decode.weight_bytes)
        known: dict[str, Number] = {**design.symbols, **{k: v for k, v in exact.items() if v is not None}}
        for item in self.exact:
            missing = [name for name in item.symbols() & set(EXACT) if exact.get(name) is None]
            if missing:
                raise InputError(f"{missing[0]} must be known for a constraint: it is not for this point")
            if not item.holds(known):
                return item.text
        phases = self._phases(design, tier)
        row: Row = {
            **{column(path): float(value) for path, value in design.derived.items()},
            "key": _key(design), **exact, **phases,
        }  # fmt: skip
        known |= {name: phases[name] for name in ESTIMATED}
        row["feasible"] = all(item.holds(known) for item in self.comparisons)
        return row

    def _phases(self, design: Design, tier: Tier) -> Row:
        machine = design.accelerator
        if isinstance(machine, CoreMachine):
            form = self._core_form(machine, design.workload) if tier == "closed-form" else None
            return form or self._core_phases(machine, design.workload)
        tables = self._tables(design.workload)
        part = slice_of(machine)
        phases = []
        for name in ("prefill", "decode" if tier == "engine" else "decode_sampled"):
            table = getattr(tables, name)
            key = part, design.workload, name, tier

            def count(table: Any = table) -> Counted:
                return count_table(part, table, tier)

            phases.append(phase_result(machine, self.counts.get(key, count), table.tokens))
        first, second = phases
        return {**phase_quantities(first, second), "prefill_bound_by": first.bound_by, "bound_by": second.bound_by}

    def _core_form(self, machine: CoreMachine, key: WorkloadKey) -> Row | None:
        """The closed form of plain decoders; None for what only the engine knows."""
        from mixflight.machines import check_rows
        from mixflight.sim.core.closed_form import decoder_of, estimate_cores

        if key.path == "general":
            return None
        workload, lengths = self.designer.workload(key), key.lengths
        check_rows(machine, lengths.batch, workload.recipe)

        def decoder_with(sequences: int) -> Any:
            def make() -> Any:
                return decoder_of(workload.model, workload.recipe, lengths.prefill, lengths.decode, sequences)

            return self.tables.get((key, sequences), make)

        found = estimate_cores(machine, decoder_with, lengths.batch, lengths.prefill, lengths.decode)
        if found is None:
            return None
        first, second = found
        return {**phase_quantities(first, second), "prefill_bound_by": first.bound_by, "bound_by": second.bound_by}

    def _core_phases(self, machine: CoreMachine, key: WorkloadKey) -> Row:
        """By the engine."""
        from mixflight.machines import check_rows
        from mixflight.sim.core.simulate import path_named, simulate_cores

        workload, lengths = self.designer.workload(key), key.lengths
        check_rows(machine, lengths.batch, workload.recipe)
        found = simulate_cores(
            machine, workload.model, workload.recipe, key.recipe, lengths.prefill, lengths.decode, lengths.batch,
            path=path_named(key.path),
        )  # fmt: skip
        phases = phase_quantities(found.prefill, found.decode)
        return {**phases, "prefill_bound_by": found.prefill.bound_by, "bound_by": found.decode.bound_by}

    def _tables(self, key: WorkloadKey) -> Tables:
        def build() -> Tables:
            workload = self.designer.workload(key)
            return scenario_tables(
                workload.model, workload.recipe, key.lengths.prefill, key.lengths.decode, key.lengths.batch,
                key.float_operands == "int8",
            )  # fmt: skip

        return self.tables.get(key, build)


def _key(design: Design) -> str:
    """Digest of all that makes the point: equal points of different spaces have equal keys."""
    text = msgspec.json.encode((design.accelerator, design.workload), order="deterministic")
    return hashlib.sha256(text).hexdigest()[:16]


def _perplexity(key: WorkloadKey) -> float | None:
    if key.model not in _REAL_MODELS or key.changes:
        return None
    return recorded_perplexities().get(key.recipe)


@functools.lru_cache(maxsize=4)
def _evaluator(text: bytes) -> Evaluator:
    return Evaluator(msgspec.json.decode(text, type=Space))


def measure_chunk(text: bytes, tier: Tier, indices: Sequence[int]) -> Chunk:
    """What a worker does: ``text`` is the space as JSON, whose tables and caches the worker keeps."""
    return _evaluator(text).chunk(tier, indices)
