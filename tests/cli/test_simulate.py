import json
import subprocess
import sys

import pytest
from command_line import document, mixflight, refusal

RUN = ("simulate", "--model", "llama2-7b", "--prefill", 16, "--decode", 4)


def test_simulate_has_the_documented_keys():
    found = document(*RUN, "--arch", "mixpe-w4a8", "--recipe", "w4a8g128")
    assert found["mode"] == "corrected"
    assert found["bound_by"] == "array edge"
    assert found["prefill"]["time_ms"] > 0
    decode = found["decode"]
    for key in ("time_ms", "time_ms_per_token", "tokens_per_s", "hbm_bytes_per_token", "power_w", "tokens_per_joule"):
        assert decode[key] > 0
    assert decode["time_ms"] == pytest.approx(4 * decode["time_ms_per_token"])
    for phase in (found["prefill"], decode):
        for key in ("energy_mj", "energy_mj_per_token"):
            assert phase[f"{key}_low"] < phase[key] < phase[f"{key}_high"]
    assert decode["power_w"] == pytest.approx(decode["energy_mj"] / decode["time_ms"])


def test_a_recipe_behind_the_machine_overrides():
    found = document(*RUN, "--arch", "int8:w8a8", "--recipe", "w4a8g128")
    assert found["recipe"] == "w8a8"


def test_compare_has_a_row_a_machine():
    archs = [part for name in ("mixpe-w4a8", "mul4x8", "int8", "fp16") for part in ("--arch", name)]
    found = document("compare", *archs, "--model", "llama2-7b", "--recipe", "w4a8g128", "--prefill", 16, "--decode", 4)
    assert [row["name"] for row in found["rows"]] == ["mixpe-w4a8", "mul4x8", "int8", "fp16"]
    assert all(row["decode"]["tokens_per_s"] > 0 for row in found["rows"])


def test_float_operands_run_as_int8_on_request():
    found = document(*RUN, "--arch", "mixpe-w4a8", "--recipe", "fp16", "--float-operands", "int8")
    assert {"q", "qk", "av", "down", "head"} <= set(found["float_operands"])
    assert document(*RUN, "--arch", "fp16", "--recipe", "fp16", "--float-operands", "int8")["float_operands"] == []


def test_tables_fit_80_columns():
    done = mixflight(*RUN, "--arch", "mixpe-w4a8", "--recipe", "w4a8g128", env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--arch": "tpu"}, "ARCH must be a .toml file or one of"),
        ({"--model": "gpt5"}, "MODEL must be a .gguf file, a folder of safetensors or one of"),
        ({"--recipe": "w3"}, "RECIPE must be a .toml file or one of"),
        ({"--prefill": 0}, "prefill must be at least 1 token, not 0"),
        ({"--decode": -1}, "decode must be at least 1 token, not -1"),
        ({"--batch": 0}, "batch must be at least 1"),
        ({"--prefill": 4096}, "at most the context length 4096"),
        ({"--mode": "published"}, "mode published must have an ARCH of flightllm-vhk158, flightllm-u280"),
        ({"--arch": "flightllm-u280", "--recipe": "w4a16g128"}, "activations must be integers on a FlightLLM core"),
        ({"--mode": "guessed"}, "mode must be corrected for mixpe-w4a8, not 'guessed'"),
        ({"--attention-mask": "m.npz"}, "--attention-mask must be a .npy file of numbers"),
        ({"--recipe": "fp16"}, "f16 weights with f16 activations, in operator 'q'"),
        ({"--recipe": "fp16"}, "--float-operands int8 converts them"),
        ({"--float-operands": "int4"}, "--float-operands must be refuse or int8, not 'int4'"),
        ({"--arch": "mixpe-w4a8:"}, "must name a recipe after the colon"),
        ({"--prefill": "many"}, "Invalid value for '--prefill'"),
    ],
)
def test_bad_input_is_one_line(change, message):
    options = {"--arch": "mixpe-w4a8", "--model": "llama2-7b", "--recipe": "w4a8g128", "--prefill": 1, "--decode": 1}
    arguments = [part for item in (options | change).items() for part in item]
    assert message in refusal("simulate", *arguments)


def test_a_machine_of_zero_rows_and_an_unknown_key_are_one_line(tmp_path):
    text = (document("archs")["rows"], open_preset("int8"))[1]
    for old, new, message in (
        ("rows = 32", "rows = 0", "rows must be at least 1, not 0"),
        ("cols = 32", "columns = 32", "unknown key 'columns' in table [array]; the nearest valid key is 'cols'"),
    ):
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new))
        assert message in refusal(*RUN, "--arch", path, "--recipe", "w8a8")


def open_preset(name):
    from mixflight.arch import accelerator

    return accelerator.Path(accelerator.__file__).with_name("presets").joinpath(f"{name}.toml").read_text()


