"""Screening against exhaustive runs, memory against the number of points, full disks, and what a person sees."""

import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import msgspec
import pytest

from mixflight.sweeping import run as sweep_run
from mixflight.sweeping import store as sweep_store
from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import Space, space_named
from mixflight.sweeping.store import stored_rows
from mixflight.sweeping.workers import Here, Local

from .test_run import SPACE, TOML, contents

LARGE = msgspec.convert(
    {
        "summary": "5,184 arrays", "arch": "mixpe-w4a8", "model": "llama2-7b", "recipe": "w4a8g128",
        "scenario": {"prefill": 256, "decode": 64},
        "objectives": {"tokens_per_s": "max", "tokens_per_joule": "max", "area_um2": "min"},
        "constraints": ["power_w <= 6"],
        "axes": {
            "array.pe": ["shift-add-4x8", "centred-4x8", "multiply-8x8"], "array.rows": [8, 16, 32],
            "array.cols": {"from": 16, "to": 128, "step": 16}, "array.split": [1, 8],
            "dram.peak_gb_s": [64.0, 128.0, 256.0], "buffers.weight_kib": [32, 128, 512],
            "clock_mhz": [250.0, 500.0], "sfu.elements_per_cycle": [8, 16],
        },
        "derived": {"array.lanes": "array_cols // 2"},
    },
    Space,
)  # fmt: skip
ONE_TIER = TOML.replace('summary = "small"', 'summary = "small"\nfidelity = "closed-form"').replace(
    "step = 16", "step = 1"
)
ENERGY = "energy_mj_per_token"
BANDWIDTHS = [16.0 * n for n in range(1, 17)]
LONG = ONE_TIER.replace("[16.0, 32.0, 64.0, 128.0]", str(BANDWIDTHS))
"""Long enough to be interrupted after its first part on any machine."""


@pytest.mark.slow
def test_screening_a_large_space_finds_the_exhaustive_front(tmp_path):
    assert LARGE.size == 5184
    workers = Local(2)
    try:
        screened = sweep(LARGE, tmp_path / "screened", workers)
        exhaustive = sweep(msgspec.structs.replace(LARGE, fidelity="engine"), tmp_path / "all", workers)
    finally:
        workers.stop()
    assert exhaustive.engine_evaluated == LARGE.size > 2 * screened.engine_evaluated
    ours, all_ = ({item["key"]: item for item in found.pareto} for found in (screened, exhaustive))
    assert len(all_) > 10
    assert ours.keys() == all_.keys()
    for key, item in all_.items():
        for name in LARGE.objectives:
            assert ours[key][name] == pytest.approx(item[name], rel=0.01)


@pytest.mark.slow
def test_the_closed_form_of_arrays_errs_on_one_side(tmp_path):
    """What screening allows for at first, and what docs/sweeps.md says of the shipped studies."""
    times, energies = [], []
    for name in ("mixpe", "batch", "accuracy"):
        rows = []
        for fidelity in ("engine", "closed-form"):
            folder = tmp_path / name / fidelity
            sweep(msgspec.structs.replace(space_named(name), fidelity=fidelity), folder, Here())
            rows.append({row["index"]: row for row in stored_rows(folder, fidelity) if not row.get("error")})
        engine, form = rows
        assert engine.keys() == form.keys()
        for index, row in engine.items():
            times += [row[item] / form[index][item] - 1 for item in ("prefill_time_ms", "decode_time_ms")]
            energies += [row[item] / form[index][item] - 1 for item in ("prefill_energy_mj_per_token", ENERGY)]
    assert len(times) == 2 * 1270
    assert (min(times), max(times)) == pytest.approx((-0.0015, 0.067), abs=0.0005)
    assert (min(energies), max(energies)) == pytest.approx((-0.0004, 0.0024), abs=0.0001)


@pytest.mark.slow
def test_screening_cores_finds_the_exhaustive_front(tmp_path):
    space = space_named("flightllm")
    assert space.fidelity == "engine"
    workers = Local(2)
    try:
        screened = sweep(msgspec.structs.replace(space, fidelity="screened"), tmp_path / "screened", workers)
        exhaustive = sweep(space, tmp_path / "all", workers)
    finally:
        workers.stop()
    assert (exhaustive.engine_evaluated, screened.evaluated) == (space.size, space.size)
    assert screened.failed == exhaustive.failed
    assert len(exhaustive.pareto) <= screened.engine_evaluated < space.size - exhaustive.failed
    ours, all_ = ({item["key"]: item for item in found.pareto} for found in (screened, exhaustive))
    assert ours.keys() == all_.keys()
    for key, item in all_.items():
        for name in space.objectives:
            assert ours[key][name] == pytest.approx(item[name], rel=0.01)
    # the closed form errs to one side, for all points: those that were dropped, too
    forms, found = (
        {row["index"]: row for row in stored_rows(tmp_path / name, tier) if not row.get("error")}
        for name, tier in (("screened", "closed-form"), ("all", "engine"))
    )
    assert forms.keys() == found.keys()
    for name in ("prefill_time_ms", "decode_time_ms"):
        apart = [found[index][name] / forms[index][name] - 1 for index in found]
        assert -0.005 < min(apart) and max(apart) < 0.2


