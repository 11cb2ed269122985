# amaranth: UnusedElaboratable=no
"""The function units in emitted Verilog against golden; hardware that is wrong in one place is found."""

import re

import numpy as np
import pytest

from mixflight import verification as subject
from mixflight.arch.special_functions import STAGES
from mixflight.rtl.design import choose_top
from mixflight.verify_sfu import STALLS, expected, operands

WRONG = {
    "no rounding of an interpolation": ("sfu-rsqrt", r"15'h4000 \}", "15'h0000 }"),
    "one entry too low by one": ("sfu-rsqrt", r"(memory\[300\] = 40'h\w{9})\w", r"\g<1>1"),
    "the even table for both parities": ("sfu-rsqrt", r"~ x__payload\[23\]", "1'h0"),
    "an exponent too large by one": ("sfu-reciprocal", r"8'hfd - x__payload", "8'hfe - x__payload"),
    "a constant wrong in its last bit": ("sfu-exp", r"16'haa3b", "16'haa3a"),
    "-128 taken for less": ("sfu-exp", r">= 8'h86", "> 8'h86"),
    "a floor that is no floor": ("sfu-exp", r"coarse_lost <= \S+ ;", "coarse_lost <= 1'h0;"),
}


@pytest.mark.parametrize("function", STAGES)
def test_a_sample_of_operands_all_edges_and_stalls(function):
    row = subject.verify_function(choose_top(f"sfu-{function}"), sample=256)
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim > 0
    assert row.tests > len(STALLS) and row.values > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("function", STAGES)
def test_every_significand_and_millions_of_points(function):
    row = subject.verify_top(choose_top(f"sfu-{function}"))
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim
    assert row.values > {"exp": 6 << 20, "reciprocal": 1 << 23, "rsqrt": 1 << 24}[function]


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_hardware_is_found(name):
    top, pattern, wrong = WRONG[name]

    def mutate(text):
        mutated, places = re.subn(pattern, wrong, text)
        assert places
        return mutated

    assert subject.verify_function(choose_top(top), mutate=mutate, sample=64).failures


def test_operands_are_what_they_are_called():
    significands = np.concatenate([words for name, words in operands("rsqrt", np.random.default_rng(0), sample=1 << 6)
                                   if name.startswith("significands")])
    assert len(np.unique(significands & 0xFFFFFF)) == len(significands) == 1 << 18      # fraction and parity
    for function in STAGES:
        for _, words in operands(function, np.random.default_rng(1), sample=1 << 10):
            assert len(expected(function, words)) == len(words) > 0                     # golden refuses none
    edges = next(words for name, words in operands("exp", np.random.default_rng(0)) if name == "edges")
    assert {0, 0x80000000, 0x80000001, 0xC2FFFFFF, 0xC3000000, 0xFF7FFFFF} <= set(edges.tolist())
    results = expected("exp", edges)
    assert results.max() == 0x3F800000 and 0 in results and ((results > 0) & (results < 2 << 23)).any()
