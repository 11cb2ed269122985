# amaranth: UnusedElaboratable=no
"""The matrix engine on N:M weights: values to the bit with stalls, every product busy in every cycle but the first."""

import itertools

import numpy as np
import pytest
from core_mv_model import DEPTHS, STALLS, Machine, build, check, engine, tile

from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import TAKE_CYCLES, mv_cycles
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


def run_all(built, seed, banks=2):
    made = []
    for number, (case, stall) in enumerate(itertools.product(CASES, STALLS)):
        machine = Machine(columns=16, banks=banks, **DEPTHS, seed=seed + number, sparse=True)
        made.append((machine, tile(machine, **{"in_line": 8, "out_line": 40, **case}), stall, number))
    results = run_unit(built, [job(machine, mvs, stall=stall, seed=seed) for machine, mvs, stall, seed in made])
    for (machine, mvs, _, _), result in zip(made, results, strict=True):
        check(machine, mvs, result)
        assert result.totals["multiplying"] == steps(mvs)


def test_values(built):
    run_all(built, 0)


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
