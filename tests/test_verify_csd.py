# amaranth: UnusedElaboratable=no
"""The sparse DSP chain in emitted Verilog against golden; hardware that is wrong in one place is found."""

import re

import numpy as np
import pytest

from mixflight import verification as subject
from mixflight.rtl.csd_chain import CsdChain
from mixflight.rtl.design import choose_top
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.pe_driver import build_driver, drive
from mixflight.rtl.primitive_models import models_for
from mixflight.sim.golden.csd_chain import chain_sums
from mixflight.verify_csd import chain_checks, random_slab

WRONG = {
    "a sum that starts without its bias": (r"\.RND\(48'h000000020000\)", ".RND(48'h000000000000)"),
    "no room for eight times 16,384": (r"\.RND\(48'shfffffffffc00\)", ".RND(48'h000000000000)"),
    "a long sum that does not leave the cascade": (r"9'h195", "9'h015"),
    "a store with one bank": (r"reg \[63:0\] mem_A = INIT_A;\n    assign DOA = mem_A\[\{ADDRA",
                              "reg [63:0] mem_A = INIT_A;\n    assign DOA = mem_A[{ADDRA & 5'd15"),
}


def _passes(row):
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim > 0
    return row


def test_every_ratio_with_corners_and_stalls():
    row = _passes(subject.verify_top(choose_top("csd-chain")))
    assert row.tests == 31


@pytest.mark.slow
@pytest.mark.parametrize(("top", "given"), [
    ("csd-chain-generic", {}), ("csd-chain-dsp58", {}), ("csd-chain", {"length": 8, "ratios": "dense,2:4,4:8"}),
    ("csd-chain", {"length": 8, "ratios": "dense,2:4", "select": "direct"}),
    ("csd-chain", {"length": 8, "group": 4, "ratios": "dense,4:8,4:16"}), ("csd-chain", {"length": 2, "ratios": "2:4"}),
    ("csd-chain", {"group": 16, "ratios": "dense"}), ("csd-chain", {"length": 4, "ratios": "2:16"}),
    ("csd-chain", {"group": 8, "ratios": "8:16"}), ("csd-chain", {"group": 8, "ratios": "dense,8:16"}),
    ("csd-chain-generic", {"length": 8, "group": 8, "ratios": "8:16,dense"}),
])
def test_variants_and_shapes(top, given):
    _passes(subject.verify_top(choose_top(top, **given)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_more_random_slabs(seed):
    _passes(subject.verify_top(choose_top("csd-chain"), seed=seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_wrong_hardware_is_found(name):
    pattern, wrong = WRONG[name]

    def mutate(text):
        mutated, places = re.subn(pattern, wrong, text)
        assert places
        return mutated

    row = subject.verify_top(choose_top("csd-chain"), mutate=mutate)
    assert row.failures


def test_the_checks_reach_every_corner_sum():
    """Sums of 16, 8, 4 and 2 times -128 x -128 are among the golden values: 262,144 and 131,072 need more than 18 bits."""
    seen = set()
    for check in chain_checks(CsdChain()):
        for slab in check.slabs:
            sums = chain_sums(activations=slab.activations, weights=slab.weights, indices=slab.indices,
                              segment=slab.segment)
            seen |= set(sums.ravel().tolist())
    assert {16 * 16384, 8 * 16384, 4 * 16384, 2 * 16384} <= seen


def test_slabs_hold_the_ratio_they_are_named_after():
    chain, random = CsdChain(), np.random.default_rng(0)
    for ratio, (kept, block, sums) in {"2:16": (2, 16, 8), "4:8": (4, 8, 4), "dense": (16, 16, 1)}.items():
        slab = random_slab(chain, random, ratio, steps=5)
        assert slab.activations.shape == (block, 2) and slab.weights.shape == (5, 16) and slab.segment == kept
        per_sum = slab.indices.reshape(5, sums, kept)
        assert (np.diff(np.sort(per_sum, axis=2)) > 0).all() and per_sum.max() < block


@pytest.mark.slow
def test_every_triple_of_operands():
    """All 2**24 of (row 0, row 1, weight) in both cells of a short chain, two different ones a step."""
    chain = CsdChain(length=2, ratios="2:4", select="direct")
    bits = chain.sum_bits
    top = ("module triples(input clk, input rst, input [49:0] operands, output [33:0] sums);\n"
           "  csd_chain chain (.clk(clk), .rst(rst), .wgt__payload(operands), .wgt__valid(1'b1), .wgt__ready(), "
           ".out__0__payload(sums), .out__0__valid(), .out__0__ready(1'b1));\nendmodule\n")
    driver = build_driver(models_for(emit_verilog(chain, "csd-chain")) + top, top="triples", inputs=("operands",),
                          outputs=("sums",))
    [latency] = chain.latency
    chunk = 1 << 21
    for start in range(0, 1 << 24, chunk):
        first = np.arange(start, start + chunk)
        second = (first * 0x9E3779 + 12345) % (1 << 24)        # odd, so every triple once
        words = np.stack([first, second], axis=1)
        w, row0, row1 = words & 255, words >> 8 & 255, words >> 16
        operands = w[:, 0] | w[:, 1] << 8
        for i in range(2):
            operands |= (row0[:, i] | row1[:, i] << 8) << 16 * (i + 1)
        operands = np.concatenate([operands, np.zeros(latency, np.int64)])
        seen = drive(driver, {"operands": operands})["sums"][latency:].astype(np.int64)
        w, row0, row1 = (np.where(x > 127, x - 256, x) for x in (w, row0, row1))
        mask = (1 << bits) - 1
        expected = (row0 * w).sum(axis=1) & mask | ((row1 * w).sum(axis=1) & mask) << bits
        np.testing.assert_array_equal(seen, expected)
