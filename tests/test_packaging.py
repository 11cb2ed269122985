"""What is installed: everything under ``mixflight``, data included, and it works away from the sources."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mixflight

ROOT = Path(__file__).resolve().parent.parent
VERSION = "7.8.9"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from the files that git tracks."""
    pytest.importorskip("setuptools", minversion="77")
    pytest.importorskip("setuptools_scm")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    environment = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION": VERSION}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return next(folder.glob("*.whl"))


def test_nothing_is_installed_outside_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mixflight"}


def test_the_version_is_that_of_the_package(wheel):
    assert wheel.name.startswith(f"mixflight-{VERSION}-")
    with zipfile.ZipFile(wheel) as archive:
        assert f"version = '{VERSION}'" in archive.read("mixflight/_version.py").decode()


def test_this_checkout_has_a_version():
    """Of the last tag, or of a commit after it; FuseSoC takes letters, digits and dots."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", mixflight.__version__)


def test_all_code_and_data_are_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for folder in ("arch", "workloads", "mapping", "sim", "rtl", "reports"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".toml", ".csv", ".html", ".json", ".md") and "__pycache__" not in path.parts:
                name = f"mixflight/{path.relative_to(ROOT)}"
                assert name in packed or not _tracked(path), f"{name} is missing from the wheel"


def _tracked(path):
    return subprocess.run(["git", "ls-files", "--error-unmatch", path], cwd=ROOT, capture_output=True).returncode == 0


def test_the_installed_package_simulates_away_from_the_sources(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import mixflight; "
        "print(mixflight.__file__, mixflight.simulate('int8', 'llama2-7b', recipe='w8a8', prefill=2, decode=1).decode.bound_by)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0].startswith(str(site))


def test_the_lock_fits_what_is_required():
    """Every package of every extra but the tests' own, at a version that pyproject.toml takes; ``make lock`` mends it."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints.txt").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: needed for name, needed in project["optional-dependencies"].items() if name != "dev"}
    for text in [*project["dependencies"], *(item for needed in extras.values() for item in needed)]:
        requirement = Requirement(text)
        assert requirement.name in locked, f"{requirement.name}: make lock"
        assert requirement.specifier.contains(locked[requirement.name]), text
