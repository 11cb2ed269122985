"""Whole sweeps: the same rows however they were run, interrupted and resumed."""

import os
import signal
import subprocess
import sys
import time

import msgspec
import pyarrow.parquet as pq
import pytest
from command_line import document, mixflight, refusal

from mixflight.arch.errors import InputError
from mixflight.sweeping import run as sweep_run
from mixflight.sweeping.measure import Evaluator
from mixflight.sweeping.pareto import front_of
from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import Space
from mixflight.sweeping.store import Store, stored_rows
from mixflight.sweeping.workers import Here, Local

SPACE = Space(
    summary="small", arch="mixpe-w4a8", model="smollm2-135m", recipe="w4a8g32", scenario={"prefill": 24, "decode": 6},
    objectives={"tokens_per_s": "max", "tokens_per_joule": "max", "area_um2": "min"},
    constraints=("area_over_int8 <= 1.2", "power_w <= 3"),
    axes={
        "array.rows": (8, 16, 32), "array.cols": (16, 24, 32, 48), "array.pe": ("shift-add-4x8", "multiply-8x8", "fp16-mac"),
        "buffers.weight_kib": (32, 128), "scenario.batch": (1, 4), "dram.peak_gb_s": (32.0, 64.0),
        "free.wide": (1, 3),
    },
    derived={"array.lanes": "array_cols // wide"},
)  # fmt: skip
SPACE = msgspec.convert(msgspec.to_builtins(SPACE), Space)
TOML = """
summary = "small"
arch = "mixpe-w4a8"
model = "smollm2-135m"
recipe = "w4a8g32"
[scenario]
prefill = 24
decode = 6
[objectives]
tokens_per_s = "max"
tokens_per_joule = "max"
[axes]
"array.rows" = [8, 16, 32]
"array.cols" = {from = 16, to = 128, step = 16}
"dram.peak_gb_s" = [16.0, 32.0, 64.0, 128.0]
[derived]
"array.lanes" = "array_cols"
"""


def contents(folder):
    """Everything that results say, by file."""
    found = {"front.json": (folder / "front.json").read_bytes()}
    for path in sorted((folder / "parts").iterdir()):
        table = pq.read_table(path)
        found[path.name] = table.to_pylist(), table.schema.metadata
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, sweep(SPACE, folder, Here())


def test_a_sweep_measures_every_point_once_and_says_what_failed(whole):
    folder, outcome = whole
    rows = list(stored_rows(folder, "closed-form"))
    assert outcome.points == SPACE.size == 3 * 4 * 3 * 2 * 2 * 2 * 2
    assert len(rows) + sum(outcome.excluded.values()) == SPACE.size
    assert len({row["index"] for row in rows}) == len(rows) == outcome.evaluated
    failed = [row for row in rows if row["error"]]
    assert outcome.failed == len(failed) == sum(outcome.errors.values()) > 0
    assert any("lanes must divide cols" in row["error"] for row in failed)
    assert all(row["tokens_per_s"] is None for row in failed)
    assert all(row["area_over_int8"] <= 1.2 for row in rows if not row["error"])
    assert 0 < sum(outcome.excluded.values()) == outcome.excluded["area_over_int8 <= 1.2"]


def test_the_front_has_both_tiers_and_their_disagreement(whole):
    _, outcome = whole
    assert 0 < len(outcome.pareto) <= outcome.engine_evaluated < outcome.evaluated
    for item in outcome.pareto:
        assert item["power_w"] <= 3
        for name in SPACE.objectives:
            assert item["closed_form"][name] == pytest.approx(item[name], rel=0.2)
        assert abs(item["disagreement"]["time"]) <= outcome.largest_disagreement["time"] <= outcome.slack.time
        assert abs(item["disagreement"]["energy"]) <= outcome.largest_disagreement["energy"] <= outcome.slack.energy


def test_screening_loses_no_point_of_the_front(whole, tmp_path):
    _, screened = whole
    exhaustive = sweep(msgspec.structs.replace(SPACE, fidelity="engine"), tmp_path, Here())
    assert [item["key"] for item in screened.pareto] == [item["key"] for item in exhaustive.pareto]
    assert exhaustive.engine_evaluated == exhaustive.evaluated > 3 * screened.engine_evaluated


def test_two_processes_write_what_one_does(whole, tmp_path):
    workers = Local(2)
    try:
        sweep(SPACE, tmp_path, workers)
    finally:
        workers.stop()
    assert contents(tmp_path) == contents(whole[0])


