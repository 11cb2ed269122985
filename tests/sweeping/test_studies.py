"""What the shipped studies' findings say, in the rows of the studies."""

import html
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mixflight.arch.synthesis_counts import counts_named
from mixflight.cli.report import write_study_figure
from mixflight.sweeping.fields import symbol
from mixflight.sweeping.measure import Evaluator
from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import assignment, space_named, studies
from mixflight.sweeping.store import stored_rows
from mixflight.sweeping.workers import Here

ROOT = Path(__file__).resolve().parents[2]
DOT = "mixpe-w4a8-dot16-lut"
"""The chain of MixPE products in LUTs."""


def test_accuracy_finding(tmp_path):
    space = space_named("accuracy")
    outcome = sweep(space, tmp_path, Here())
    rows = {row["recipe"]: row for row in stored_rows(tmp_path, "closed-form") if row["array.pe"] == "shift-add-4x8"}
    base = rows["kv8"]

    def saves(name):
        return 1 - rows[name]["energy_mj_per_token"] / base["energy_mj_per_token"]

    assert (
        round(100 * saves("w4-g64-z4")) == 10 and round(rows["w4-g64-z4"]["perplexity"] / base["perplexity"], 2) == 1.24
    )
    assert (
        round(100 * saves("w3-g32-z3")) == 18 and round(rows["w3-g32-z3"]["perplexity"] / base["perplexity"], 1) == 2.5
    )
    assert 0 < max(saves(name) for name in ("kv4", "k8v4", "k4v8")) < 0.015
    assert "kv8" in {item["recipe"] for item in outcome.pareto}
    first = write_study_figure(tmp_path, tmp_path)[0].read_text()
    assert first == write_study_figure(tmp_path, tmp_path)[0].read_text()
    assert all(f">{name}<" in first for name in ("w4-g64-z4", "kv8", "w3-g32-z3"))


@pytest.mark.parametrize("name", studies())
def test_the_figure_of_each_study_is_there_and_says_what_was_found(name):
    text = (ROOT / "docs" / f"study-{name}.svg").read_text()
    ElementTree.fromstring(text)
    assert f"<desc>{html.escape(space_named(name).finding)}</desc>" in text
    assert f"![{name}](study-{name}.svg)" in (ROOT / "docs" / "sweeps.md").read_text()


@pytest.mark.slow
def test_batch_finding(tmp_path):
    outcome = sweep(space_named("batch"), tmp_path, Here())
    front = [item for item in outcome.pareto if item["dram.peak_gb_s"] == 64]
    one, eight = (
        max((item for item in front if item["scenario.batch"] == batch), key=lambda item: item["tokens_per_s"])
        for batch in (1, 8)
    )
    assert eight["tokens_per_s"] / one["tokens_per_s"] == pytest.approx(5, abs=0.1)
    assert one["bound_by"] == eight["bound_by"] == "dram"
    whole = [
        row["tokens_per_s"]
        for row in stored_rows(tmp_path, "closed-form")
        if (row["dram.peak_gb_s"], row["scenario.batch"], row["array.split"]) == (64, 8, 1)
    ]
    assert max(whole) < eight["tokens_per_s"] / 2


@pytest.mark.slow
def test_mixpe_finding(tmp_path):
    outcome = sweep(space_named("mixpe"), tmp_path, Here())
    fastest = {item["scenario.batch"]: item for item in reversed(outcome.pareto)}
    assert fastest[1]["array.pe"] == "multiply-8x8" and fastest[1]["bound_by"] == "dram"
    for batch in (16, 64):
        assert fastest[batch]["array.pe"] == "centred-4x8" and fastest[batch]["bound_by"] == "array"
    assert all(0.97 <= item["area_over_int8"] <= 1.02 for item in outcome.pareto)


