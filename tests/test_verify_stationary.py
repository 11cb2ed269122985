"""Verification of weight-stationary arrays: passes on right hardware, finds wrong hardware and wrong timing."""

import pytest

from mixflight import array_run
from mixflight import verification as subject
from mixflight.arch.errors import InputError
from mixflight.rtl.design import choose_top

SMALL = {"dataflow": "weight-stationary", "rows": 2, "cols": 2, "lanes": 1, "tokens": 2, "group_max": 32}


def once(text, old, new):
    assert text.count(old) == 1
    return text.replace(old, new)


def test_a_small_array_with_real_tiles_is_exact(smollm2_path):
    array = choose_top("mixpe-array", **SMALL, zero="f16-min")
    row = subject.verify_top(array, model=smollm2_path)
    assert (row.failures, row.messages, row.real_tiles) == (0, (), 3)
    assert row.cycles_rtl == row.cycles_sim > 0
    assert row.shown == "2x2, 1 lanes, shift-add, zero f16-min, weights stay, 2 tokens"


@pytest.mark.parametrize("change", [("assign \\$1  = ~ weights_complete;", "assign \\$1  = 1'h1;"),    # loads in use
                                    ("assign control_1[1] = swap_1_1;", "assign control_1[1] = swap_1;")])  # early
def test_weights_replaced_too_early_are_found(change):
    row = subject.verify_top(choose_top("mixpe-array", **SMALL), mutate=lambda text: once(text, *change))
    assert row.failures >= 3


def test_a_wrong_formula_is_found(monkeypatch):
    array = choose_top("mixpe-array", **SMALL, zero="f16-min")
    right = array_run.stationary_cycles
    monkeypatch.setattr(array_run, "stationary_cycles", lambda **shape: right(**shape) + 1)
    row = subject.verify_top(array)
    assert row.failures > 0
    assert row.cycles_sim - row.cycles_rtl == row.failures


def test_the_preset_chooses_its_dataflow():
    array = choose_top("mixpe-array", arch="mixpe-w4a8-ws").parameters
    assert [array[name] for name in ("dataflow", "rows", "cols", "lanes", "tokens")] == ["weight-stationary", 32, 64, 64, 32]
    assert "tokens" not in choose_top("mixpe-array", arch="mixpe-w4a8").parameters


@pytest.mark.parametrize(("given", "message"), [
    ({"dataflow": "row-stationary"}, "dataflow must be output-stationary or weight-stationary, not 'row-stationary'"),
    ({"dataflow": "weight-stationary", "split": 2}, "split must be 1 in a weight-stationary array, not 2"),
    ({"tokens": 4}, "tokens must not be given for an output-stationary array"),
    ({"dataflow": "weight-stationary", "tokens": 0}, "--tokens must be at least 1, not 0"),
])
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        choose_top("mixpe-array", **given)
