"""``mixflight recipes --check`` and ``--simulate`` as a user meets them."""

import json

import pytest
from command_line import document, mixflight, refusal


def test_check_has_a_row_a_check_and_names_ids():
    found = document("recipes", "--check", "--only", "flatquant", "--only", "vptq")
    assert {row["status"] for row in found["rows"]} == {"pass"}
    assert {row["id"] for row in found["rows"]} == {"Q1", "Q13"}
    for row in found["rows"]:
        assert row["deviation"] == pytest.approx(row["ours"] / row["reported"] - 1)
    assert [item["id"] for item in found["recipes"]] == ["Q1", "Q13"]
    assert found["identical"] == []


def test_a_check_beyond_its_tolerance_fails_and_one_from_memory_is_only_shown(tmp_path):
    text = """
summary = "four bits a weight"
weight = {"*" = "int4"}
act = {"*" = "int8"}
kv = {k = "int8", v = "int8"}
[[check]]
quantity = "payload_bits_per_weight"
reported = 5
confidence = "CONFIDENCE"
"""
    path = tmp_path / "mine.toml"
    for confidence, code, status in (("paper", 1, "fail"), ("recall", 0, "recall-shown")):
        path.write_text(text.replace("CONFIDENCE", confidence))
        done = mixflight("recipes", "--check", "--only", path, "--json")
        assert done.returncode == code, done.stderr
        (row,) = json.loads(done.stdout)["rows"]
        assert (row["status"], row["ours"]) == (status, 4)


def test_simulate_has_both_phases_and_says_what_ran_as_int8():
    found = document("recipes", "--simulate", "--arch", "mixpe-w4a8", "--only", "flatquant", "--only", "flightllm")
    by_name = {row["recipe"]: row for row in found["rows"]}
    for row in by_name.values():
        assert row["arch"] == "mixpe-w4a8"
        assert row["refused"] == ""
        for phase in (row["prefill"], row["decode"]):
            assert min(phase["time_ms"], phase["dram_bytes"], phase["energy_mj"]) > 0
    assert by_name["flightllm"]["float_operands"] == []
    assert "head" in by_name["flatquant"]["float_operands"]


def test_simulate_on_cores_takes_what_of_the_model_fits_and_says_so():
    found = document("recipes", "--simulate", "--arch", "flightllm-u280", "--only", "gear", "--only", "feather")
    deep, narrow = found["rows"]
    assert 1 <= deep["layers"] < deep["model_layers"]
    assert (narrow["layers"], narrow["width"]) == (narrow["model_layers"], 0.5)
    for row in (deep, narrow):
        assert row["refused"] == ""
        assert min(row[phase]["energy_mj"] for phase in ("prefill", "decode")) > 0


def test_simulate_shows_what_a_machine_refuses():
    done = mixflight("recipes", "--simulate", "--arch", "tpu", "--only", "flatquant")
    assert done.returncode == 1
    assert "flatquant refused: ARCH must be" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "flatquant"), "--only must stand with --check or --simulate"),
        (("--arch", "int8"), "--arch must stand with --simulate"),
        (("--check", "--simulate"), "--check and --simulate must not stand together"),
    ],
)
def test_options_that_say_nothing_are_one_line(arguments, message):
    assert message in refusal("recipes", *arguments)
