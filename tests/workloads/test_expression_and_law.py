"""Expressions against Python's own arithmetic; laws: the mean of many draws is the mean."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixflight.arch.errors import InputError
from mixflight.workloads.expression import evaluate, factor
from mixflight.workloads.law import Draws, Law, mean

_TEXT = st.recursive(
    st.sampled_from(["1", "2.5", "x", "y", "7"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(_TEXT)
@settings(max_examples=100, deadline=None)
def test_expressions_are_pythons_arithmetic(text):
    assert evaluate(text, {"x": 3, "y": 11}) == eval(text, {"x": 3, "y": 11})


def test_precedence_and_functions():
    assert evaluate("2 + 3 * 4 ** 2 - -1", {}) == 51
    assert evaluate("ceil(S / 16) * min(d, 8)", {"S": 33, "d": 10}) == 24
    assert [factor(n) for n in (4096, 11008, 14336, 576, 1536)] == [64, 128, 128, 24, 48]  # FlatQuant's pairs


@pytest.mark.parametrize("text", ["", "1 +", "a(1)", "__import__", "1; 2", "(1", "x.y", "1/0", "d" * 600, "9**99"])
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(InputError):
        evaluate(text, {"d": 1})


@pytest.mark.parametrize(
    "table",
    [{"law": "geometric", "p": 0.6, "most": 4}, {"law": "empirical", "values": [1, 5, 9], "weights": [1, 2, 1]},
     {"law": "constant", "value": 3.0}, 2.5],
)  # fmt: skip
def test_draws_have_the_mean_and_repeat(table):
    law = msgspec.convert(table, Law)
    one, two = Draws(law), Draws(law)
    values = [one.next() for _ in range(4000)]
    assert values == [two.next() for _ in range(4000)]
    assert np.mean(values) == pytest.approx(mean(law), abs=0.15)


def test_tables_interpolate_in_log2():
    law = msgspec.convert({"law": "table", "scale": "log2", "points": [[128, 1.0], [512, 0.802], [2048, 0.3]]}, Law)
    assert mean(law, 64) == 1.0
    assert mean(law, 1024) == pytest.approx((0.802 + 0.3) / 2)
    assert math.isclose(mean(law, 4096), 0.3)


def test_a_recorded_law_reads_a_column(tmp_path):
    (tmp_path / "a.csv").write_text("kept\n2\n4\n")
    law = msgspec.convert({"law": "recorded", "file": str(tmp_path / "a.csv"), "column": "kept"}, Law)
    assert mean(law) == 3
    with pytest.raises(InputError, match="must name a CSV file with numbers"):
        mean(msgspec.convert({"law": "recorded", "file": str(tmp_path / "a.csv"), "column": "no"}, Law))
