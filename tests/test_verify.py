# amaranth: UnusedElaboratable=no
"""Verification finds wrong hardware, wrong operands and wrong cycle formulas."""

import dataclasses

import numpy as np
import pytest

from mixflight import verification as subject
from mixflight.arch.errors import InputError
from mixflight.rtl.array_elements import ELEMENTS
from mixflight.rtl.design import choose_top

SMALL = {"rows": 2, "cols": 2, "lanes": 1, "group_max": 32}


@pytest.fixture(scope="module")
def array():
    return choose_top("mixpe-array", **SMALL, zero="none")


def _once(text, old, new):
    assert old in text
    return text.replace(old, new)


def test_a_right_array_passes(array):
    row = subject.verify_array(array)
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim > 0
    assert row.values == sum(len(check.tiles) for check in subject.array_checks(array)) * 4


def test_a_broken_adder_in_a_pe_is_found(array):
    row = subject.verify_array(
        array, mutate=lambda text: _once(text, "$signed(accumulator) + ", "$signed(accumulator) - "))
    assert row.failures >= 5
    assert "values differ" in row.messages[0]


def test_a_pe_that_loses_its_top_weight_bit_is_found():
    pe = choose_top("mixpe-w4a8-pe")
    assert subject.verify_pe(pe).failures == 0
    row = subject.verify_pe(pe, mutate=lambda text: _once(text, "w[3] ?", "w[2] ?"))
    assert row.failures >= 3
    assert "every operand pair" in row.messages[0]


def test_one_wrong_weight_bit_is_found(array):
    tile = subject.random_tile(array, np.random.default_rng(3), k=32)

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Corrupted(subject.Tile):
        def beats(self):
            beats = super().beats()
            beats.wgt[5][0] ^= 4
            return beats

    good = subject.Check(name="good", tiles=[tile])
    bad = subject.Check(name="bad", tiles=[Corrupted(**{
        field.name: getattr(tile, field.name) for field in dataclasses.fields(tile)})])
    row = subject.verify_array(array, checks=[good, bad])
    assert (row.tests, row.failures) == (2, 1)
    assert row.messages[0].startswith("bad: ")


def test_a_beat_too_few_is_a_failure_and_no_hang(array):
    tile = subject.random_tile(array, np.random.default_rng(3), k=32)

    class Short(subject.Tile):
        def beats(self):
            beats = super().beats()
            return beats._replace(act=beats.act[:-1])

    short = Short(**{field.name: getattr(tile, field.name) for field in dataclasses.fields(tile)})
    row = subject.verify_array(array, checks=[subject.Check(name="short", tiles=[short])])
    assert row.failures == 1
    assert "stopped" in row.messages[0]


def test_one_cycle_off_is_found(array, monkeypatch):
    right = subject.array_cycles
    monkeypatch.setattr(subject, "array_cycles", lambda **shape: right(**shape) + 1)
    row = subject.verify_array(array)
    unstalled = sum(not check.stall for check in subject.array_checks(array))
    assert row.failures == unstalled
    assert row.cycles_sim - row.cycles_rtl == unstalled


def test_the_default_plan_has_every_zero_point_kind_and_every_pe():
    arrays = subject.plan("mixpe-array")
    assert {array.parameters["zero"] for array in arrays} == {"none", "int4", "f16-min"}
    assert {array.parameters["pe"] for array in arrays} == set(ELEMENTS)
    assert any(array.parameters["two_pass"] for array in arrays)
    assert {array.parameters["split"] for array in arrays} == {1, 2, 4}
    assert [array.parameters["zero"] for array in subject.plan("mixpe-array", zero="int4")] == ["int4"]
    assert {array.parameters["rows"] for array in subject.plan("mixpe-array", rows=4)} == {4}


def test_real_tiles_are_exact_on_a_small_array(smollm2_path):
    array = choose_top("mixpe-array", **SMALL, zero="f16-min")
    tiles = subject.real_tiles(smollm2_path, array)
    assert [tile.a.shape[1] for tile in tiles] == [576, 576, 1536]
    row = subject.verify_array(array, real=tiles)
    assert (row.failures, row.messages, row.real_tiles) == (0, (), 3)


SPLIT = {**SMALL, "zero": "f16-min", "split": 2}


def test_one_real_token_on_split_rows_is_exact(smollm2_path):
    array = choose_top("mixpe-array", **SPLIT)
    tiles = subject.real_tiles(smollm2_path, array)
    assert [(tile.split, *tile.a.shape, len(tile.w)) for tile in tiles] == [
        (1, 2, 576, 2), (1, 2, 576, 2), (1, 2, 1536, 2), (2, 1, 576, 4), (2, 1, 576, 4), (2, 1, 1536, 4)]
    row = subject.verify_array(array, real=tiles)
    assert (row.failures, row.messages, row.real_tiles) == (0, (), 6)
    assert row.cycles_rtl == row.cycles_sim > 0
    assert row.shown == "2x2, 1 lanes, shift-add, zero f16-min, split 2"


@pytest.mark.parametrize("change", [("assign w_in_1_1 = split_1_1_1 ?", "assign w_in_1_1 = split_1_0_1 ?"),
                                    ("wgt_below__0__ready = due_1_1 & advance", "wgt_below__0__ready = advance")])
def test_a_select_or_a_beat_a_step_too_early_on_split_rows_is_found(change):
    array = choose_top("mixpe-array", **SPLIT)
    row = subject.verify_array(array, mutate=lambda text: _once(text, *change))
    assert row.failures >= 3
    assert all("split" in message for message in row.messages)


def test_a_preset_with_split_rows_chooses_them():
    array = choose_top("mixpe-array", arch="mixpe-w4a8-split").parameters
    assert (array["rows"], array["cols"], array["lanes"], array["split"]) == (32, 64, 64, 4)
    assert choose_top("mixpe-array", arch="mixpe-w4a8").parameters["split"] == 1
    with pytest.raises(InputError, match="--split must be at least 1, not 0"):
        choose_top("mixpe-array", split=0)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(len(subject.CONFIGURATIONS)))
def test_the_default_array_in_each_configuration(index, smollm2_path):
    array = subject.plan("mixpe-array")[index]
    row = subject.verify_top(array, model=smollm2_path)
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim
