# amaranth: UnusedElaboratable=no
"""The matrix engine on matrices: rows together give the values of rows alone, all products busy, in stated cycles."""

import itertools

import numpy as np
import pytest
from core_mv_model import CASES, DEPTHS, STALLS, Machine, build, check, engine, job, tile

from mixflight.arch.errors import InputError
from mixflight.arch.mm_pipeline import mm_cycles
from mixflight.arch.mv_pipeline import TAKE_CYCLES, passes
from mixflight.rtl.unit_harness import run_unit

ROWS = (1, 2, 3, 5, 8, 16)
SHAPES = [("generic", 2, 16), ("shift-add", 2, 8), ("generic", 2, 4)]
"""Dots, rows together, lanes."""


def random_tiles(together):
    """Every case with every number of rows whose sums the engine has room for; the first line of activations is odd."""
    for number, (case, rows) in enumerate(itertools.product(CASES, ROWS)):
        if -(-rows // together) * -(-case["columns"] // 16) <= 64 and rows * case["k"] <= 1024:
            machine = Machine(columns=16, banks=2, **DEPTHS, seed=number)
            mvs = tile(machine, **{**case, "rows": rows, "in_line": 7, "out_line": 41})
            yield machine, mvs, STALLS[number % len(STALLS)], number


@pytest.fixture(scope="module", params=[
    pytest.param(shape, id="{} {} {}".format(*shape), marks=[pytest.mark.slow] if index else [])
    for index, shape in enumerate(SHAPES)
])  # fmt: skip
def made(request):
    dots, together, lanes = request.param
    top = engine(dots=dots, together=together, lanes=lanes)
    return top, build(top)


def test_values(made):
    top, built = made
    tiles = list(random_tiles(top.together))
    assert len(tiles) > 50
    results = run_unit(built, [
        job(machine, mvs, top, stall=stall, seed=seed) for machine, mvs, stall, seed in tiles
    ])  # fmt: skip
    for (machine, mvs, _, _), result in zip(tiles, results, strict=True):
        check(machine, mvs, result)
        products = sum(mv.rows * -(-mv.columns // 16) * mv.k // 16 * passes(dots=top.dots, weight_bits=mv.bits)
                       for mv in mvs)  # fmt: skip
        assert result.totals["multiplying"] == products


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_cycles_and_busy_products(made, rows):
    """A dense tile of whole groups of rows has every product busy in every cycle but the one that takes it."""
    top, built = made
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=0)
    mvs = list(itertools.chain.from_iterable(
        tile(machine, rows=rows, columns=columns, k=64, group=group, act_group=group, bits=4)
        for columns, group in ((64, 32), (64, 64), (64, 32), (48, 0))))  # fmt: skip
    result, = run_unit(built, [job(machine, mvs, top)])
    spent = [mm_cycles(columns=mv.columns, step=16, k=mv.k, rows=mv.rows, together=top.together, lanes=top.lanes,
                       group=mv.group, passes=1, behind=number > 0) for number, mv in enumerate(mvs)]  # fmt: skip
    assert np.diff(result.taken).tolist() == spent[:-1]
    groups = -(-rows // top.together)
    last = rows - (groups - 1) * top.together
    assert result.write_cycles["out"][-1] - result.taken[-1] == spent[-1] - 1 + top.latency + last - 1
    assert result.done[-1] == result.write_cycles["out"][-1] + 1
    if groups * top.together == rows and top.dequantise.serial <= 2 and groups >= 4:
        assert spent == [TAKE_CYCLES + mv.columns // 16 * 4 * groups for mv in mvs]
        assert result.totals["multiplying"] == top.together * (sum(spent) - len(mvs))
    assert result.totals["multiplying"] == sum(rows * mv.columns // 16 * 4 for mv in mvs)


def test_the_sums_of_rows_together_go_on_over_slabs(made):
    top, built = made
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=9)
    mvs = tile(machine, rows=5, columns=48, k=64, bits=8, act_group=0, slabs=4, in_line=3)
    result, = run_unit(built, [job(machine, mvs, top, stall={"out": 0.5})])
    check(machine, mvs, result)


@pytest.mark.parametrize(("given", "message"), [
    ({"together": 4}, "rows must go alone or 2 together, not 4"),
    ({"together": 2, "lanes": 12}, "lanes must divide the columns of all rows together: 12 does not divide 32"),
])  # fmt: skip
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        engine(**given)
