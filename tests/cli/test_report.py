"""`report` and `demo` as a user runs them."""

import csv
import json
import os
import subprocess
import sys

import msgspec
import pytest
from small_results import small_document

from mixflight.machines import run_gpu
from mixflight.reports.document import DOCUMENT, encode_document, read_document
from mixflight.sweeping.space import space_named
from mixflight.sweeping.start import run_sweep


def run(*arguments, **environment):
    return subprocess.run([sys.executable, "-m", "mixflight.cli.app", *map(str, arguments)], capture_output=True,
                          text=True, timeout=300, env=os.environ | environment)  # fmt: skip


def refused(done):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mixflight: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / DOCUMENT).write_bytes(encode_document(small_document()))
    return folder


def test_report(results, tmp_path):
    page = tmp_path / "page.html"
    done = run("report", results, "-o", page, "--figures", tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["path"] == str(page)
    assert page.read_text().startswith("<!doctype html>")
    assert sorted(document["figures"]) == sorted(str(path) for path in tmp_path.iterdir() if path.suffix in (".svg", ".png", ".csv"))
    assert len(document["figures"]) == 3 * 14
    assert run("report", results).stdout == f"{results / 'report.html'}\n"
    assert (results / "report.html").read_text() == page.read_text()


def test_gpus_and_a_sweep_join_a_page(results, tmp_path):
    """Another GPU in place of those that the results have, of the same scenario; and the front of a sweep."""
    named = msgspec.structs.replace(small_document().scenario, model="smollm2-135m")
    (results / DOCUMENT).write_bytes(encode_document(small_document(scenario=named, gpus=None, sweep=None)))
    (tmp_path / "space.toml").write_text(SPACE)
    run_sweep(space_named(str(tmp_path / "space.toml")), tmp_path / "swept", 1)
    done = run("report", results, "--gpu", "h200", "--sweep", tmp_path / "swept", "--figures", tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    page = (results / "report.html").read_text()
    assert "h200:fp16" in page and "h100:fp16" not in page
    assert "rows of an array" in page
    energy = {row["machine"]: row for row in csv.DictReader((tmp_path / "gpu-energy.csv").read_text().splitlines())}
    expected = run_gpu("h200", "smollm2-135m", 16, 4).decode
    assert float(energy["h200:fp16"]["mj_per_token"]) == pytest.approx(expected.energy.pj * 1e-9 / expected.tokens)
    assert float(energy["h200:fp16"]["mj_per_token_high"]) > float(energy["h200:fp16"]["mj_per_token"])
    front = list(csv.DictReader((tmp_path / "sweep-front.csv").read_text().splitlines()))
    assert {row["array.rows"] for row in front} <= {"8", "32"}
    assert read_document(results).gpus is None  # what was found stays as it was
    assert "must be the folder that mixflight sweep wrote" in refused(run("report", results, "--sweep", tmp_path))
    assert "must be the model of the results" in refused(run("report", other(tmp_path), "--gpu", "h200"))


SPACE = """
summary = "rows of an array"
arch = "int8"
model = "smollm2-135m"
recipe = "w8a8"
scenario = {prefill = 8, decode = 2}
objectives = {tokens_per_s = "max", area_um2 = "min"}
axes = {"array.rows" = [8, 32]}
"""


def other(tmp_path):
    """The same results of a model that its name is not of."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / DOCUMENT).write_bytes(encode_document(small_document()))
    return tmp_path / "other"


def test_refusals(results, tmp_path):
    assert "must be a folder with results.json" in refused(run("report", tmp_path / "absent"))
    assert "must be a folder with results.json" in refused(run("report", tmp_path))
    assert "writable folder" in refused(run("report", results, "-o", tmp_path / "no" / "page.html"))
    (tmp_path / "file").touch()
    assert "--figures must be a writable folder" in refused(run("report", results, "--figures", tmp_path / "file" / "no"))
    assert [path.name for path in results.iterdir()] == [DOCUMENT]


def test_demo_refuses_before_it_works(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    assert "must be a writable folder" in refused(run("demo", "-o", blocker))
    assert "must be a writable folder" in refused(run("demo", "-o", blocker / "below"))
    assert "C++ compiler" in refused(run("demo", "-o", tmp_path / "out", CXX="no-such-compiler"))
    assert list(tmp_path.iterdir()) == [blocker]


@pytest.mark.slow
def test_demo(smollm2_path, tmp_path):
    done = run("demo", "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert [line.partition(" ")[0] for line in done.stderr.splitlines()] == [f"[{step}/11]" for step in range(1, 12)]
    said = json.loads(done.stdout)
    assert said["path"] == str(tmp_path / "out" / "report.html")
    assert said["note"] is None
    assert said["verification"]["failures"] == 0
    assert said["verification"]["real_tiles"] == 3
    assert all(run["cycles_rtl"] == run["cycles_sim"] for run in said["verification"]["runs"])
    assert [row["name"] for row in said["rows"]] == ["mixpe-w4a8", "mul4x8", "int8", "fp16"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html", "results.json", "sweep", "timeline.json", "verilog"]
    assert read_document(tmp_path / "out").synthesis.lut == said["synthesis"]["lut"]
    again = run("report", tmp_path / "out", "-o", tmp_path / "again.html")
    assert again.returncode == 0
    assert (tmp_path / "again.html").read_text() == (tmp_path / "out" / "report.html").read_text()


@pytest.mark.slow
def test_demo_without_the_model_says_so(tmp_path):
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    done = run("demo", "-o", tmp_path / "out", MIXFLIGHT_CACHE=str(tmp_path / "cache"), **offline)
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("mixflight: ")]
    assert "so that the preset llama2-7b with w4a8g128 was run" in line
    assert "llama2-7b, w4a8g128: prefill 128, decode 128" in done.stdout
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out" / "report.html")
