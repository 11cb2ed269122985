"""``mixflight gpu`` and ``mixflight compare --gpu`` as a user meets them."""

import pytest
from command_line import document, mixflight, refusal

from mixflight.sim.gpu.measured import data_folder

RUN = ("compare", "--model", "llama2-7b", "--prefill", 16, "--decode", 4)


def test_gpus_are_listed():
    assert {row["name"] for row in document("gpu")["rows"]} == {"v100s", "a100", "rtx4090", "h100", "h200"}


def test_validation_as_json_and_table():
    rows = document("gpu", "--validate")["rows"]
    assert {row["kind"] for row in rows} == {"fitted", "held-back", "published"}
    for row in rows:
        assert {"name", "kind", "points", "mape_time", "mape_energy", "max_time", "max_energy"} <= row.keys()
    done = mixflight("gpu", "--validate", env={"COLUMNS": "80", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_wrong_data_is_one_line(tmp_path):
    lines = (data_folder() / "h200.csv").read_text().splitlines()
    (tmp_path / "h200.csv").write_text("\n".join([lines[0].replace("avg_power_w", "power"), *lines[1:]]))
    assert "avg_power_w missing; power unknown" in refusal("gpu", "--validate", "--data", tmp_path)
    power = lines[9].split(",")[18]
    (tmp_path / "h200.csv").write_text("\n".join([*lines[:9], lines[9].replace(f",{power},", ",-1,")]))
    assert "avg_power_w must be a number of at least 0, not '-1', in h200.csv line 10" in refusal("gpu", "--validate", "--data", tmp_path)
    assert "--data must come with --validate" in refusal("gpu", "--data", tmp_path)


def test_machines_and_gpus_have_the_same_keys():
    gpus = ("--gpu", "h100:w4a16g128", "--gpu", "a100:fp16", "--gpu", "v100s:fp16")
    machine, *found = document(*RUN, "--arch", "mixpe-w4a8:w4a8g128", *gpus)["rows"]
    assert [(row["name"], row["recipe"]) for row in found] == [("h100", "w4a16g128"), ("a100", "fp16"), ("v100s", "fp16")]
    for row in found:
        assert row.keys() == machine.keys()
        for phase in ("prefill", "decode"):
            assert row[phase].keys() - machine[phase].keys() == {"source"}
            assert machine[phase].keys() <= row[phase].keys()
            low, energy, high = (row[phase][f"energy_mj_per_token{end}"] for end in ("_low", "", "_high"))
            assert low < energy < high
            assert row[phase]["macs"] == machine[phase]["macs"]
            assert row[phase]["power_w"] == pytest.approx(row[phase]["energy_mj"] / row[phase]["time_ms"])


def test_a_gpu_takes_the_recipe_of_the_comparison_or_its_own():
    rows = document(*RUN, "--gpu", "h200", "--gpu", "h200:fp16", "--recipe", "w4a16g128")["rows"]
    assert [row["recipe"] for row in rows] == ["w4a16g128", "fp16"]
    message = refusal(*RUN, "--gpu", "h200", "--recipe", "w4a8g128")
    assert "one of fp16, w4a16g128, w4a16g128-ideal, not 'w4a8g128'" in message


def test_nothing_to_compare_is_one_line():
    assert "at least one --arch or --gpu must be given" in refusal(*RUN)
    assert "mode must be one of" in refusal(*RUN, "--gpu", "h100", "--mode", "fast")


def test_the_python_interface_takes_gpus():
    import mixflight as package

    table = package.compare(["int8:w8a8"], "llama2-7b", prefill=16, decode=4, gpus=["h100:w4a16g128", "a100"])
    assert list(table["arch"]) == ["int8", "h100", "a100"]
    assert list(table["recipe"]) == ["w8a8", "w4a16g128", "fp16"]
    assert table["decode_source"].notna().tolist() == [False, True, True]
