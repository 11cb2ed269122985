"""The flow rules without a stall are the closed forms; stalls only add. Against RTL: tests/test_array_sweep.py."""

import random

import numpy as np
from array_operands import random_operands
from stream_bench import sometimes

from mixflight.sim.array_handshake import output_stationary_span, weight_stationary_span
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import tile_beats
from mixflight.sim.golden.stationary import stationary_beats
from mixflight.sim.stationary_timing import stationary_cycles

SHAPES = [(1, 1, 1, 1), (2, 4, 4, 2), (4, 4, 1, 4), (4, 6, 3, 1), (8, 4, 2, 4), (3, 5, 5, 1)]
"""Rows, columns, lanes, split."""


def points(seed, count):
    """Random arrays and what they run."""
    choose = random.Random(seed)
    for _ in range(count):
        rows, cols, lanes, split = choose.choice(SHAPES)
        group, groups = choose.choice([1, 3, 8, 16, 20]), choose.randint(1, 4)
        yield (choose, {"rows": rows, "cols": cols, "lanes": lanes, "zero": choose.choice(["none", "int4", "f16-min"])},
               split, group, groups * group, choose.choice([1, 2]), choose.randint(1, 3))


def stalls_of(choose, names):
    probability = choose.choice([0.1, 0.5, 0.9])
    return {name: sometimes(choose.random(), probability) for name in names}


def test_output_stationary():
    for choose, shape, split, group, k, passes, count in points(1, 60):
        used = choose.choice([1, split])
        operands = random_operands(np.random.default_rng(0), rows=shape["rows"] // used, cols=shape["cols"] * used, k=k,
                                   group=group, w_bits=4 * passes, signed=True, zero=shape["zero"])
        beats = [tile_beats(**operands, passes=passes, signed=True, split=used)] * count
        expected = array_cycles(**shape, k=k, group=group, passes=passes, tiles=count)
        assert output_stationary_span(beats, {}, **shape, split=split).cycles == expected
        stalls = stalls_of(choose, ["act", "wgt", "params", "out__0", "wgt_below__0"])
        assert output_stationary_span(beats, stalls, **shape, split=split).cycles >= expected


def test_weight_stationary():
    for choose, shape, _, group, k, passes, count in points(2, 60):
        tokens = choose.choice([1, 2, 5, 9])
        operands = random_operands(np.random.default_rng(0), rows=tokens, cols=shape["cols"], k=k, group=group,
                                   w_bits=4 * passes, signed=True, zero=shape["zero"])
        beats = [stationary_beats(**operands, passes=passes, signed=True, rows=shape["rows"])] * count
        expected = stationary_cycles(**shape, tokens=tokens, k=k, group=group, passes=passes, tiles=count)
        assert weight_stationary_span(beats, {}, **shape).cycles == expected
        stalls = stalls_of(choose, ["act", "wgt", "params", "out__0"])
        assert weight_stationary_span(beats, stalls, **shape).cycles >= expected
