"""What the shipped studies' findings say, in the rows of the studies."""

import pytest

from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import space_named
from mixflight.sweeping.store import stored_rows
from mixflight.sweeping.workers import Here


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
