"""Rows that share a word of weights: what chains have, and what it does to cycles."""

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.mm_pipeline import mm_cycles, rows_in_core, rows_together
from mixflight.arch.mv_pipeline import TAKE_CYCLES, mv_cycles


@pytest.mark.parametrize(
    ("name", "rows"), [("flightllm-mini", 2), ("flightllm-u280", 4), ("flightllm-vhk158", 4), ("mixpe-mini", 1)]
)
def test_a_word_of_weights_and_its_rows_are_all_macs_of_a_cycle(name, rows):
    machine = accelerator_named(name)
    assert rows_together(machine) == rows
    assert rows_in_core(machine) == (rows if machine.cores == 1 else 1)
    if machine.chains is not None:
        assert rows * machine.column_step * 16 == machine.mm_macs_per_cycle


@pytest.mark.parametrize("together", [1, 2, 4])
def test_a_dense_tile_takes_its_macs_over_those_of_a_cycle(together):
    cycles = mm_cycles(columns=128, step=16, k=576, rows=8, together=together, passes=1, group=32, lanes=16 * together)
    assert cycles == TAKE_CYCLES + 128 * 576 * 8 // (16 * 16 * together)


def test_one_row_together_is_an_mv():
    tile = {"columns": 48, "step": 16, "k": 128, "rows": 3, "passes": 2, "group": 32, "more": True}
    assert mm_cycles(together=1, lanes=8, **tile) == mv_cycles(serial=2, **tile)


def test_too_few_lanes_set_the_pace():
    """Groups of two blocks: 32 sums every two cycles, and only eight lanes for them."""
    tile = {"columns": 64, "step": 16, "k": 64, "rows": 8, "together": 2, "passes": 1, "group": 32}
    assert mm_cycles(lanes=16, **tile) == TAKE_CYCLES + 2 * 32
    assert mm_cycles(lanes=8, **tile) == TAKE_CYCLES + 4 * 31 + 2
