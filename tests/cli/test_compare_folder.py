"""`compare -o` and the page that `report` makes of its folder."""

import json
from pathlib import Path

import pytest
from command_line import document, refusal

import mixflight
from mixflight.arch import accelerator
from mixflight.arch.errors import InputError
from mixflight.comparison_folder import check_folder
from mixflight.files import publish, staging
from mixflight.reports.document import read_document
from mixflight.reports.findings import number
from mixflight.reports.page import render

RUN = ("compare", "--model", "smollm2-135m", "--prefill", 16, "--decode", 4)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A machine of one's own, a preset in other formats, and a GPU: the JSON document and the folder."""
    place = tmp_path_factory.mktemp("compared")
    preset = (Path(accelerator.__file__).with_name("presets") / "mixpe-w4a8.toml").read_text()
    (place / "mine.toml").write_text(preset.replace("rows = 32", "rows = 16"))
    machines = ("--arch", f"{place / 'mine.toml'}:w4a8g32", "--arch", "int8:w8a8", "--gpu", "h100:fp16")
    return document(*RUN, *machines, "-o", place / "run"), place / "run"


def test_the_folder_has_the_rows_of_the_comparison(compared):
    said, folder = compared
    assert said["folder"] == str(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["results.json", "timeline.json"]
    found = read_document(folder)
    assert [machine.name for machine in found.machines] == ["mine:w4a8g32", "int8:w8a8"]
    sides = [*found.machines, *found.gpus.gpus]
    for row, side in zip(said["rows"], sides, strict=True):
        decode = side.simulation.decode
        assert (row["decode"]["energy_mj_per_token"], row["decode"]["time_ms"]) == (decode.energy_mj_per_token, decode.time_ms)
    assert found.machines[0].rows == 16
    assert found.scenario.recipe == "w4a8g32, w8a8"


def test_layers_and_timeline_are_those_of_the_first_machine(compared):
    found = read_document(compared[1])
    events = json.loads((compared[1] / "timeline.json").read_text())["traceEvents"]
    assert found.timeline.machine == found.layers.machine == events[0]["args"]["name"] == "mine:w4a8g32"
    assert found.layers.context == found.timeline.context == 20
    steps = [event for event in events if event.get("tid") == 0 and event.get("args", {}).get("phase") == "decode"]
    assert sum(event["dur"] for event in steps) == pytest.approx(sum(layer.time_us for layer in found.layers.layers))


def test_the_page_says_what_a_comparison_has(compared):
    page = mixflight.report(compared[1]).html
    first = read_document(compared[1]).machines[0].simulation.decode
    assert f"{number(first.tokens_per_s)} tokens/s" in page
    assert "What must be computed, as mine:w4a8g32 has it" in page
    assert "hardly depends on the machine, but on its formats." in page
    assert "All machines here are simulated" in page
    assert "1 token at a time fills 1 of 16 to 32 rows" in page
    for absent in ("The array in hardware", "measured on RTL", "Only the emitted array"):
        assert absent not in page


def test_another_gpu_joins_the_page(compared):
    from mixflight.report_parts import joined

    found = joined(read_document(compared[1]), ["h200"])
    assert [gpu.label for gpu in found.gpus.gpus] == ["h200:fp16"]
    assert "h200:fp16 decodes " in render(found)


def test_a_file_of_ones_own_is_named_wherever_the_page_is_made(smollm2_path, tmp_path, monkeypatch):
    (tmp_path / "model.gguf").symlink_to(smollm2_path)
    monkeypatch.chdir(tmp_path)
    from mixflight.comparison import compare_machines
    from mixflight.comparison_folder import write_folder
    from mixflight.workloads.fetch import source_named

    found = compare_machines(["int8"], [], "model.gguf", 4, 2)
    write_folder(tmp_path / "run", ["int8"], found, "model.gguf", None)
    scenario = read_document(tmp_path / "run").scenario
    assert scenario.source == str(tmp_path / "model.gguf")
    assert scenario.sha256 == source_named("smollm2").sha256


@pytest.mark.parametrize(
    ("archs", "gpus", "message"),
    [
        ((), ("h100:fp16",), "-o must come with at least one --arch"),
        (("flightllm-u280:flightllm",), (), "not the cores of flightllm-u280"),
        (("int8:w8a8", "int8:w8a8"), (), "must be given machines that differ in name or recipe, not int8:w8a8 twice"),
        (("int8:w8a8",), ("h100", "h100:fp16"), "not h100:fp16 twice"),
    ],
)
def test_what_no_page_could_show_is_refused_before_any_work(archs, gpus, message, tmp_path):
    with pytest.raises(InputError, match=message):
        check_folder(tmp_path / "run", archs, gpus, "smollm2-135m", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", ["sweep.json", "verilog"])
def test_the_folder_of_something_else_is_left_alone(left, tmp_path):
    (tmp_path / left).touch()
    with pytest.raises(InputError, match="-o must be a folder of its own, not that of a demo or a sweep"):
        check_folder(tmp_path, ["int8"], [], "smollm2-135m", None)


def test_one_batch_alone():
    assert "-o must come without --batches" in refusal(*RUN, "--arch", "int8:w8a8", "--batches", "1,4", "-o", "run")


def test_what_is_staged_replaces_files_and_folders(tmp_path):
    with staging(tmp_path / "out") as staged:
        (staged / "a").write_text("first")
        (staged / "b").mkdir()
        (staged / "b" / "old").touch()
        publish(staged, tmp_path / "out", ("b", "a"))
    with staging(tmp_path / "out") as staged:
        (staged / "a").write_text("second")
        (staged / "b").mkdir()
        publish(staged, tmp_path / "out", ("b", "a"))
    assert (tmp_path / "out" / "a").read_text() == "second"
    assert list((tmp_path / "out" / "b").iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