def test_a_resumed_sweep_computes_what_is_missing_only(whole, tmp_path, monkeypatch):
    sweep(SPACE, tmp_path, Here())
    lost = tmp_path / "parts" / "closed-form-000000.parquet"
    lost.unlink()
    (tmp_path / "parts" / ".closed-form-000000.parquet.1.part").write_bytes(b"half")
    measured = []

    class Counting(Here):
        def run(self, text, jobs):
            measured.extend(job[0] for job in jobs)
            return super().run(text, jobs)

    outcome = sweep(SPACE, tmp_path, Counting(), resume=True)
    assert measured == ["closed-form-000000"]
    assert outcome.points_per_s > 0
    assert contents(tmp_path) == contents(whole[0])


def test_two_sweeps_in_one_folder_are_refused(whole, tmp_path):
    folder, _ = whole
    with pytest.raises(InputError, match="a folder without a sweep, or come with --resume"):
        sweep(SPACE, folder, Here())
    store = Store.open(tmp_path, SPACE, resume=False)
    with pytest.raises(InputError, match="one sweep at a time"):
        Store.open(tmp_path, SPACE, resume=True)
    store.close()
    Store.open(tmp_path, SPACE, resume=True).close()
    with pytest.raises(InputError, match="space_sha256 differs"):
        Store.open(tmp_path, msgspec.structs.replace(SPACE, seed=7), resume=True)


def test_a_point_with_a_defect_is_a_row_and_the_others_go_on(tmp_path, monkeypatch):
    real = Evaluator._measure

    def broken(self, design, tier):
        if design.accelerator.array.rows == 16:
            raise ZeroDivisionError("by zero")
        return real(self, design, tier)

    monkeypatch.setattr(Evaluator, "_measure", broken)
    outcome = sweep(msgspec.structs.replace(SPACE, seed=99), tmp_path, Here())
    assert 0 < outcome.errors["ZeroDivisionError: by zero"] <= SPACE.size // 3
    assert outcome.pareto and all(item["array.rows"] != 16 for item in outcome.pareto)


def test_luts_of_arrays_bound_a_space(tmp_path):
    space = msgspec.structs.replace(SPACE, fidelity="closed-form", constraints=("lut <= 60000",))
    outcome = sweep(space, tmp_path, Here())
    assert 0 < outcome.excluded["lut <= 60000"] < SPACE.size
    rows = [row for row in stored_rows(tmp_path, "closed-form") if not row["error"]]
    assert max(row["lut"] for row in rows) <= 60_000 < 4 * min(row["lut"] for row in rows)


def test_a_space_without_a_point_is_refused_and_says_why(tmp_path):
    none = msgspec.structs.replace(SPACE, constraints=("pes >= 100000", "power_w <= 3"))
    with pytest.raises(
        InputError, match=r"the constraints must leave a point, none of 576 .*'pes >= 100000' leaves most out"
    ):
        sweep(none, tmp_path / "a", Here())
    estimated = msgspec.structs.replace(SPACE, constraints=("tokens_per_s >= 1e9",))
    with pytest.raises(InputError, match="none of 576 meets 'tokens_per_s >= 1e9'"):
        sweep(estimated, tmp_path / "b", Here())
    broken = msgspec.structs.replace(
        SPACE, axes={"array.pe": ("fp16-mac",), "array.dataflow": ("weight-stationary",)}, derived={}
    )
    with pytest.raises(InputError, match="some point of the space must work, none of 1 does: tokens must be given"):
        sweep(broken, tmp_path / "c", Here())


@pytest.mark.parametrize("method", ["random", "nsga2", "tpe"])
def test_samplers_give_the_same_rows_for_the_same_seed(method, tmp_path):
    space = msgspec.structs.replace(SPACE, method=method, points=60, seed=3)
    first = sweep(space, tmp_path / "a", Here())
    sweep(space, tmp_path / "b", Here())
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert first.points <= 60
    lost = tmp_path / "b" / "parts" / "closed-form-000000.parquet"
    lost.unlink()
    sweep(space, tmp_path / "b", Here(), resume=True)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    other = sweep(msgspec.structs.replace(space, seed=4), tmp_path / "c", Here())
    assert [row["index"] for row in stored_rows(tmp_path / "c", "closed-form")] != [
        row["index"] for row in stored_rows(tmp_path / "a", "closed-form")
    ]
    assert other.pareto


def test_screening_that_was_too_narrow_is_widened(monkeypatch, tmp_path):
    monkeypatch.setattr(sweep_run, "Slack", lambda **given: sweep_run_slack(**{"time": 1e-6, "energy": 1e-9, **given}))
    outcome = sweep(SPACE, tmp_path, Here())
    assert outcome.slack.time >= outcome.largest_disagreement["time"] > 1e-6
    assert outcome.slack.less == sweep_run_slack().less


