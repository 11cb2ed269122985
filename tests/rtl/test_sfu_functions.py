# amaranth: UnusedElaboratable=no
"""Function units as text and as counts; their values are in ``tests/test_verify_sfu.py``."""

import msgspec
import pytest

from mixflight.arch.special_functions import EXP2, RECIPROCAL, RSQRT_EVEN, RSQRT_ODD, STAGES
from mixflight.rtl.design import choose_top
from mixflight.rtl.lint import lint
from mixflight.rtl.record_sfu import PATH, UNITS
from mixflight.rtl.sfu_tables import HIDDEN, TableInterpolation
from mixflight.rtl.synthesis import digest_text


@pytest.mark.parametrize("name", UNITS)
def test_the_text_is_clean_and_the_recorded_one(name):
    """At most 8 LUT levels between registers, a multiplier a DSP."""
    chosen = choose_top(name)
    text = chosen.emit()
    assert lint(text, top=chosen.module) == []
    [row] = [row for row in msgspec.toml.decode(PATH.read_text())["rows"] if row["name"] == name]
    assert row["text_sha256"] == digest_text(text)
    assert row["latency"] == STAGES[name.removeprefix("sfu-")]
    assert row["lut_levels"] <= 8
    assert row["dsp"] == text.count(" * ")


@pytest.mark.parametrize("tables", [[EXP2], [RECIPROCAL], [RSQRT_EVEN, RSQRT_ODD]])
def test_rows_hold_their_tables_and_nothing_is_wider_than_needed(tables):
    layout, rows = TableInterpolation(tables=tables, rest_bits=15).rows()
    read = [layout.const(row) for row in rows]
    assert [HIDDEN + row.entry for row in read] == [entry for table in tables for entry in table[:-1]]
    assert [HIDDEN + row.entry + row.step for row in read] == [entry for table in tables for entry in table[1:]]
    entry, step = layout.members["entry"], layout.members["step"].width
    assert max(row["entry"] for row in rows) >> entry - 1 == 1
    assert max(abs(row["step"]) for row in rows) >> step - 2 == 1
