# amaranth: UnusedElaboratable=no
"""The matrix engine on vectors: values to the bit in every layout and width, cycles as stated, stalls without effect."""

import itertools

import numpy as np
import pytest
from core_mv_model import CASES, DEPTHS, STALLS, Machine, Mv, build, check, engine, tile

from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import mv_cycles, passes
from mixflight.rtl.unit_harness import UnitJob, run_unit


@pytest.fixture(scope="module")
def built():
    return build(engine())


def job(machine, mvs, **given):
    return UnitJob(instructions=[mv.word() for mv in mvs], reads=machine.reads(), writes=["out"], pins=machine.pins(),
                   **given)


def test_values(built):
    made = []
    for number, (case, stall) in enumerate(itertools.product(CASES, STALLS)):
        machine = Machine(columns=16, banks=2, **DEPTHS, seed=number)
        made.append((machine, tile(machine, **case, in_line=8, out_line=40), stall, number))
    results = run_unit(built, [job(machine, mvs, stall=stall, seed=seed) for machine, mvs, stall, seed in made])
    for (machine, mvs, _, _), result in zip(made, results, strict=True):
        check(machine, mvs, result)


def test_sums_beyond_twenty_four_bits_are_rounded(built):
    """Four slabs of 512 products of about 127 x 127 are 33 million: some of them odd."""
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=1)
    mvs = tile(machine, rows=1, columns=16, k=512, bits=8, act_group=0, slabs=4, extreme=True)
    assert (machine.sums > 1 << 24).all() and (machine.sums % 2).any()
    result, = run_unit(built, [job(machine, mvs)])
    check(machine, mvs, result)


@pytest.mark.slow    # with rows together: test_core_mm
@pytest.mark.parametrize("dots", ["generic", "dsp48e2"])
def test_chains_give_the_same_values(dots):
    top = engine(dots=dots)
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=5)
    mvs = tile(machine, rows=2, columns=48, k=64, group=32, act_group=32, minimum=True)
    mvs += [Mv(rows=3, columns=32, k=64, bits=8, layout="keys", slot=1, in_line=16, out_line=64)]
    machine.prepare(mvs[-1], 0)
    result, = run_unit(build(top), [job(machine, mvs)])
    check(machine, mvs, result)


@pytest.mark.parametrize(("banks", "columns", "lanes"), [(1, 4, 1), (2, 8, 8), (4, 16, 16), (2, 32, 8), (8, 64, 16)])
@pytest.mark.slow
def test_other_shapes(banks, columns, lanes):
    top = engine(banks=banks, columns=columns, lanes=lanes)
    jobs = []
    for seed, case in enumerate(CASES):
        machine = Machine(columns=columns, banks=banks, **DEPTHS, seed=seed)
        if case["columns"] * case["k"] * case.get("slabs", 1) <= 64 * columns * 16:
            jobs.append((machine, tile(machine, **case)))
    results = run_unit(build(top), [job(machine, mvs, stall={"act": 0.2, "out": 0.2}) for machine, mvs in jobs])
    for (machine, mvs), result in zip(jobs, results, strict=True):
        check(machine, mvs, result)


def test_cycles(built):
    """Back to back, a tile keeps the engine as long as computed, and writes ``latency`` cycles after its last block."""
    top = engine()
    machine = Machine(columns=16, banks=2, **DEPTHS, seed=0)
    mvs = list(itertools.chain.from_iterable(
        tile(machine, rows=rows, columns=columns, k=64, group=group, act_group=group, bits=bits)
        for rows, columns, group, bits in ((1, 128, 32, 4), (1, 128, 32, 8), (2, 64, 64, 4), (1, 64, 32, 4))))
    result, = run_unit(built, [job(machine, mvs)])
    spent = [mv_cycles(columns=mv.columns, step=16, k=mv.k, rows=mv.rows, group=mv.group, serial=2,
                       passes=passes(dots="shift-add", weight_bits=mv.bits)) for mv in mvs]
    assert spent == [1 + 32, 1 + 64, 1 + 32, 1 + 9 + 8]
    assert np.diff(result.taken).tolist() == spent[:-1]
    assert result.write_cycles["out"][-1] - result.taken[-1] == spent[-1] - 1 + top.latency
    assert result.done[-1] == result.write_cycles["out"][-1] + 1


@pytest.mark.parametrize(("given", "message"), [
    ({"lanes": 5}, "lanes must divide the columns of all rows together: 5 does not divide 16"),
    ({"columns": 24, "lanes": 8}, "columns must be 4, 8 or a multiple of 16"),
    ({"banks": 8}, "4, 8, 12 or 16 in a bank, not 16 in 8 banks"),
    ({"dots": "fast"}, "dots must be shift-add, dsp48e2, generic or dsp58, not 'fast'"),
    ({"weight_depth": 255}, "weight_depth must be a multiple of 4 slots, not 255"),
])
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        engine(**given)
