# amaranth: UnusedElaboratable=no
"""Counts of emitted text; the committed rows are level 6 of the verification ladder."""

import json

import pytest
from mac_lane import MacLane

from mixflight.arch.errors import InputError
from mixflight.arch.synthesis_counts import counts_named, synthesis_counts
from mixflight.rtl import record_synthesis, synthesis
from mixflight.rtl.design import choose_top
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.inspect import inspect_verilog

RERECORD = ("run `python -m mixflight.rtl.record_synthesis` and commit arch/synthesis/counts.toml "
            "with the reason for the change")
SMALL = [name for name in record_synthesis.PRESETS if name.endswith("-pe") or name.endswith("-pe-lut")]


@pytest.fixture(scope="module")
def lane_text():
    return emit_verilog(MacLane(), "mac_lane")


@pytest.mark.parametrize("name", record_synthesis.PRESETS)
def test_the_committed_counts_are_of_the_text_that_is_emitted(name):
    preset = record_synthesis.PRESETS[name]
    chosen = choose_top(preset.top, **preset.given)
    assert counts_named(name).parameters == dict(chosen.parameters), RERECORD
    assert counts_named(name).text_sha256 == synthesis.digest_text(chosen.emit()), RERECORD


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in record_synthesis.PRESETS])
def test_the_committed_counts_are_what_synthesis_finds(name):
    import msgspec
    assert msgspec.to_builtins(counts_named(name)) == record_synthesis.row(name), RERECORD


def test_every_preset_has_a_row_and_every_row_a_preset():
    assert set(synthesis_counts()) == set(record_synthesis.PRESETS), RERECORD


def test_the_file_is_as_the_script_writes_it():
    import msgspec

    from mixflight.arch.synthesis_counts import COUNTS
    rows = [msgspec.to_builtins(row) for row in synthesis_counts().values()]
    assert record_synthesis.as_toml(rows) == COUNTS.read_text()


def test_registers_found_are_registers_written(lane_text):
    counts = synthesis.synthesise(lane_text, top="mac_lane")
    assert counts.ff == inspect_verilog(lane_text, top="mac_lane").register_bits
    assert counts.dsp == 1
    assert counts.modules["mac_lane_counter"]["instances"] == 2


def test_without_dsp_the_product_is_in_luts(lane_text):
    with_dsp = synthesis.synthesise(lane_text, top="mac_lane")
    without = synthesis.synthesise(lane_text, top="mac_lane", dsp=False)
    assert without.dsp == 0
    assert without.lut > with_dsp.lut
    assert without.ff == with_dsp.ff


def test_module_counts_add_up_to_the_total(lane_text):
    counts = synthesis.synthesise(lane_text, top="mac_lane")
    for unit in ("lut", "ff", "carry"):
        assert sum(own[unit] * own["instances"] for own in counts.modules.values()) == getattr(counts, unit)


def test_a_memory_is_distributed_and_counts_as_luts_too():
    text = emit_verilog(MacLane(memory=True), "mac_lane")
    counts = synthesis.synthesise(text, top="mac_lane")
    assert counts.lutram > 0
    assert counts.lut >= counts.lutram


def test_an_equal_text_comes_from_the_cache(lane_text, monkeypatch):
    first = synthesis.synthesise(lane_text, top="mac_lane")
    monkeypatch.setattr(synthesis, "_run", lambda *_: pytest.fail("synthesised again"))
    assert synthesis.synthesise(lane_text, top="mac_lane") == first


def test_another_text_or_tool_does_not(lane_text, monkeypatch):
    synthesis.synthesise(lane_text, top="mac_lane")

    def ran(*_):
        raise RuntimeError("synthesised again")

    monkeypatch.setattr(synthesis, "_run", ran)
    with pytest.raises(RuntimeError, match="synthesised again"):
        synthesis.synthesise(lane_text + "\n", top="mac_lane")
    monkeypatch.setattr(synthesis, "package_version", lambda _: "0.0")
    with pytest.raises(RuntimeError, match="synthesised again"):
        synthesis.synthesise(lane_text, top="mac_lane")


def test_counting_by_hand():
    statistics = {"modules": {
        "\\top": {"num_cells_by_type": {"part": 3, "LUT6": 2, "RAM64M8": 1, "RAMB18E2": 1, "GND": 5}},
        "\\part": {"num_cells_by_type": {"LUT2": 4, "FDRE": 2, "CARRY8": 1, "MUXF7": 1}}}}
    counts = synthesis._count(statistics, top="top", target="xcup", text_sha256="", script="", tools={}, seconds=0)
    assert (counts.lut, counts.lutram, counts.ff, counts.bram, counts.carry, counts.muxf) == (
        2 + 3 * 4 + 8, 8, 6, 0.5, 6, 3)
    assert json.loads(json.dumps(counts.cells))["LUT2"] == 12


def test_on_ecp5_a_carry_cell_is_two_luts():
    statistics = {"modules": {"\\top": {"num_cells_by_type": {
        "CCU2C": 3, "LUT4": 5, "TRELLIS_FF": 7, "MULT18X18D": 1, "DP16KD": 2, "PFUMX": 1}}}}
    counts = synthesis._count(statistics, top="top", target="ecp5", text_sha256="", script="", tools={}, seconds=0)
    assert (counts.lut, counts.ff, counts.dsp, counts.bram, counts.carry, counts.muxf) == (11, 7, 1, 1, 2, 1)


def test_a_cell_without_a_known_cost_is_not_free():
    statistics = {"modules": {"\\top": {"num_cells_by_type": {"GTYE4_CHANNEL": 1}}}}
    with pytest.raises(synthesis.SynthesisError, match="GTYE4_CHANNEL has none"):
        synthesis._count(statistics, top="top", target="xcup", text_sha256="", script="", tools={}, seconds=0)


def test_a_target_that_is_not_supported_is_bad_input():
    with pytest.raises(InputError, match="--target must be one of xcup, ecp5 or .* not 'ice40'"):
        synthesis.synthesise("", top="top", target="ice40")


def test_text_that_yosys_refuses_leaves_no_entry(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path))
    with pytest.raises(synthesis.SynthesisError, match="Yosys must synthesise top"):
        synthesis.synthesise("module top(input a;\nendmodule\n", top="top")
    assert list((tmp_path / "synth").iterdir()) == []