def test_trace_totals():
    found = document("trace", "llama2-7b", "--recipe", "w4a8g128", "--prefill", 16, "--decode", 2)
    assert len(found["passes"]) == 3
    for key in ("ops", "macs", "weight_bytes", "kv_bytes"):
        assert found[key] == sum(item[key] for item in found["passes"])


def test_trace_without_lengths_is_one_decoded_token(smollm2_path):
    found = document("trace", "smollm2")
    assert found["weight_bytes"] == 96_436_224
    assert document("trace", smollm2_path) == found


def test_trace_to_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "t.parquet"
    found = document("trace", "smollm2-135m", "--recipe", "w4a8g32", "--decode", 2, "-o", path)
    table = pandas.read_parquet(path)
    assert len(table) == found["ops"]
    assert table["macs"].sum() == found["macs"]
    assert set(tmp_path.iterdir()) == {path}


@pytest.mark.parametrize("output", ["none/t.parquet", "t.csv"])
def test_trace_into_nowhere_leaves_nothing(tmp_path, output):
    message = refusal("trace", "llama2-7b", "--decode", 1, "-o", tmp_path / output)
    assert "output must be" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [("trace", "llama2-7b", "--prefill", 0), ("trace", "llama2-7b", "--decode", 0), ("trace",)])
def test_trace_refuses_bad_lengths(arguments):
    assert "must be at least 1" in refusal(*arguments) if len(arguments) > 1 else "Missing argument" in refusal(*arguments)


@pytest.mark.parametrize(("content", "message"), [(b"not a model", "GGUF"), (b"GGUF\x03\x00\x00\x00", "")])
def test_a_file_that_is_no_model_is_one_line(tmp_path, content, message):
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    assert message in refusal("trace", path)


def test_cores_say_what_binds_them(tmp_path):
    scenario = ("--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "w8a8", "--prefill", 16, "--decode", 2)
    found = document("simulate", *scenario, "--timeline", str(tmp_path / "t.json"), "--explain")
    assert found["bound_by"] == found["decode"]["bound_by"] == "dram"
    assert found["decode"]["next_bound"] != "dram"
    assert found["decode"]["tokens_per_s"] > 100
    assert set(found["decode"]["busy"]) == {"LD", "ST", "MM", "MV", "MISC", "SYS"}
    assert all(item["next_bound"] for item in found["decode"]["operators"])
    first = found["explain"][1]
    assert first["gains"][0]["change"] == "twice the HBM bandwidth"
    assert "next by" in first["sentence"]
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    tracks = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"LD", "MV", "flightllm-u280 core 2"} <= tracks
    slices = [event for event in events if event["ph"] == "X"]
    assert {event["name"] for event in slices} > {"qk", "up", "exchange:ffn_residual"}
    assert all(event["dur"] >= 0 for event in slices)


def test_every_command_has_help():
    for name in ("fetch", "models", "archs", "recipes", "trace", "simulate", "compare", "rtl", "synth", "verify", "generate"):
        done = mixflight(name, "--help")
        assert done.returncode == 0, (name, done.stderr)
        assert "Usage:" in done.stdout


def test_unknown_commands_and_options_are_one_line():
    assert "No such command 'frob'" in refusal("frob")
    assert "No such option" in refusal("archs", "--frob")


def test_presets_as_json():
    assert {row["name"] for row in document("archs")["rows"]} >= {"mixpe-w4a8", "mul4x8", "int8", "fp16", "flightllm-u280"}
    assert {row["name"] for row in document("recipes")["rows"]} >= {"w4a8g128", "fp16", "flightllm-artifact"}
    assert json.dumps(document("models")["rows"])


PUBLISHED = ("simulate", "--arch", "flightllm-vhk158", "--model", "llama2-7b", "--mode", "published",
             "--recipe", "flightllm-artifact", "--prefill", 128, "--decode", 512)  # fmt: skip


def test_the_published_mode_gives_the_published_figures(tmp_path):
    path = tmp_path / "t.json"
    found = document(*PUBLISHED, "--timeline", path)
    assert found["mode"] == "published"
    assert found["prefill"]["time_ms"] == pytest.approx(289.88, rel=1e-4)
    assert found["decode"]["time_ms"] == pytest.approx(4946.4, rel=5e-4)  # the authors' sample run
    assert json.loads(path.read_text())["traceEvents"]


def test_what_the_published_mode_does_not_know_is_one_line():
    assert "without --explain" in refusal(*PUBLISHED, "--explain")
    assert "batch of 1" in refusal(*PUBLISHED, "--batch", 2)
    assert "recipe flightllm-artifact" in refusal(*PUBLISHED[:-4], "--recipe", "w8a8", *PUBLISHED[-4:])


def test_a_full_standard_output_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mixflight.cli.app", "models", "--json"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "mixflight: standard output must be writable: No space left on device\n"