def test_screening_allows_for_an_engine_that_says_less(tmp_path):
    class Shorter(Here):
        """An engine that is faster than the closed form."""

        def run(self, text, jobs):
            for job, chunk in super().run(text, jobs):
                for row in chunk.rows:
                    if job[1] == "engine" and not row.get("error"):
                        row["decode_time_ms"] *= 0.98
                yield job, chunk

    outcome = sweep(SPACE, tmp_path, Shorter())
    assert sweep_run.WIDER * 0.0199 < outcome.slack.less <= sweep_run.WIDER * 0.02
    assert outcome.slack.less > sweep_run_slack().less


sweep_run_slack = sweep_run.Slack


def test_rows_are_in_order_and_the_front_is_theirs(whole):
    folder, outcome = whole
    rows = sorted(stored_rows(folder, "engine"), key=lambda row: row["index"])
    assert sorted(item["index"] for item in outcome.pareto) == front_of(SPACE, rows)


def test_the_command_killed_and_resumed_gives_the_uninterrupted_rows(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(TOML.replace("step = 16", "step = 2"))
    through, killed = tmp_path / "through", tmp_path / "killed"
    found = document("sweep", path, "-o", through, "--jobs", 1)
    assert found["evaluated"] == 3 * 57 * 4 and found["points_per_s"] > 0 and found["pareto"]
    command = [sys.executable, "-m", "mixflight.cli.app", "sweep", str(path), "-o", str(killed), "--jobs", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 60
    while not list(killed.glob("parts/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()  # returns when the local processes, which hold the pipe too, are gone
    assert not (killed / "front.json").exists()
    left = document("sweep", path, "-o", killed, "--jobs", 1, "--resume")
    assert contents(killed) == contents(through)
    assert left["pareto"] == found["pareto"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("mixpee", "-o", "x"), "SPACE must be a .toml file or one of"),
        (("space.toml", "-o", "x", "--jobs", 0), "--jobs must be at least 1"),
        (("space.toml", "-o", "x", "--jobs", 1, "--scheduler", "tcp://h:1"), "--jobs must come without --scheduler"),
        (("space.toml", "-o", "space.toml"), "the output must be a writable folder"),
        (("capped.toml", "-o", "x"), "a grid must have at most 5 points, not 96: --yes runs it"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, arguments, line):
    (tmp_path / "space.toml").write_text(TOML)
    (tmp_path / "capped.toml").write_text("points = 5\n" + TOML)
    assert line in refusal("sweep", *arguments, cwd=tmp_path)
    assert not (tmp_path / "x").exists()


def test_the_table_is_for_people_and_fits_a_terminal(tmp_path):
    (tmp_path / "space.toml").write_text(TOML)
    done = mixflight("sweep", "space.toml", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "96 points measured, 0 left out by constraints, 0 failed" in done.stdout
    assert "engine against closed form, at most: time" in done.stdout


def test_machines_of_cores_go_through_the_engine_alone_or_screened(tmp_path):
    text = TOML.replace('arch = "mixpe-w4a8"', 'arch = "flightllm-u280"\nfidelity = "engine"').split("[axes]")[0]
    text += '[axes]\ncores = [1, 2, 5]\n"memory_unit.index_coding" = ["four_bit", "bitmap"]\n'
    (tmp_path / "space.toml").write_text(text)
    found = document("sweep", tmp_path / "space.toml", "-o", tmp_path / "out", "--jobs", 1)
    assert (found["evaluated"], found["failed"]) == (6, 2)
    assert all("5 cores" in error or "fit its device" in error for error in found["errors"])
    one = document("simulate", "--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "w4a8g32",
                   "--prefill", 24, "--decode", 6)  # fmt: skip
    rows = list(stored_rows(tmp_path / "out", "engine"))
    assert len(rows) == 6 and one["decode"]["time_ms"] > 0
    assert {row["dsp"] for row in rows if row["cores"] == 2} == {4230.0}
    (tmp_path / "space.toml").write_text(text.replace('fidelity = "engine"', ""))
    screened = document("sweep", tmp_path / "space.toml", "-o", tmp_path / "screened", "--jobs", 1)
    assert (screened["evaluated"], screened["failed"], screened["errors"]) == (6, 2, found["errors"])
    assert [item["key"] for item in screened["pareto"]] == [item["key"] for item in found["pareto"]]
    assert all(item["disagreement"]["time"] > 0 for item in screened["pareto"])
    (tmp_path / "space.toml").write_text('float_operands = "int8"\n' + text)
    assert "must have no float_operands" in refusal("sweep", tmp_path / "space.toml", "-o", tmp_path / "no")
