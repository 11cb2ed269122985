"""What is installed: everything under ``mixflight``, data included, and it works away from the sources."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mixflight

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from the files that git tracks."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, target, follow_symlinks=False)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_nothing_is_installed_outside_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mixflight"}


def test_the_version_is_that_of_the_package(wheel):
    assert wheel.name.startswith(f"mixflight-{mixflight.__version__}-")


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
