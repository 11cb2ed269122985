# amaranth: UnusedElaboratable=no
"""Engines of DSP chains by size: what is recorded, and the text that was counted."""

import re

import pytest

from mixflight.rtl.core_dots import ChainDots, SharedChainDots
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint
from mixflight.rtl.record_engine import _HEADER, ENGINES, GROUP, PATH, Engine, _merged, recorded, text_of
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
    assert (row["columns"], row["lean"], row["lanes"], row["products"]) == (
        engine.columns, engine.lean, engine.lanes, engine.products)
    assert row["dsp"] == engine.products + engine.lanes * (6 if engine.lean else 8)
    assert sum(row["lut_of"].values()) < row["lut"]


def test_lanes_take_the_sums_of_groups_as_fast_as_they_come():
    """A group of 128 weights is 8 blocks of 16, and at its end there is a sum of each column and row."""
    for engine in ENGINES:
        top = engine.component()
        assert top.lanes * (GROUP // 16) == engine.columns * top.together
        assert top.dequantise.serial == GROUP // 16
        assert top.dequantise.outputs * engine.columns * top.together == 16 * 128
    assert max(engine.products for engine in ENGINES) == 2048


def test_what_chains_share_is_not_there_twice():
    """The activations' registers of all chains but one, at every size that was counted both ways."""
    both = [columns for columns in (16, 32, 64, 128)
            if {Engine(columns=columns, lean=lean).name for lean in (False, True)} <= set(ROWS)]
    assert both
    for columns in both:
        plain, lean = (ROWS[Engine(columns=columns, lean=lean).name] for lean in (False, True))
        assert lean["lut_of"]["dots"] < 0.5 * plain["lut_of"]["dots"]
        assert lean["lut"] < plain["lut"]


@pytest.mark.parametrize("kind", [ChainDots, SharedChainDots])
def test_equal_chains_are_one_module(kind):
    """As Amaranth numbers their ports the second is another; those behind it are like it."""
    text = emit_verilog(kind(columns=3, rows=2), "dots")
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
