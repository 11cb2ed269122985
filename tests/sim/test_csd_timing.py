"""The chain's schedule by hand and by its bounds."""

import pytest

from mixflight.arch.csd_chain import RATIOS, node_latency
from mixflight.sim.csd_timing import chain_cycles, chain_schedule


def test_one_slab_by_hand():
    """16 entries in cycles 0 ... 15, a step in each of 16 ... 31, the last sum 1 + 15 + 4 cycles after the last."""
    assert chain_schedule(entries=[16], steps=[16]) == [(16, 31)]
    assert node_latency(node=7, group=2, variant="dsp48e2") == 20
    assert chain_cycles(entries=[16], steps=[16], length=16, group=2, variant="dsp48e2") == 31 + 20 + 1


def test_the_first_node_is_fourteen_cells_earlier_and_dsp58_cells_take_two_products():
    assert node_latency(node=0, group=2, variant="dsp48e2") == 6
    assert node_latency(node=7, group=2, variant="dsp58") == 1 + 7 + 4


def test_slabs_without_a_gap_when_each_is_used_as_long_as_the_next_is_loaded():
    schedule = chain_schedule(entries=[16] * 9, steps=[16] * 9)
    assert [first for first, _ in schedule] == [16 + 16 * i for i in range(9)]


def test_a_slab_waits_for_the_bank_of_the_one_before_last():
    """Slab 2 may be loaded from the cycle after slab 0's last step: 4 entries in 10 ... 13, used from 14 or later."""
    assert chain_schedule(entries=[4, 4, 4], steps=[6, 1, 1]) == [(4, 9), (10, 10), (14, 14)]


@pytest.mark.parametrize("ratio", RATIOS)
def test_cycles_are_at_least_those_of_the_products(ratio):
    kept, block = RATIOS[ratio]
    rows = 10 * 16 // kept * block
    steps = rows * kept // 16
    assert chain_cycles(entries=[block], steps=[steps], length=16, group=2, variant="dsp48e2") == block + steps + 20
