# amaranth: UnusedElaboratable=no
"""The special-function unit of a core in emitted Verilog against the reference executor, and its cycles."""

import re

import numpy as np
import pytest

from mixflight.arch.sfu_pipeline import PATHS, misc_cycles
from mixflight.rtl.core_sfu import CoreSfu
from mixflight.rtl.emit import emit_verilog
from mixflight.sim.core_values.vectors import compute
from mixflight.verify_core_sfu import STALLS, build_sfu, build_text, check_sfu, fresh_state, instruction, run_sfu


def test_every_operation_in_random_order_with_stalls():
    """Subnormal operands, zeros, lengths that fill no line, rows in turns and apart, all lines of both buffers."""
    outcome = check_sfu(build_sfu(width=4), width=4, rounds=2)
    assert (outcome.failures, outcome.messages) == (0, ())
    assert outcome.tests == 2 * len(STALLS) * 3 * len(PATHS)
    assert outcome.cycles_rtl == outcome.cycles_sim > 10_000


@pytest.mark.parametrize("fields", [
    {"operation": 31}, {"operation": "residual", "causal": 1},
    {"operation": "quantise", "target": "act", "static": 1}, {"operation": "quantise", "target": "global"},
    {"operation": "norm", "target": "act"}, {"operation": "rope", "vectors": 33, "causal": 1},
    {"operation": "quantise", "target": "act", "group": 3},
], ids=str)  # fmt: skip
def test_what_it_does_not_carry_out_is_told_and_the_next_instruction_is(fields):
    state = fresh_state(np.random.default_rng(0), 2)
    refused = instruction(**{"vectors": 1, "elements": 16, **fields})
    other = instruction(operation="residual", vectors=1, elements=40, a_line=0, b_line=8, out_line=16)
    state.words()[:16] = np.arange(256, dtype=np.float32).reshape(16, 16)
    run = run_sfu(build_sfu(width=4), state, [refused, other])
    compute(state, other)
    assert run.unsupported
    assert run.done[0] == run.taken[0] + 1
    np.testing.assert_array_equal(run.vector, state.vector)
    np.testing.assert_array_equal(run.act, state.act)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "channels"), [(1, 1), (2, 2), (8, 2), (16, 1), (4, 2)])
def test_every_width(width, channels):
    outcome = check_sfu(build_sfu(width=width, channels=channels), width=width, channels=channels, rounds=10, seed=5)
    assert (outcome.failures, outcome.messages) == (0, ())
    assert outcome.cycles_rtl == outcome.cycles_sim


WRONG = {
    "a quotient that is cut off": (r"quotient_24\[15:1\] \+ quotient_24\[0\]", "15'h0"),
    "partial sums of the segment before": (r"< used;", "< 6'h3f;"),
    "probabilities lifted too little": (r"4'h0 : 4'hc;", "4'h0 : 4'hb;"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_in_one_place_is_found(name):
    pattern, other = WRONG[name]
    text, count = re.subn(pattern, other, emit_verilog(CoreSfu(width=4), "core-sfu"))
    assert count
    assert check_sfu(build_text(text), width=4, rounds=1).failures


@pytest.mark.parametrize("operation", PATHS)
def test_cycles_grow_with_what_is_done_and_fall_with_width(operation):
    """A pass takes vectors times beats, on some paths twice; the rest does not depend on the length."""
    path = PATHS[operation]
    cycles = [misc_cycles(operation, width=4, vectors=2, elements=n) for n in (1024, 2048, 4096)]
    assert (cycles[2] - cycles[1]) == 2 * (cycles[1] - cycles[0]) == path.passes * path.every * 2 * 2048 // 4
    widths = [misc_cycles(operation, width=width, vectors=2, elements=1024) for width in (1, 2, 4, 8, 16)]
    assert np.all(np.diff(widths) < 0)
