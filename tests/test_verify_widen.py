# amaranth: UnusedElaboratable=no
"""The widening unit in emitted Verilog against golden; hardware that is wrong in one place is found."""

import re

import pytest

from mixflight import verification as subject
from mixflight.arch.widen import CODE_BITS, PORT_QUANTA
from mixflight.rtl.design import choose_top
from mixflight.sim.widen_timing import widen_cycles

WRONG = {
    "a word over what waits": (r"<= 4'h8;", "<= 4'h9;"),
    "signs left out": (r"& run\[4\]", "& 1'h0"),
}


def test_every_width_with_padding_and_stalls():
    row = subject.verify_top(choose_top("widen"))
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim > 0


@pytest.mark.slow
@pytest.mark.parametrize("lanes", [2, 8, 32])
def test_other_widths_of_the_port(lanes):
    row = subject.verify_top(choose_top("widen", lanes=lanes))
    assert (row.failures, row.messages) == (0, ())


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_hardware_is_found(name):
    pattern, wrong = WRONG[name]

    def mutate(text):
        mutated, places = re.subn(pattern, wrong, text)
        assert places
        return mutated

    assert subject.verify_top(choose_top("widen"), mutate=mutate).failures


@pytest.mark.parametrize("bits", CODE_BITS)
def test_the_port_or_the_lanes_are_always_busy(bits):
    """A beat a cycle up to 4 bits, then a word a cycle, but for the start."""
    beats = 1000
    bound = beats * max(bits, PORT_QUANTA) / PORT_QUANTA
    assert bound <= widen_cycles(bits=bits, beats=beats, words=beats * bits // PORT_QUANTA) <= bound + 2
