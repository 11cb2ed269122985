# amaranth: UnusedElaboratable=no
"""The weight-stationary array against the golden model: values bit for bit, unstalled cycles equal to the closed form."""

import numpy as np
import pytest
from array_operands import random_operands
from stream_bench import Span, drain, feed, hold_until_taken, never, simulate, sometimes

from mixflight.arch.errors import InputError
from mixflight.rtl.weight_stationary_array import WeightStationaryArray
from mixflight.sim.golden.array import array_outputs, lane_values
from mixflight.sim.golden.stationary import stationary_beats
from mixflight.sim.stationary_timing import stationary_cycles


def run(dut, tiles, *, signed, passes=1, stalls=None, starve=None):
    """Send the tiles through ``dut``; returns the lanes' FP32 bits and the cycles from first weight to last output.

    ``starve`` names a stream whose beats come late, one in ten cycles.
    """
    beats = [stationary_beats(**tile, passes=passes, signed=signed, rows=dut.rows, w_bits=dut.element.w_bits) for tile in tiles]
    sent = {name: [{key: value for key, value in beat._asdict().items() if value != []}
                   for tile in beats for beat in getattr(tile, name)] for name in ("wgt", "act", "params")}
    outputs = [[] for _ in range(dut.lanes)]
    expected = sum(len(tile["a"]) for tile in tiles) * dut.lane_cols
    span = Span()

    def pause(number, name=None):
        if starve is not None and starve == name:
            return sometimes(number, 0.9)
        return never if stalls is None else sometimes(stalls + number, (0.1, 0.5)[(stalls + number) % 2])

    outs = [dut.out[lane] for lane in range(dut.lanes)]
    benches = [(feed, getattr(dut, name), payloads, pause(number, name))
               for number, (name, payloads) in enumerate(sent.items())]
    benches += [(drain, out, expected, outputs[lane], pause(3 + lane)) for lane, out in enumerate(outs)]
    simulate(dut, benches, [(span.watch, dut.wgt, outs), *((hold_until_taken, out) for out in outs)])
    return np.array(outputs, np.uint32), span.cycles


def expected_bits(tiles, lanes):
    values = [lane_values(array_outputs(**tile), lanes=lanes) for tile in tiles]
    return np.concatenate(values, axis=1).view(np.uint32)


# rows, cols, lanes, tokens of the array, tokens sent, pe, zero, passes, signed, group, groups, tiles
CASES = [
    (4, 4, 4, 8, 8, "shift-add", "none", 1, True, 16, 3, 2),
    (4, 4, 1, 8, 8, "shift-add", "int4", 1, False, 16, 2, 2),       # four columns a lane set the period
    (4, 4, 2, 8, 3, "multiply", "f16-min", 1, False, 16, 2, 2),     # fewer tokens than rows: loads set it
    (8, 4, 4, 4, 1, "multiply", "none", 1, True, 32, 2, 3),         # one token
    (8, 4, 4, 4, 4, "centred", "int4", 1, False, 12, 3, 2),         # a group of one and a half tiles
    (8, 4, 2, 16, 11, "centred", "f16-min", 1, False, 5, 3, 2),     # a group shorter than the rows
    (4, 4, 4, 1, 1, "shift-add", "f16-min", 1, False, 2, 7, 3),     # the accumulators' loop sets it
    (1, 3, 3, 1, 1, "multiply", "none", 1, True, 1, 12, 2),
    (1, 1, 1, 4, 2, "multiply", "f16-min", 1, False, 5, 2, 2),
    (3, 5, 1, 6, 6, "shift-add", "int4", 2, True, 7, 2, 2),
    (4, 4, 4, 8, 8, "shift-add", "none", 2, False, 16, 2, 2),
    (4, 8, 2, 4, 4, "centred", "f16-min", 2, True, 10, 2, 2),
    (4, 4, 2, 8, 8, "int8", "none", 1, True, 16, 3, 2),
    (4, 2, 1, 8, 5, "int8", "f16-min", 1, True, 6, 2, 2),
    (5, 4, 4, 8, 8, "centred", "none", 1, False, 32, 2, 2),
]


