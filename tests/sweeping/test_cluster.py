"""Sweeps on a real Dask scheduler with workers in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from command_line import refusal

pytest.importorskip("distributed", minversion="2025.1")

from mixflight.sweeping.run import sweep
from mixflight.sweeping.workers import Here, workers

from .test_run import SPACE, TOML, contents


def _started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


@pytest.fixture
def cluster(tmp_path):
    """(Address, worker processes) of a scheduler with two workers of one thread."""
    file = tmp_path / "scheduler.json"
    scheduler = _started("distributed.cli.dask_scheduler", "--port", "0", "--dashboard-address", ":0",
                         "--scheduler-file", str(file), "--host", "127.0.0.1")  # fmt: skip
    hands = [
        _started("distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard",
                 "--no-nanny", "--local-directory", str(tmp_path / f"worker{place}"))
        for place in range(2)
    ]  # fmt: skip
    try:
        yield _address(file), hands
    finally:
        for process in (*hands, scheduler):
            process.kill()
            process.wait()


def _address(file):
    import json

    from distributed import Client

    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    address = json.loads(file.read_text())["address"]
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
    return address


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_rows_of_one_process_even_when_a_worker_is_killed(cluster, tmp_path, monkeypatch):
    from mixflight.sweeping import run

    monkeypatch.setitem(run.PART, "closed-form", 16)
    address, hands = cluster
    sweep(SPACE, tmp_path / "here", Here())
    with workers(1, address) as remote:
        sweep(SPACE, tmp_path / "whole", remote)
    assert contents(tmp_path / "whole") == contents(tmp_path / "here")
    killed = threading.Event()

    def kill_one(progress):
        if progress.done >= 64 and not killed.is_set():
            killed.set()
            os.kill(hands[0].pid, signal.SIGKILL)

    with workers(1, address) as remote:
        sweep(SPACE, tmp_path / "killed", remote, on_progress=kill_one)
    assert killed.is_set()
    assert contents(tmp_path / "killed") == contents(tmp_path / "here")


@pytest.mark.slow
def test_a_killed_client_is_resumed_on_the_cluster(cluster, tmp_path):
    address, _ = cluster
    path = tmp_path / "space.toml"
    path.write_text(TOML.replace("step = 16", "step = 1"))
    command = [sys.executable, "-m", "mixflight.cli.app", "sweep", str(path), "--scheduler", address, "--json", "-o"]
    through, killed = tmp_path / "through", tmp_path / "killed"
    subprocess.run([*command, str(through)], check=True, capture_output=True)
    process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(killed.glob("parts/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    subprocess.run([*command, str(killed), "--resume"], check=True, capture_output=True)
    assert contents(killed) == contents(through)


def test_an_unreachable_scheduler_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "space.toml").write_text(TOML)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        line = refusal("sweep", "space.toml", "-o", "out", "--scheduler", address, cwd=tmp_path)
        assert f"--scheduler must be the address of a Dask scheduler, not '{address}'" in line
    assert not (tmp_path / "out").exists()
