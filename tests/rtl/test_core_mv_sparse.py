# amaranth: UnusedElaboratable=no
"""The matrix engine on N:M weights: values to the bit with stalls, every product busy in every cycle but the first."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator
from core_mv_model import DEPTHS, STALLS, Machine, build, check, engine, tile

from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import TAKE_CYCLES, mv_cycles
from mixflight.rtl.core_operand_select import OperandSelect
from mixflight.rtl.unit_harness import UnitJob, run_unit

SPARSE = {"kept": (4, 8), "lanes": 16}
CASES = [
    {"rows": 1, "columns": 64, "k": 128, "group": 32, "act_group": 32, "keep": 8},
    {"rows": 1, "columns": 48, "k": 256, "group": 64, "act_group": 32, "keep": 4},
    {"rows": 2, "columns": 24, "k": 192, "group": 64, "act_group": 64, "keep": 8, "bits": 8},
    {"rows": 1, "columns": 32, "k": 256, "group": 128, "act_group": 128, "keep": 4, "bits": 8, "in_line": 3},
    {"rows": 3, "columns": 40, "k": 64, "act_group": 0, "keep": 4, "bits": 5},
    {"rows": 1, "columns": 32, "k": 128, "group": 32, "act_group": 32, "keep": 8, "slabs": 4},
    {"rows": 2, "columns": 32, "k": 128, "act_group": 0, "keep": 8, "bits": 8, "slabs": 3},
    {"rows": 1, "columns": 48, "k": 128, "group": 32, "act_group": 32, "minimum": True},
    {"rows": 3, "columns": 48, "k": 64, "bits": 8, "layout": "keys", "act_group": 0},
    {"rows": 3, "columns": 64, "k": 48, "bits": 8, "layout": "values", "act_group": 0},
]
"""The last ones dense: operands in order, minima times sums of activations."""


def job(machine, mvs, **given):
    return UnitJob(instructions=[mv.word() for mv in mvs], reads=machine.reads(), writes=["out"], pins=machine.pins(),
                   watch=["multiplying"], **given)


def steps(mvs):
    """Cycles in which products count, one pass each."""
    return sum(mv.rows * -(-mv.columns // 16) * mv.k * mv.keep // 256 for mv in mvs)


@pytest.fixture(scope="module")
def built():
    return build(engine(dots="generic", **SPARSE))


@pytest.mark.slow
def test_values(built):
    made = []
    for number, (case, stall) in enumerate(itertools.product(CASES, STALLS)):
        machine = Machine(columns=16, banks=2, **DEPTHS, seed=number, sparse=True)
        made.append((machine, tile(machine, **{"in_line": 8, "out_line": 40, **case}), stall, number))
    results = run_unit(built, [job(machine, mvs, stall=stall, seed=seed) for machine, mvs, stall, seed in made])
    for (machine, mvs, _, _), result in zip(made, results, strict=True):
        check(machine, mvs, result)
        assert result.totals["multiplying"] == steps(mvs)


@pytest.mark.parametrize("wider", [0, 1, 2])
def test_operands_by_their_places(wider):
    """The selection alone, in the simulator of the language."""
    rng, select = np.random.default_rng(wider), OperandSelect(columns=3, rows=2)
    lines = rng.integers(0, 256, (2, 4, 16))
    places, block = rng.integers(0, 16, (3, 16)), int(rng.integers(4)) >> wider << wider

    async def bench(ctx):
        for row in range(2):
            ctx.set(select.lines[row], int.from_bytes(bytes(lines[row].reshape(-1).tolist()), "little"))
        ctx.set(select.places.as_value(), sum(int(place) << 4 * i for i, place in enumerate(places.reshape(-1))))
        for pin, value in ((select.wider, wider), (select.block, block), (select.valid, 1)):
            ctx.set(pin, value)
        await ctx.tick()
        ctx.set(select.valid, 0)
        ctx.set(select.places.as_value(), 0)
        for row, column, i in np.ndindex(2, 3, 16):
            of, place = (block + (i >> 4 - wider), places[column, i]) if wider else (block, i)
            assert ctx.get(select.codes[row][column][i]) == lines[row, of, place]
            assert wider or ctx.get(select.block_codes[row][i]) == lines[row, block, i]
        await ctx.tick()
        assert ctx.get(select.codes[0][0][0]) == (lines[0, block, places[0, 0]] if wider else lines[0, block, 0])

    simulator = Simulator(select)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.slow
@pytest.mark.parametrize(("dots", "banks"), [("dsp48e2", 4), ("shift-add", 2)])
def test_other_products(dots, banks):
    """Two passes of 8-bit codes on shift-add count twice."""
    made = []
    for number, case in enumerate(CASES):
        machine = Machine(columns=16, banks=banks, **DEPTHS, seed=number, sparse=True)
        made.append((machine, tile(machine, **{"in_line": 8, "out_line": 40, **case})))
    built = build(engine(dots=dots, banks=banks, **SPARSE))
    for (machine, mvs), result in zip(made, run_unit(built, [job(machine, mvs) for machine, mvs in made]), strict=True):
        check(machine, mvs, result)


@pytest.mark.slow
def test_cycles(built):
    """Tiles back to back, unstalled: the closed form; with 16 steps a group is a word, and all products are busy."""
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=0, sparse=True)
    mvs = list(itertools.chain.from_iterable(
        tile(machine, rows=rows, columns=columns, k=k, group=group, act_group=group, keep=keep, bits=8)
        for rows, columns, k, group, keep in (
            (1, 256, 128, 32, 8), (1, 256, 256, 64, 4), (1, 128, 256, 64, 8), (1, 128, 128, 32, 8), (2, 128, 256, 128, 4),
            (1, 128, 128, 32, 16), (1, 128, 128, 128, 8), (1, 256, 128, 128, 8), (1, 256, 128, 128, 8))))
    result, = run_unit(built, [job(machine, mvs)])
    leaves = engine(dots="generic", **SPARSE).latency + 1
    spent = [mv_cycles(columns=mv.columns, step=16, k=mv.k, rows=mv.rows, group=mv.group, serial=1, passes=1,
                       keep=mv.keep, written=leaves) for mv in mvs]
    assert np.diff(result.taken).tolist() == spent[:-1]
    assert result.totals["multiplying"] == steps(mvs)
    for mv, cycles in zip(mvs, spent, strict=True):
        if mv.group == 128 and mv.keep == 8:
            assert cycles == TAKE_CYCLES + steps([mv])
    assert spent[0] < 1.5 * (TAKE_CYCLES + steps(mvs[:1]))


def test_refusals():
    with pytest.raises(InputError, match=r"must keep 4 or 8 of 16 weights, beside dense ones, not \(2, 8\)"):
        engine(kept=(2, 8))
