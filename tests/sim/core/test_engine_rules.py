"""The compiled engine against its rules written plainly, on random streams; and repetition against full execution."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.isa import CLASS_INDEX, CLASSES, token_mask
from mixflight.mapping.core_program import BUFFERS, COLUMNS, OPERATIONS, SYS_OPERATIONS, Piece, Pieces
from mixflight.sim.core.distinct import distinct
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.row import TICKS
from mixflight.sim.core.scenario import Cores
from mixflight.sim.core.units import Units
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

sys.path.insert(0, str(Path(__file__).parent))

from plain_engine import plain_execution

U280 = core_machines()["flightllm-u280"]


def machine(cores, depth=32):
    controller = msgspec.structs.replace(U280.controller, queue_depth=depth)
    return msgspec.structs.replace(U280, cores=cores, controller=controller)


class Stream:
    """Random instructions that wait only for tokens that others released before and nobody took."""

    def __init__(self, random, kinds=CLASSES):
        self.random, self.kinds, self.tokens = random, [kind for kind in kinds if kind != "SYS"], {}

    def piece(self, count, sync=False):
        kinds, tables = [], {kind: {name: [] for name in COLUMNS[kind]} for kind in CLASSES}
        for _ in range(count):
            kind = str(self.random.choice([*self.kinds, "SYS"]))
            self._append(kinds, tables, kind, self._row(kind))
        if sync:
            name = str(self.random.choice(["barrier", "exchange"]))
            row = {"operation": SYS_OPERATIONS.index(name), "bytes": 640, "operator": 1}
            self._append(kinds, tables, "SYS", row)
        arrays = {kind: {name: np.array(column, np.int64) for name, column in table.items()}
                  for kind, table in tables.items()}  # fmt: skip
        return Piece(kinds=np.array(kinds, np.uint8), tables=arrays)

    def _append(self, kinds, tables, kind, row):
        kinds.append(CLASS_INDEX[kind])
        for name in COLUMNS[kind]:
            tables[kind][name].append(row.get(name, 0))

    def _row(self, kind):
        number, random = self.random.integers, self.random
        row = {"operator": number(3)}
        if kind == "SYS":
            return row | {"operation": SYS_OPERATIONS.index("control"), "controls": number(1, 4)}
        for other in self.kinds:
            if other != kind and self.tokens.get((other, kind), 0) and random.random() < 0.7:
                self.tokens[other, kind] -= 1
                row["wait"] = row.get("wait", 0) | token_mask(kind, [other])
            if other != kind and self.tokens.get((kind, other), 0) < 9 and random.random() < 0.2:
                self.tokens[kind, other] = self.tokens.get((kind, other), 0) + 1
                row["release"] = row.get("release", 0) | token_mask(kind, [other])
        if kind in ("LD", "ST"):
            first, channels = [(0, 8), (number(8), 1), (number(4, 12), number(1, 5)), (0, 8)][number(4)]
            row |= {"bytes": number(0, 3) * number(2000), "address": number(64) * 512, "channel": first,
                    "channels": channels, "target": number(len(BUFFERS)), "memory": int(random.random() < 0.1)}  # fmt: skip
            if row["memory"]:
                row |= {"channel": number(2), "channels": 1}
        elif kind in ("MM", "MV"):
            row |= {"rows": number(1, 3), "columns": number(0, 64), "k": number(1, 30) * 16, "keep_n": 16,
                    "weight_bits": 4, "group": 128, "last": 1}  # fmt: skip
        else:
            row |= {"operation": number(len(OPERATIONS)), "vectors": number(3), "elements": number(1, 900),
                    "passes": number(1, 4)}  # fmt: skip
        return row


def ticks(times):
    return np.rint(np.asarray(times) * TICKS).astype(np.int64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("cores", [1, 2])
def test_the_engine_follows_its_rules(seed, cores):
    random = np.random.default_rng(seed)
    units = Units(machine(cores, depth=int(random.choice([1, 3, 32]))), rows=False)
    streams = []
    for _ in range(cores):
        stream = Stream(random, CLASSES if seed % 3 else ("LD", "ST", "MV", "SYS"))
        parts = tuple(stream.piece(int(random.integers(40)), sync=cores > 1) for _ in range(5))
        streams.append(Pieces(pieces=parts, order=np.arange(5)))
    total, spent, slices = plain_execution(units, streams)
    done = execute(units, compile_streams(units, streams, range(cores)), with_slices=True)
    assert done.total * TICKS == total
    np.testing.assert_array_equal(ticks(done.spent), spent)
    for ours, plain in zip(done.slices, slices, strict=True):
        np.testing.assert_array_equal(ours[:, :2], np.array(plain)[:, :2])
        np.testing.assert_array_equal(ticks(ours[:, 2:5]), np.array(plain)[:, 2:])
        assert (ours[:, 5] == 1).all()
    joined = execute(units, compile_streams(units, streams, range(cores)), with_slices=True, merged=True)
    assert joined.total == done.total
    for short, every in zip(joined.slices, done.slices, strict=True):
        np.testing.assert_array_equal(short[np.argsort(short[:, 0], kind="stable")], merged(every))


def merged(slices):
    """Neighbours of a class and an operator as one, class by class."""
    rows = []
    for kind in np.unique(slices[:, 0]):
        for row in slices[slices[:, 0] == kind]:
            if rows and (rows[-1][:2] == row[:2]).all():
                rows[-1][3:5] = np.maximum(rows[-1][3:5], row[3:5])
                rows[-1][5] += row[5]
            else:
                rows.append(row.copy())
    return np.array(rows)


def both_ways(units, streams, **options):
    compiled = compile_streams(units, streams, range(len(streams)))
    short, full = execute(units, compiled, **options), execute(units, compiled, **options, repeat=False)
    assert short.total == full.total
    np.testing.assert_array_equal(short.spent, full.spent)
    np.testing.assert_array_equal(short.busy, full.busy)
    return short, full


@pytest.mark.parametrize("kinds", [CLASSES, ("LD", "ST", "SYS"), ("LD", "MV", "SYS"), ("MISC", "SYS")])
@pytest.mark.parametrize("period", [1, 37])
def test_long_streams_are_short_work(kinds, period):
    """Half a million instructions of one core: periods of any length are found, and change nothing."""
    random = np.random.default_rng(period)
    units = Units(machine(1), rows=False)
    stream = Stream(random, kinds)
    pieces = tuple(stream.piece(20) for _ in range(period))
    stream.tokens.clear()
    closed = tuple(_without_tokens(piece) for piece in pieces)
    opening = Stream(random).piece(300)
    order = np.concatenate([[period], np.arange(30_000) % period, [period], np.arange(20_000) % period])
    short, full = both_ways(units, [Pieces(pieces=(*closed, opening), order=order)])
    assert full.executed > 400_000
    assert short.executed < 0.25 * full.executed


def _without_tokens(piece):
    """Without tokens, which a random piece takes and gives unevenly."""
    none = {name: np.zeros(piece.count("LD"), np.int64) for name in ("wait", "release")}
    tables = {kind: {**table, **{name: np.zeros(piece.count(kind), np.int64) for name in none}}
              for kind, table in piece.tables.items()}  # fmt: skip
    return msgspec.structs.replace(piece, tables=tables)


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_layers_of_a_compiled_pass_are_skipped_on_any_number_of_cores(cores, phase):
    model, recipe = model_named("smollm2-135m"), recipe_named("w4a8g32")
    trace = prefill_trace(model, recipe, 40) if phase == "prefill" else next(decode_traces(model, recipe, 199, 1))
    machines = Cores(machine(cores), model, recipe, max_context=256)
    program = machines.program(trace)
    short, full = machines.execute(program), machines.execute(program, repeat=False)
    assert short.total == full.total
    np.testing.assert_array_equal(short.spent, full.spent)
    assert short.executed < 0.7 * full.executed


def test_a_program_that_never_repeats_is_executed_once():
    random = np.random.default_rng(0)
    units = Units(machine(1), rows=False)
    stream = Stream(random)
    pieces = tuple(stream.piece(300) for _ in range(20))
    short, full = both_ways(units, [Pieces(pieces=pieces, order=np.arange(20))])
    assert short.executed == full.executed


def test_distinct_rows():
    random = np.random.default_rng(0)
    columns = tuple(random.integers(3, size=1000) for _ in range(4))
    first, which = distinct(columns)
    rows = np.stack(columns, axis=1)
    np.testing.assert_array_equal(rows[first][which], rows)
    assert len(first) == len(np.unique(rows, axis=0)) == which.max() + 1
    assert (np.diff(first) > 0).all()
