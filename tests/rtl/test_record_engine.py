# amaranth: UnusedElaboratable=no
"""Engines of DSP chains by size: what is recorded, and the text that was counted."""

import re

import pytest

from mixflight.rtl.core_dots import ChainDots
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint
from mixflight.rtl.record_engine import _HEADER, ENGINES, GROUP, PATH, _merged, recorded, text_of
from mixflight.rtl.record_synthesis import as_toml
from mixflight.rtl.synthesis import digest_text

ROWS = {row["name"]: row for row in recorded()}
RERECORD = "run `python -m mixflight.rtl.record_engine` and commit arch/synthesis/engine.toml with the reason"


def test_the_file_is_as_the_script_writes_it():
    assert as_toml(list(ROWS.values()), header=_HEADER) == PATH.read_text()
    assert list(ROWS) == [engine.name for engine in ENGINES if engine.name in ROWS]


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_of_their_engines(name):
    engine, row = next(engine for engine in ENGINES if engine.name == name), ROWS[name]
    assert (row["columns"], row["lanes"], row["products"]) == (engine.columns, engine.lanes, engine.products)
    assert row["dsp"] == engine.products + engine.lanes * 6
    assert sum(row["lut_of"].values()) < row["lut"]


def test_lanes_take_the_sums_of_groups_as_fast_as_they_come():
    """A group of 128 weights is 8 blocks of 16, and at its end there is a sum of each column and row."""
    for engine in ENGINES:
        top = engine.component()
        assert top.lanes * (GROUP // 16) == engine.columns * top.together
        assert top.dequantise.serial == GROUP // 16
        assert top.dequantise.outputs * engine.columns * top.together == 16 * 128
    assert max(engine.products for engine in ENGINES) == 2048


def test_equal_chains_are_one_module():
    """As Amaranth numbers their ports the second is another; those behind it are like it."""
    text = emit_verilog(ChainDots(columns=3, rows=2), "dots")
    merged = _merged(text, "dots")
    chains = [len(re.findall(r"^module dots_chain(_\d+)? ", one, re.M)) for one in (text, merged)]
    assert chains[0] == 3 and chains[1] < 3
    assert len(re.findall(r"^  dots_chain(_\d+)? +\\?chain_0_\d", merged, re.M)) == 3
    assert lint(merged, top="dots") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_recorded_text_is_the_emitted_one(name):
    [engine] = [engine for engine in ENGINES if engine.name == name]
    assert ROWS[engine.name]["text_sha256"] == digest_text(text_of(engine)), RERECORD
