"""What an element of a vector operator is counted to take."""

import pytest

from mixflight.arch.sfu_pipeline import PATHS
from mixflight.mapping.vector import WORK

EXP, RECIPROCAL = (2, 0, 1), (1, 0, 1)
"""Multiplies, adds and table reads: log2 e and interpolation; interpolation."""
SIGMOID = (3, 1, 2)
"""An exp, 1 + v, a reciprocal."""


@pytest.mark.parametrize("name", PATHS)
def test_passes_are_those_of_the_unit(name):
    assert WORK[name].passes == PATHS[name].passes


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("activation:silu:plain", [SIGMOID, (1, 0, 0)]),
        ("activation:silu:gated", [SIGMOID, (2, 0, 0)]),
        # the clamp; c c a3 + a1, times c; times x
        ("activation:gelu:plain", [(0, 1, 0), (3, 1, 0), SIGMOID, (1, 0, 0)]),
        ("activation:gelu:gated", [(0, 1, 0), (3, 1, 0), SIGMOID, (2, 0, 0)]),
        # times 2 / C; 1 - v and 1 + v; their quotient; times C
        ("softcap", [(1, 0, 0), EXP, (0, 2, 0), RECIPROCAL, (1, 0, 0), (1, 0, 0)]),
        # the sum; x less the mean, squared, added; again, times r and w
        ("layernorm", [(0, 1, 0), (1, 2, 0), (2, 1, 0)]),
        # squared, added; times r and w
        ("norm", [(1, 1, 0), (2, 0, 0)]),
        # the largest; less it, exp, added; times the reciprocal
        ("softmax", [(0, 1, 0), EXP, (0, 2, 0), (1, 0, 0)]),
    ],
)  # fmt: skip
def test_an_operator_counts_the_parts_of_its_formula(name, parts):
    work = WORK[name]
    assert (work.multiplies, work.adds, work.table_reads) == tuple(sum(column) for column in zip(*parts, strict=True))