@pytest.mark.slow
def test_memory_does_not_grow_with_the_points(tmp_path):
    text = TOML.replace('summary = "small"', 'summary = "many"\nfidelity = "closed-form"\npoints = 1000000')
    peaks = []
    for place, step in enumerate((8.0, 0.1)):
        (tmp_path / "space.toml").write_text(
            text.replace("[16.0, 32.0, 64.0, 128.0]", f"{{from = 16.0, to = 256.0, step = {step}}}")
        )
        command = [
            sys.executable,
            "-m",
            "mixflight.cli.app",
            "sweep",
            "space.toml",
            "-o",
            f"out{place}",
            "--jobs",
            "1",
            "--json",
        ]
        code = (
            "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], capture_output=True, check=True);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, done.stdout.decode().count('index'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout.split()[0]) / 1024)
        found = json.loads((tmp_path / f"out{place}" / "front.json").read_bytes())
        assert found["evaluated"] == 24 * (31 if not place else 2401)
    assert peaks[1] < peaks[0] + 60 < 600  # MiB


def test_a_full_disk_is_one_line_and_loses_the_points_in_flight_only(tmp_path, monkeypatch):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    monkeypatch.setitem(sweep_run.PART, "closed-form", 64)
    sweep(SPACE, whole, Here())
    written = []
    real = sweep_store.pq.write_table

    def full(table, path):
        if len(written) == 3:
            path.write_bytes(b"PAR1 the first half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(table, path)
        written.append(path)

    monkeypatch.setattr(sweep_store.pq, "write_table", full)
    with pytest.raises(
        sweep_run.InputError, match=r"the output must be writable: No space left on device, at .*parquet"
    ):
        sweep(SPACE, cut, Here())
    parts = sorted(path.name for path in (cut / "parts").iterdir())
    assert len(parts) == 3 and all(name.endswith(".parquet") and not name.startswith(".") for name in parts)
    monkeypatch.setattr(sweep_store.pq, "write_table", real)
    measured = []

    class Counting(Here):
        def run(self, text, jobs):
            measured.extend(job[0] for job in jobs)
            return super().run(text, jobs)

    sweep(SPACE, cut, Counting(), resume=True)
    assert not {path.name.removesuffix(".parquet") for path in written} & set(measured)
    assert contents(cut) == contents(whole)


def test_ctrl_c_leaves_whole_parts_and_resumes_to_the_same_rows(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(LONG)
    command = [
        sys.executable,
        "-m",
        "mixflight.cli.app",
        "sweep",
        str(path),
        "-o",
        str(tmp_path / "cut"),
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job of a shell ignores it
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("cut/parts/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "") and err.count("\n") == 1 and "interrupted" in err
    names = [item.name for item in (tmp_path / "cut" / "parts").iterdir()]
    assert names and not [name for name in names if name.startswith(".")]
    space = space_named(str(path))
    sweep(space, tmp_path / "cut", Here(), resume=True)
    sweep(space, tmp_path / "whole", Here())
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    rows = [row["index"] for row in stored_rows(tmp_path / "cut", "closed-form")]
    assert sorted(rows) == list(range(3 * 113 * len(BANDWIDTHS)))


def test_a_terminal_sees_the_table_move_and_nothing_else_does(tmp_path):
    (tmp_path / "space.toml").write_text(ONE_TIER)
    command = [sys.executable, "-m", "mixflight.cli.app", "sweep", "space.toml", "-o", "out", "--jobs", "1", "--json"]
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160"}
    environment.pop("CI", None)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=inner, env=environment)
    os.close(inner)
    seen = b""
    while process.poll() is None or select.select([outer], [], [], 0)[0]:
        if select.select([outer], [], [], 0.1)[0]:
            try:
                seen += os.read(outer, 65536)
            except OSError:
                break
    out = process.communicate()[0]
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert json.loads(out)["evaluated"] == 3 * 113 * 4
    assert process.returncode == 0
    for wanted in ("closed-form", "of 1,356", "points/s", "may be on the front", "best tokens/s", "best tokens/J"):
        assert wanted in text
    assert re.search(r"the front so far: [\d,]+ points", text)
    best = json.loads((tmp_path / "out" / "front.json").read_bytes())["pareto"][0]
    columns = [f"{best['array.cols']}", *(f"{best[name]:,.4g}" for name in ("tokens_per_s", "tokens_per_joule"))]
    assert re.search(r"\s+".join(map(re.escape, columns)), text[text.rindex("the front so far") :])
