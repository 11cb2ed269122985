# amaranth: UnusedElaboratable=no
"""The array against the golden model: values bit for bit, unstalled cycles equal to the closed form."""

import numpy as np
import pytest
from stream_bench import Span, drain, feed, hold_until_taken, never, simulate, sometimes

from mixflight.arch.errors import InputError
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import array_outputs, lane_values, tile_beats


def random_operands(rng, *, rows, cols, k, group, passes, signed, zero, extreme=False):
    """Operands of one tile; FP16 values over their whole finite range, subnormals included."""
    def half(*shape):
        bits = rng.integers(0, 1 << 16, shape, np.uint16)
        return np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits).astype(np.uint16).view(np.float16)

    bits = 4 * passes
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    w = rng.integers(low, high, (cols, k))
    a = rng.integers(-128, 128, (rows, k)).astype(np.int8)
    if extreme:
        w = np.where(w < (low + high) / 2, low, high - 1)
        a[:] = -128
    z = {"none": None, "int4": rng.integers(0, 16, (cols, k // group)).astype(np.uint8),
         "f16-min": half(cols, k // group)}[zero]
    return {"a": a, "w": w, "s_a": half(rows, k // group), "d": half(cols, k // group), "z": z,
            "group": group, "zero": zero}


def splits_of(dut, tiles):
    """How many blocks of rows each tile is made for."""
    return [len(tile["w"]) // dut.cols for tile in tiles]


def run(dut, tiles, *, passes, signed, stalls=None, starve=None):
    """Send the tiles through ``dut``; returns the lanes' FP32 bits and the cycles from first to last beat.

    ``starve`` names a stream whose beats come late, one in ten cycles.
    """
    beats = [tile_beats(**tile, passes=passes, signed=signed, split=split)
             for tile, split in zip(tiles, splits_of(dut, tiles), strict=True)]
    act = [{key: value for key, value in beat._asdict().items() if value != []}
           | ({"split": tile.split} if dut.split > 1 else {}) for tile in beats for beat in tile.act]
    wgt = [{"w": beat} for tile in beats for beat in tile.wgt]
    below = [[{"w": beat} for tile in beats if tile.split for beat in tile.wgt_below[i]] for i in range(dut.split - 1)]
    params = [{key: value for key, value in beat._asdict().items() if value}
              for tile in beats for beat in tile.params]
    outputs = [[] for _ in range(dut.lanes)]
    expected = len(tiles) * dut.rows * dut.lane_cols
    span = Span()

    def pause(number, name=None):
        if starve is not None and starve == name:
            return sometimes(number, 0.9)
        return never if stalls is None else sometimes(stalls + number, (0.1, 0.5)[(stalls + number) % 2])

    outs = [dut.out[lane] for lane in range(dut.lanes)]
    benches = [
        (feed, dut.act, act, pause(0, "act")),
        (feed, dut.wgt, wgt, pause(1, "wgt")),
        (feed, dut.params, params, pause(2, "params")),
        *((feed, dut.wgt_below[i], own, pause(50 + i, f"wgt_below_{i}")) for i, own in enumerate(below)),
        *((drain, out, expected, outputs[lane], pause(3 + lane)) for lane, out in enumerate(outs)),
    ]
    watchers = [(span.watch, dut.act, outs), *((hold_until_taken, out) for out in outs)]
    simulate(dut, benches, watchers)
    return np.array(outputs, np.uint32), span.cycles


def expected_bits(tiles, lanes, splits=None):
    """What the lanes must emit, by the golden model."""
    values = [lane_values(array_outputs(**tile), lanes=lanes, split=split)
              for tile, split in zip(tiles, splits or [1] * len(tiles), strict=True)]
    return np.concatenate(values, axis=1).view(np.uint32)


# rows, cols, lanes, pe, zero, two_pass, signed, group, groups, tiles
CASES = [
    (4, 4, 1, "shift-add", "none", False, True, 16, 3, 2),
    (4, 4, 2, "shift-add", "int4", False, False, 16, 2, 2),
    (4, 4, 4, "shift-add", "f16-min", False, False, 16, 2, 2),
    (4, 4, 4, "multiply", "none", False, True, 1, 7, 3),         # the accumulators' loop sets the period
    (4, 4, 1, "multiply", "f16-min", True, True, 4, 3, 2),       # the lane's 16 elements set the period
    (4, 8, 2, "multiply", "int4", True, True, 16, 2, 2),
    (8, 8, 2, "shift-add", "int4", False, False, 32, 2, 2),
    (8, 8, 2, "shift-add", "f16-min", True, False, 16, 2, 2),    # passes * group equals the lane's elements
    (3, 5, 1, "shift-add", "int4", True, True, 16, 2, 2),
    (3, 5, 5, "shift-add", "f16-min", False, True, 2, 4, 3),
    (1, 8, 8, "shift-add", "none", False, False, 8, 3, 3),
    (8, 1, 1, "multiply", "int4", False, True, 8, 2, 2),
    (1, 1, 1, "multiply", "f16-min", False, False, 5, 2, 2),
]


@pytest.mark.parametrize("stalls", [None, 7])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_values_and_cycles(case, stalls):
    rows, cols, lanes, pe, zero, two_pass, signed, group, groups, tile_count = case
    passes = 1 + two_pass
    rng = np.random.default_rng(1)
    k = group * groups
    tiles = [random_operands(rng, rows=rows, cols=cols, k=k, group=group, passes=passes, signed=signed,
                             zero=zero) for _ in range(tile_count)]
    dut = SystolicArray(rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero, two_pass=two_pass, group_max=32)
    got, cycles = run(dut, tiles, passes=passes, signed=signed, stalls=stalls)
    np.testing.assert_array_equal(got, expected_bits(tiles, lanes))
    if stalls is None:
        assert cycles == array_cycles(rows=rows, cols=cols, lanes=lanes, k=k, group=group, passes=passes,
                                      tiles=tile_count, zero=zero)


# rows, cols, lanes, split, pe, zero, two_pass, signed, group, groups, kinds of the tiles (s split, n not)
SPLIT_CASES = [
    (4, 4, 2, 2, "shift-add", "none", False, True, 16, 3, "ss"),
    (4, 4, 4, 4, "shift-add", "int4", False, False, 16, 2, "snnss"),
    (8, 4, 1, 4, "multiply", "f16-min", False, False, 8, 2, "nsn"),     # the lane's 32 elements set the period
    (8, 4, 4, 2, "shift-add", "f16-min", True, True, 8, 2, "sns"),
    (4, 2, 2, 4, "multiply", "int4", True, False, 1, 5, "ssn"),         # the accumulators' loop sets the period
    (12, 3, 3, 4, "multiply", "none", False, True, 4, 4, "sns"),        # blocks of three rows
    (2, 5, 5, 2, "shift-add", "f16-min", False, True, 2, 5, "nss"),     # p close to the period
    (8, 1, 1, 8, "multiply", "none", False, False, 2, 4, "ssn"),        # p equals the lane's elements and the rows
]


def split_tiles(case, seed=11):
    """The operands of a case's tiles."""
    rows, cols, _, split, _, zero, two_pass, signed, group, groups, kinds = case
    rng = np.random.default_rng(seed)
    shapes = {"n": (rows, cols), "s": (rows // split, cols * split)}
    return [random_operands(rng, rows=shapes[kind][0], cols=shapes[kind][1], k=group * groups, group=group,
                            passes=1 + two_pass, signed=signed, zero=zero) for kind in kinds]


@pytest.mark.parametrize("stalls", [None, 5])
@pytest.mark.parametrize("case", SPLIT_CASES, ids=lambda case: "-".join(map(str, case)))
def test_split_tiles_among_others(case, stalls):
    """Values bit for bit, and the cycles of the array without split, for both kinds back to back."""
    rows, cols, lanes, split, pe, zero, two_pass, signed, group, groups, kinds = case
    tiles = split_tiles(case)
    dut = SystolicArray(rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero, two_pass=two_pass, group_max=32,
                        split=split)
    got, cycles = run(dut, tiles, passes=1 + two_pass, signed=signed, stalls=stalls)
    np.testing.assert_array_equal(got, expected_bits(tiles, lanes, splits_of(dut, tiles)))
    if stalls is None:
        assert cycles == array_cycles(rows=rows, cols=cols, lanes=lanes, k=group * groups, group=group,
                                      passes=1 + two_pass, tiles=len(kinds), zero=zero)


@pytest.mark.parametrize("name", ["act", "wgt", "params", "wgt_below_0", "wgt_below_2"])
def test_a_starving_feed_only_delays(name):
    case = (4, 4, 2, 4, "shift-add", "int4", False, False, 8, 3, "snsn")
    tiles = split_tiles(case)
    dut = SystolicArray(rows=4, cols=4, lanes=2, zero="int4", group_max=8, split=4)
    got, _ = run(dut, tiles, passes=1, signed=False, starve=name)
    np.testing.assert_array_equal(got, expected_bits(tiles, 2, splits_of(dut, tiles)))


def test_split_tiles_are_the_tile_of_more_columns():
    """One token on 4 x (2 columns a block) gives the bits of an array of 1 x 8."""
    tile = random_operands(np.random.default_rng(2), rows=1, cols=8, k=32, group=8, passes=1, signed=False,
                           zero="f16-min")
    split, _ = run(SystolicArray(rows=4, cols=2, lanes=2, zero="f16-min", group_max=8, split=4), [tile],
                   passes=1, signed=False)
    wide, _ = run(SystolicArray(rows=1, cols=8, lanes=8, zero="f16-min", group_max=8), [tile], passes=1,
                  signed=False)
    np.testing.assert_array_equal(split.T.ravel(), wide.ravel())


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("two_pass", [False, True])
def test_extreme_operands_in_the_largest_group(two_pass, signed):
    shape = {"rows": 2, "cols": 2}
    tile = random_operands(np.random.default_rng(3), **shape, k=128, group=128, passes=1 + two_pass,
                           signed=signed, zero="int4", extreme=True)
    dut = SystolicArray(**shape, lanes=1, zero="int4", two_pass=two_pass, group_max=128)
    got, _ = run(dut, [tile], passes=1 + two_pass, signed=signed)
    np.testing.assert_array_equal(got, expected_bits([tile], 1))


def test_four_bit_weights_take_one_pass_on_a_two_pass_array():
    tile = random_operands(np.random.default_rng(6), rows=2, cols=4, k=16, group=8, passes=1, signed=True,
                           zero="none")
    dut = SystolicArray(rows=2, cols=4, lanes=2, two_pass=True, group_max=16)
    got, cycles = run(dut, [tile], passes=1, signed=True)
    np.testing.assert_array_equal(got, expected_bits([tile], 2))
    assert cycles == array_cycles(rows=2, cols=4, lanes=2, k=16, group=8, passes=1, zero="none")


def test_the_order_of_groups_shows_in_the_last_bits():
    """A model that adds the groups the other way round differs: the comparison is not blind to rounding."""
    tile = random_operands(np.random.default_rng(8), rows=4, cols=4, k=64, group=4, passes=1, signed=True,
                           zero="none")
    for name in ("s_a", "d"):
        tile[name] = (np.abs(tile[name].astype(np.float32)) % 1 + 0.5).astype(np.float16)
    backwards = {name: np.ascontiguousarray(tile[name][:, ::-1]) for name in ("a", "w", "s_a", "d")}
    assert (expected_bits([tile], 1) != expected_bits([tile | backwards], 1)).any()
    got, _ = run(SystolicArray(rows=4, cols=4, lanes=1, group_max=4), [tile], passes=1, signed=True)
    np.testing.assert_array_equal(got, expected_bits([tile], 1))


def test_the_last_step_of_a_group_waits_for_the_scales_and_for_the_gap():
    dut = SystolicArray(rows=2, cols=4, lanes=1, group_max=16)
    assert dut.group_gap == 8
    accepted = []

    async def bench(ctx):
        ctx.set(dut.out[0].ready, 1)
        ctx.set(dut.act.valid, 1)
        ctx.set(dut.wgt.valid, 1)
        ctx.set(dut.act.p.last_in_group, 1)
        for cycle in range(24):
            ctx.set(dut.params.valid, cycle >= 5)
            assert ctx.get(dut.params.ready) or not ctx.get(dut.act.ready)
            if ctx.get(dut.act.ready):
                assert ctx.get(dut.wgt.ready)
                accepted.append(cycle)
            await ctx.tick()

    simulate(dut, [(bench,)])
    assert accepted == [5, 13, 21]


def test_activations_and_weights_are_taken_together():
    dut = SystolicArray(rows=2, cols=2, lanes=1, group_max=16)

    async def bench(ctx):
        for act, wgt in ((0, 0), (0, 1), (1, 0), (1, 1)):
            ctx.set(dut.act.valid, act)
            ctx.set(dut.wgt.valid, wgt)
            assert ctx.get(dut.act.ready & dut.act.valid) == (act and wgt)
            assert ctx.get(dut.wgt.ready & dut.wgt.valid) == (act and wgt)
            await ctx.tick()

    simulate(dut, [(bench,)])


def test_refusals():
    with pytest.raises(InputError, match="lanes must divide the array's columns: 3 does not divide 8"):
        SystolicArray(rows=8, cols=8, lanes=3)
    with pytest.raises(InputError, match="rows must be a positive integer, not 0, in a systolic array"):
        SystolicArray(rows=0, cols=8, lanes=1)
    with pytest.raises(InputError, match="pe must be one of shift-add, multiply, centred, int8, dequantise, aligned, float, fp16, not 'lut'"):
        SystolicArray(rows=8, cols=8, lanes=1, pe="lut")
    with pytest.raises(InputError, match="zero must be one of none, int4, f16-min, not 'int8'"):
        SystolicArray(rows=8, cols=8, lanes=1, zero="int8")
    for split in (3, 16):
        with pytest.raises(InputError, match=f"split must be a power of two that divides the array's rows: not {split}"):
            SystolicArray(rows=12, cols=8, lanes=1, split=split)
    with pytest.raises(InputError, match=r"group sums must stay below 2\*\*24"):
        SystolicArray(rows=8, cols=8, lanes=1, group_max=1024, two_pass=True)