def case_tiles(case, seed=1, tokens=None):
    """The operands of a case's tiles; centred PEs without zero points give those of the codes less 8."""
    rows, cols, lanes, most, sent, pe, zero, passes, signed, group, groups, count = case
    rng = np.random.default_rng(seed)
    return [random_operands(rng, rows=m, cols=cols, k=group * groups, group=group,
                            w_bits=8 if pe == "int8" else 4 * passes, signed=signed, zero=zero)
            for m in tokens or [sent] * count]


def golden_tiles(case, tiles):
    """What the array stands for: centred PEs without zero points take an unsigned code as that code less 8."""
    less = 8 if case[5] == "centred" and case[6] == "none" else 0
    return [tile | {"w": tile["w"] - less} for tile in tiles]


def built(case, **changes):
    rows, cols, lanes, most, _, pe, zero, passes, *_ = case
    return WeightStationaryArray(**{"rows": rows, "cols": cols, "lanes": lanes, "tokens": most, "pe": pe, "zero": zero,
                                    "two_pass": passes == 2, "group_max": 32} | changes)


@pytest.mark.parametrize(("case", "stalls"), [(case, None) for case in CASES] + [(case, 7) for case in CASES[1::4]],
                         ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else str(value))
def test_values_and_cycles(case, stalls):
    rows, cols, lanes, _, sent, _, zero, passes, signed, group, groups, count = case
    tiles = case_tiles(case)
    got, cycles = run(built(case), tiles, passes=passes, signed=signed, stalls=stalls)
    np.testing.assert_array_equal(got, expected_bits(golden_tiles(case, tiles), lanes))
    if stalls is None:
        assert cycles == stationary_cycles(rows=rows, cols=cols, lanes=lanes, tokens=sent, k=group * groups, group=group,
                                           passes=passes, tiles=count, zero=zero)


@pytest.mark.parametrize("starve", ["wgt", "act", "params"])
def test_a_late_stream_changes_no_value(starve):
    case = CASES[5]
    tiles = case_tiles(case)
    got, _ = run(built(case), tiles, passes=case[7], signed=case[8], starve=starve)
    np.testing.assert_array_equal(got, expected_bits(golden_tiles(case, tiles), case[2]))


@pytest.mark.parametrize("stalls", [None, 3])
def test_tiles_of_different_tokens_follow_each_other(stalls):
    case = CASES[1]
    tiles = case_tiles(case, tokens=[8, 1, 1, 5, 8, 2])
    got, _ = run(built(case), tiles, signed=False, stalls=stalls)
    np.testing.assert_array_equal(got, expected_bits(tiles, 1))


def test_extreme_operands_fill_the_accumulators():
    rng = np.random.default_rng(3)
    for pe, signed, two_pass in (("shift-add", False, True), ("int8", True, False), ("centred", False, False)):
        dut = WeightStationaryArray(rows=4, cols=2, lanes=2, tokens=2, pe=pe, zero="int4", group_max=64, two_pass=two_pass)
        tile = random_operands(rng, rows=2, cols=2, k=128, group=64, w_bits=8 if pe == "int8" or two_pass else 4,
                               signed=signed, zero="int4", extreme=True)
        got, _ = run(dut, [tile], passes=1 + two_pass, signed=signed)
        np.testing.assert_array_equal(got, expected_bits([tile], 2))


def test_refusals():
    with pytest.raises(InputError, match="lanes must divide the array's columns: 3 does not divide 8"):
        WeightStationaryArray(lanes=3)
    with pytest.raises(InputError, match="tokens must be a positive integer, not 0"):
        WeightStationaryArray(tokens=0)
    with pytest.raises(InputError, match="pe must have integer sums in a weight-stationary array, not be fp16"):
        WeightStationaryArray(pe="fp16")
    with pytest.raises(InputError, match="group sums must stay below"):
        WeightStationaryArray(group_max=1024, two_pass=True)