def points_of(name, tier="engine", **fixed):
    """Rows of the points of a study at which the axes ``fixed`` (by symbol) have these values."""
    space = space_named(name)
    wanted = {key: value for key, value in fixed.items() if value is not None}
    names = {path: symbol(path) for path in space.values}
    indices = [
        index for index in range(space.size)
        if all(wanted.get(names[path], value) == value for path, value in assignment(space.values, index).items())
    ]  # fmt: skip
    assert set(wanted) <= set(names.values())
    return {row["index"]: row for row in Evaluator(space).chunk(tier, indices).rows}.values()


def one(name, **fixed):
    """The only such point."""
    (row,) = points_of(name, **fixed)
    assert not row.get("error")
    return row


def test_hybrid_finding():
    base = {"cores": 4, "chains_mv_chains_per_mpu": 1}
    plain, hybrid = (one("hybrid", **base, chains_fabric_chains_per_mpu=number) for number in (0, 1))
    assert (plain["bound_by"], hybrid["bound_by"]) == ("compute", "dram")
    assert round(hybrid["tokens_per_s"] / plain["tokens_per_s"], 1) == 1.6
    assert round(hybrid["lut"] - plain["lut"], -3) == 333_000 == round(4 * 64 * counts_named(DOT).lut, -3)
    all_fitting = [row["tokens_per_s"] for row in points_of("hybrid", cores=4) if not row.get("error")]
    assert max(all_fitting) / hybrid["tokens_per_s"] < 1.02
    second = one("hybrid", cores=4, chains_mv_chains_per_mpu=2, chains_fabric_chains_per_mpu=0)
    assert second["tokens_per_s"] == pytest.approx(hybrid["tokens_per_s"]) and second["lut"] == plain["lut"]


def test_hybrid_counts_the_luts_of_our_own_synthesis():
    text = space_named("hybrid").derived["luts"]
    assert f"64 * {counts_named(DOT).lut} * chains_fabric_chains_per_mpu" in text


@pytest.mark.slow
def test_flightllm_finding():
    base = {"recipe_weight___b": 4, "arch": "flightllm-u280", "cores": 3, "chains_chain": 16}

    def speed(**more):
        return one("flightllm", **{**base, **more})["tokens_per_s"]

    dense = speed(recipe_weight___sparse_n=16, memory_unit_index_coding="bitmap")
    ratios = {
        coding: round(speed(recipe_weight___sparse_n=8, memory_unit_index_coding=coding) / dense, 2)
        for coding in ("four_bit", "bitmap", "rank")
    }
    assert ratios == pytest.approx({"four_bit": 1.05, "bitmap": 1.35, "rank": 1.4}, abs=0.02)
    two = {"cores": 2, "memory_unit_index_coding": "rank"}
    short, long = (speed(**two, recipe_weight___sparse_n=8, chains_chain=chain) for chain in (16, 32))
    assert 0 < long / short - 1 < 0.015
    two["arch"] = "flightllm-vhk158"
    short, long = (speed(**two, recipe_weight___sparse_n=16, chains_chain=chain) for chain in (16, 32))
    assert 1.5 <= long / short < 1.6


@pytest.mark.slow
def test_speculative_finding():
    def speed(arch, batch, width):
        return one(
            "speculative", arch=f"flightllm-{arch}", scenario_batch=batch, recipe_decode_width=width, acceptance=0.8,
            buffers_act_depth=16384,
        )["tokens_per_s"]  # fmt: skip

    for arch, two, more, drafted in (("vhk158", 1.8, 3, 1.1), ("u280", 1.9, 8, 1.2)):
        single, pair = speed(arch, 1, 1), speed(arch, 2, 1)
        assert round(pair / single, 1) == two
        assert round(100 * (speed(arch, 8, 1) / pair - 1)) == more
        widths = {width: speed(arch, 1, width) / single for width in (2, 3, 4, 6, 8)}
        assert round(widths[2], 1) == drafted and widths[2] == max(widths.values())
        assert speed(arch, 2, 2) < pair
