"""Archives of the last commit install into clean environments, and what they install works there."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pythons import python_of

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A source archive of the last commit, and a wheel built from that archive alone."""
    pytest.importorskip("setuptools_scm")
    folder = tmp_path_factory.mktemp("release")
    subprocess.run(["git", "clone", "--quiet", ROOT, folder / "clone"], check=True)
    build = "import setuptools.build_meta as b, sys; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", build, "build_sdist", folder], cwd=folder / "clone", check=True, capture_output=True)
    source = next(folder.glob("*.tar.gz"))
    with tarfile.open(source) as archive:
        archive.extractall(folder / "source", filter="data")
    unpacked = next((folder / "source").iterdir())
    subprocess.run([sys.executable, "-c", build, "build_wheel", folder], cwd=unpacked, check=True, capture_output=True)
    return source, next(folder.glob("*.whl"))


def test_the_archives_have_one_version_and_no_strays(archives):
    source, wheel = archives
    version = wheel.name.split("-")[1]
    assert source.name == f"mixflight-{version}.tar.gz"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"mixflight", f"mixflight-{version}.dist-info"}
    with tarfile.open(source) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    assert {f"mixflight-{version}/{name}" for name in ("README.md", "LICENSE", "CITATION.cff", "tests/test_release.py")} <= {
        member.name for member in members
    }


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("kind", "version"), [*(("wheel", version) for version in PYTHONS), ("sdist", PYTHONS[-1])])
def test_an_archive_works_in_a_clean_environment(kind, version, archives, tmp_path):
    """The source archive with one Python: the wheel of the others is built from it."""
    python = python_of(tuple(map(int, version.split("."))))
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    subprocess.run([python, "-m", "venv", tmp_path / "clean"], check=True)
    own = tmp_path / "clean" / "bin" / "python"
    archive = archives[0] if kind == "sdist" else archives[1]
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{archive}[rtl]"], check=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(*arguments):
        command = [tmp_path / "clean" / "bin" / "mixflight", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout

    assert "simulate" in run("--help")
    assert json.loads(run("doctor", "--json"))["core_ok"]
    tiny = ("--model", "smollm2-135m", "--prefill", "8", "--decode", "2", "--json")
    assert json.loads(run("simulate", "--arch", "int8:w8a8", *tiny))["decode"]["tokens"] == 2
    assert json.loads(run("compare", "--arch", "flightllm-u280:flightllm", "--gpu", "h100:fp16", *tiny))["rows"]
    assert json.loads(run("rtl", "mul4x8-pe", "-o", "out", "--json"))["register_bits"] > 0
    assert json.loads(run("verify", "mul4x8-pe", "--no-real", "--json"))["failures"] == 0
    code = "import mixflight; print(mixflight.__version__, mixflight.__file__)"
    said = subprocess.run([own, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True).stdout
    assert said.split()[0] == archives[1].name.split("-")[1]
    assert said.split()[1].startswith(str(tmp_path / "clean"))
