"""``mixflight advise``: what it says is what the engine says of the design it writes."""

import re
import shlex

import pytest
from command_line import document, mixflight, refusal

from mixflight.advising.look import Goals, Scenario
from mixflight.advising.start import starts
from mixflight.advising.walk import walk
from mixflight.arch.accelerator import accelerator_named
from mixflight.rtl.design import choose_top
from mixflight.sweeping.design import load_workload_of
from mixflight.sweeping.quantities import recorded_perplexities
from mixflight.sweeping.space import Lengths

SMALL = ("advise", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--device", "u280", "--prefill", 16, "--decode", 16)
GOAL = ("--arch", "mixpe-core", "--target", "tokens_per_s>=450", "--limit", "lut <= 500000")


@pytest.fixture(scope="module")
def advised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("advise")
    return folder, document(*SMALL, *GOAL, "-o", folder / "design.toml")


def test_the_walk_meets_the_goals_and_each_step_is_checked(advised):
    _, found = advised
    assert found["meets"] and found["ended"] == "all goals hold"
    assert found["start_values"]["tokens_per_s"] < 450 <= found["values"]["tokens_per_s"]
    assert found["values"]["lut"] <= 500_000
    assert len(found["steps"]) >= 1
    before = found["start_values"]
    for step in found["steps"]:
        assert step["agrees"] and step["gain"] == pytest.approx(step["checked_gain"], rel=0.02)
        assert step["values"]["tokens_per_s"] / before["tokens_per_s"] == pytest.approx(step["checked_gain"])
        assert step["tried"] >= step["fitting"] > 10
        assert step["change"] in step["reason"] and "decode is bound by array edge" in step["reason"]
        assert "\n" not in step["reason"]
        before = step["values"]
    assert found["steps"][0]["change"] == "array split 4 -> 8"


def test_the_design_simulates_as_advised_and_its_verilog_command_builds_its_array(advised):
    folder, found = advised
    path = folder / "design.toml"
    assert path.read_text() == found["design"]
    again = document(
        "simulate", "--arch", path, "--model", "smollm2-135m", "--recipe", "w4a8g32", "--prefill", 16, "--decode", 16
    )
    assert again["decode"]["tokens_per_s"] == pytest.approx(found["values"]["tokens_per_s"])
    assert again["decode"]["power_w"] == pytest.approx(found["values"]["power_w"])
    words = shlex.split(found["verilog"])
    assert words[:3] == ["mixflight", "rtl", "mixpe-array"] and words[words.index("--arch") + 1] == str(path)
    array = accelerator_named(str(path)).array
    chosen = choose_top(words[2], arch=str(path), zero=words[words.index("--zero") + 1])
    parameters = {name: chosen.parameters[name] for name in ("rows", "cols", "lanes", "split")}
    assert parameters == {name: getattr(array, name) for name in parameters}


def test_two_alternatives_are_one_change_away_and_differ(advised):
    _, found = advised
    assert len(found["alternatives"]) == 2
    for item in found["alternatives"]:
        quantities = ("tokens_per_s", "lut")
        assert any(item["values"][name] != found["values"][name] for name in quantities)
    assert any(item["meets"] for item in found["alternatives"])


def test_blocks_are_counted_beside_those_of_the_device(advised):
    _, found = advised
    assert found["resources"]["lut"] == found["values"]["lut"] <= found["device"]["lut"]
    assert found["of_device"]["lut"] == found["resources"]["lut"] / found["device"]["lut"]
    assert 0 < found["resources"]["lut_error"] < 0.03
    assert {"ff", "dsp", "bram36", "uram"} <= set(found["of_device"])


def test_an_open_recipe_changes_where_the_machine_cannot_help_and_says_what_it_costs():
    base = load_workload_of("smollm2-135m", "w4-g64-z4")
    scenario = Scenario(workload=base, lengths=Lengths(prefill=16, decode=16))
    machine = starts("u280")[:1]
    goals = Goals.parse(["hbm_bytes_per_token<=8.1e7"], [])
    held = walk(scenario, goals, machine)
    assert not held.meets and not any(step.accuracy for step in held.steps) and held.recipe == base.recipe
    found = walk(scenario, goals, machine, open_recipe=True)
    assert found.meets and found.values["hbm_bytes_per_token"] <= 8.1e7 < held.values["hbm_bytes_per_token"]
    step = found.steps[-1]
    assert step.change == "weights of 4 -> 3 bits" and step.agrees
    record = recorded_perplexities()
    for name in ("w4-g64-z4", "w3-g32-z3"):
        assert f"{record[name] / record['unquantised']:.2f} ({name})" in step.accuracy
    assert step.accuracy in step.reason
    assert (found.recipe.name, found.recipe.weight["*"]) == ("w4-g64-z4-w3", "uint3-g64-z3")
    assert set(found.recipe.weight) == set(base.recipe.weight) and found.recipe.act == base.recipe.act


@pytest.mark.slow
def test_a_model_and_two_goals_alone_end_with_a_design_that_meets_both(tmp_path):
    found = document("advise", "--model", "llama2-7b", "--target", "tokens_per_s>=60", "--limit", "power_w<=40",
                     "--device", "u280", "-o", tmp_path / "design.toml")  # fmt: skip
    assert found["meets"] and found["steps"][-1]["accuracy"]
    again = document("simulate", "--arch", found["design_path"], "--model", "llama2-7b", "--recipe", found["recipe"],
                     "--prefill", 128, "--decode", 128)  # fmt: skip
    assert found["values"]["tokens_per_s"] >= 60 and found["values"]["power_w"] <= 40
    for name in ("tokens_per_s", "power_w"):
        assert again["decode"][name] == pytest.approx(found["values"][name])


def test_a_goal_out_of_reach_ends_with_status_1_and_says_which(tmp_path):
    path = tmp_path / "d.toml"
    done = mixflight(*SMALL, "--target", "tokens_per_s>=1e9", "--limit", "power_w <= 20", "-o", path)
    assert done.returncode == 1 and done.stderr == ""
    assert re.search(r"end: no single change brings 'tokens_per_s>=1e9' nearer; [\d.]+ tokens/s", done.stdout)
    assert "nearby, short of the goals:" in done.stdout and "Verilog: mixflight rtl csd-chain" in done.stdout
    assert choose_top("csd-chain", arch=str(path)).parameters["length"] == accelerator_named(str(path)).chains.chain


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--target", "tokens_per_s"), "a constraint must be two expressions"),
        (("--target", "token_per_s>=1"), "a quantity must be one of prefill_time_ms"),
        (("--target", "tokens_per_s==1"), "a goal must bound a quantity"),
        (("--target", "tokens_per_s>=__import__(1)"), "a function must be one of"),
        (("--target", "tokens_per_s>=1", "--device", "u55"), "--device must be one of u280, vhk158, kv260, not 'u55'"),
        (("--target", "tokens_per_s>=1", "--arch", "mixpe-w4a8"), "--arch must be a machine of cores"),
        (("--target", "tokens_per_s>=1", "--arch", "flightllm-vhk158"), "--arch must be a machine of u280"),
        (("--target", "tokens_per_s>=1", "--prefill", 0), "--prefill, --decode and --batch must be at least 1"),
        (("--target", "tokens_per_s>=1", "--recipe", "fp16"), "some start design must run the model"),
        (("--target", "tokens_per_s>=1", "--device", "kv260"), "uram of 64 on KV260: no start design is known for it"),
        (("--target", "tokens_per_s>=1", "-o", "no/where.toml"), "the output must be a file in a writable folder"),
    ],
)
def test_bad_input_is_one_line(arguments, line, tmp_path):
    assert line in refusal(*SMALL, *arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
