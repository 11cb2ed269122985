"""The array's closed form: equivalent ways to write it, and its bounds. The RTL's cycles: tests/rtl."""

import itertools

import pytest

from mixflight.arch.array_pipeline import group_gap, lane_latency, params_depth, sum_bits, tile_shape
from mixflight.arch.errors import InputError
from mixflight.sim.array_timing import array_cycles, drain, group_period


@pytest.mark.parametrize("zero", ["none", "int4", "f16-min"])
def test_where_the_pes_set_the_period_it_is_the_textbook_sum(zero):
    for rows, cols, lanes, group, groups, passes in itertools.product(
            (1, 3, 8), (1, 4, 8), (1, 2, 4), (32, 128), (1, 5), (1, 2)):
        if cols % lanes or passes * group < rows * cols // lanes:
            continue
        shape = {"rows": rows, "cols": cols, "lanes": lanes, "zero": zero}
        assert array_cycles(**shape, k=group * groups, group=group, passes=passes) == (
            groups * passes * group + rows + cols - 2 + drain(**shape))


def test_one_column_a_lane_drains_in_the_lane_s_latency_and_two_registers():
    assert drain(rows=32, cols=64, lanes=64, zero="none") == 2 + lane_latency("none") == 12
    assert drain(rows=32, cols=64, lanes=64, zero="f16-min") == 16


def test_too_few_lanes_set_the_period():
    shape = {"rows": 32, "cols": 64, "zero": "int4"}
    assert group_period(**shape, lanes=64, group=32, passes=1) == 32
    assert group_period(**shape, lanes=32, group=32, passes=1) == 64
    assert group_period(**shape, lanes=32, group=32, passes=2) == 64
    one, two = (array_cycles(**shape, lanes=16, k=4096, group=32, passes=1, tiles=tiles) for tiles in (1, 2))
    assert two - one == 128 * 128


def test_by_hand():
    # 2 groups of 16 on 4 x 4: the last ends in cycle 31; 2 registers, 15 more elements, 10 of the lane.
    assert array_cycles(rows=4, cols=4, lanes=1, k=32, group=16, passes=1, zero="none") == 31 + 2 + 15 + 10 + 1


def test_pipeline_numbers():
    assert group_gap(rows=2, cols=4, lanes=4, zero="f16-min") == 9
    assert params_depth(rows=8, cols=8, lanes=2, zero="none") == 2
    assert params_depth(rows=1, cols=64, lanes=64, zero="none") == 16
    assert sum_bits(group_max=128, w_bits=4, a_bits=8, passes=1) == 19


def test_a_split_tile_is_wider_and_as_large():
    assert tile_shape(rows=32, cols=64, split=1) == (32, 64)
    assert tile_shape(rows=32, cols=64, split=4) == (8, 256)
    for split in (0, 3, 64):
        with pytest.raises(InputError, match=f"split must be a power of two that divides the array's rows: not {split}"):
            tile_shape(rows=32, cols=64, split=split)


def test_refusals():
    shape = {"rows": 4, "cols": 4, "lanes": 2, "zero": "none"}
    with pytest.raises(InputError, match="group must divide K: 32 does not divide 100"):
        array_cycles(**shape, k=100, group=32, passes=1)
    with pytest.raises(InputError, match="passes and tiles must be at least 1, not 0 and 1"):
        array_cycles(**shape, k=64, group=32, passes=0)
    with pytest.raises(InputError, match="lanes must divide the array's columns: 3"):
        array_cycles(**shape | {"lanes": 3}, k=64, group=32, passes=1)
