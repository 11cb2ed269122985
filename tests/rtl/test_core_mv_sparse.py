# amaranth: UnusedElaboratable=no
"""The matrix engine on N:M weights: values to the bit with stalls, every product busy in every cycle but the first."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator
from core_mv_model import DEPTHS, STALLS, Machine, build, check, engine, job, tile

from mixflight.arch.errors import InputError
from mixflight.arch.mm_pipeline import mm_cycles
from mixflight.arch.mv_pipeline import TAKE_CYCLES
from mixflight.rtl.core_operand_select import OperandSelect
from mixflight.rtl.unit_harness import run_unit

pytestmark = pytest.mark.timeout(2400)
"""To compile an engine takes minutes."""
SPARSE = {"kept": (2, 4, 8), "together": 2, "lanes": 32}
CASES = [
    {"rows": 1, "columns": 64, "k": 128, "group": 32, "act_group": 32, "keep": 8},
    {"rows": 1, "columns": 48, "k": 256, "group": 64, "act_group": 32, "keep": 4},
    {"rows": 2, "columns": 24, "k": 192, "group": 64, "act_group": 64, "keep": 8, "bits": 8},
    {"rows": 1, "columns": 32, "k": 256, "group": 128, "act_group": 128, "keep": 4, "bits": 8, "in_line": 3},
    {"rows": 3, "columns": 40, "k": 64, "act_group": 0, "keep": 4, "bits": 5},
    {"rows": 1, "columns": 32, "k": 128, "group": 32, "act_group": 32, "keep": 8, "slabs": 4},
    {"rows": 2, "columns": 32, "k": 128, "act_group": 0, "keep": 8, "bits": 8, "slabs": 3},
    {"rows": 1, "columns": 48, "k": 384, "group": 128, "act_group": 128, "keep": 2},
    {"rows": 5, "columns": 24, "k": 128, "group": 128, "act_group": 128, "keep": 2, "bits": 8, "in_line": 3},
    {"rows": 4, "columns": 32, "k": 256, "act_group": 0, "keep": 2, "bits": 5},
    {"rows": 8, "columns": 16, "k": 128, "act_group": 0, "keep": 2, "bits": 8, "slabs": 3, "in_line": 5},
    {"rows": 7, "columns": 32, "k": 128, "group": 32, "act_group": 32, "keep": 8, "bits": 8, "in_line": 1},
    {"rows": 1, "columns": 48, "k": 128, "group": 32, "act_group": 32, "minimum": True},
    {"rows": 3, "columns": 48, "k": 64, "bits": 8, "layout": "keys", "act_group": 0},
    {"rows": 3, "columns": 64, "k": 48, "bits": 8, "layout": "values", "act_group": 0},
]
"""The last ones dense: operands in order, minima times sums of activations."""


def products(mvs):
    """Rows times steps of columns times words: what ``multiplying`` counts."""
    return sum(mv.rows * -(-mv.columns // 16) * mv.k * mv.keep // 256 for mv in mvs)


@pytest.fixture(scope="module")
def made():
    top = engine(dots="generic", **SPARSE)
    return top, build(top)


@pytest.mark.slow
def test_values(made):
    top, built = made
    tiles = []
    for number, (case, stall) in enumerate(itertools.product(CASES, STALLS)):
        machine = Machine(columns=16, banks=2, **DEPTHS, seed=number, sparse=True)
        tiles.append((machine, tile(machine, **{"in_line": 8, "out_line": 40, **case}), stall, number))
    results = run_unit(built, [job(machine, mvs, top, stall=stall, seed=seed) for machine, mvs, stall, seed in tiles])
    for (machine, mvs, _, _), result in zip(tiles, results, strict=True):
        check(machine, mvs, result)
        assert result.totals["multiplying"] == products(mvs)


@pytest.mark.parametrize("wider", [0, 1, 2, 3])
def test_operands_by_their_places(wider):
    """The selection alone, in the simulator of the language."""
    rng, select = np.random.default_rng(wider), OperandSelect(columns=3, rows=2, far=True)
    lines = rng.integers(0, 256, (2, 8, 16))
    places, block = rng.integers(0, 16, (3, 16)), int(rng.integers(4)) >> wider << wider

    async def bench(ctx):
        for row in range(2):
            for given, part in ((select.lines, lines[row, :4]), (select.far_lines, lines[row, 4:])):
                ctx.set(given[row], int.from_bytes(bytes(part.reshape(-1).tolist()), "little"))
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
def test_rows_alone_and_other_products(dots, banks):
    """Two passes of 8-bit codes on shift-add count twice."""
    tiles = []
    for number, case in enumerate(CASES):
        machine = Machine(columns=16, banks=banks, **DEPTHS, seed=number, sparse=True)
        tiles.append((machine, tile(machine, **{"in_line": 8, "out_line": 40, **case})))
    top = engine(dots=dots, banks=banks, kept=(2, 4, 8), lanes=16)
    for (machine, mvs), result in zip(tiles, run_unit(build(top), [job(machine, mvs, top) for machine, mvs in tiles]),
                                      strict=True):
        check(machine, mvs, result)


def computed(top, mvs):
    """Cycles of each of successive tiles."""
    return [mm_cycles(columns=mv.columns, step=16, k=mv.k, rows=mv.rows, together=top.together, lanes=top.lanes,
                      group=mv.group, passes=1, keep=mv.keep, written=top.latency + 1) for mv in mvs]


def run_tiles(made, shapes):
    """(Instructions, result) of tiles back to back, unstalled, each (rows, columns, K, group, kept of 16)."""
    top, built = made
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=0, sparse=True)
    mvs = list(itertools.chain.from_iterable(
        tile(machine, rows=rows, columns=columns, k=k, group=group, act_group=group, keep=keep, bits=8)
        for rows, columns, k, group, keep in shapes))
    result, = run_unit(built, [job(machine, mvs, top)])
    assert np.diff(result.taken).tolist() == computed(top, mvs)[:-1]
    assert result.totals["multiplying"] == products(mvs)
    return mvs, result


@pytest.mark.slow
def test_cycles(made):
    """Tiles of a row and of some: the closed form, whether results leave as fast as they come or hold blocks up."""
    run_tiles(made, (
        (1, 256, 128, 32, 8), (1, 256, 256, 64, 4), (1, 128, 256, 64, 8), (1, 128, 128, 32, 8), (2, 128, 256, 128, 4),
        (1, 128, 128, 32, 16), (1, 128, 128, 128, 8), (1, 256, 256, 128, 2), (3, 128, 256, 128, 2),
        (16, 64, 128, 32, 8), (16, 64, 256, 32, 8), (7, 128, 128, 32, 8), (7, 128, 256, 64, 8), (5, 64, 128, 32, 16),
        (1, 64, 128, 0, 8), (1, 64, 256, 32, 8)))


@pytest.mark.slow
@pytest.mark.parametrize(("k", "group", "keep"), [(256, 32, 16), (512, 32, 8), (512, 64, 4), (1024, 128, 2), (1024, 256, 2)])
def test_all_products_are_busy_in_mm_and_half_of_them_on_a_vector(made, k, group, keep):
    """Every cycle but those that take an instruction, dense and N:M; a DSP has a product for each of two rows."""
    top, _ = made
    for rows, columns, busy in ((8, 64, 2), (1, 192, 1)):
        shape = (rows, columns, min(k, 4 * group), group, keep) if columns > 64 else (rows, columns, k, group, keep)
        mvs, result = run_tiles(made, [shape] * 3)
        cycles = sum(computed(top, mvs))
        assert cycles == sum(-(-mv.rows // 2) * mv.columns // 16 * mv.k * mv.keep // 256 + TAKE_CYCLES for mv in mvs)
        assert result.totals["multiplying"] == busy * (cycles - TAKE_CYCLES * len(mvs))


def test_refusals():
    with pytest.raises(InputError, match=r"must keep 2, 4 or 8 of 16 weights, beside dense ones, not \(1, 8\)"):
        engine(kept=(1, 8))
