"""Fetching against a package made here: dpkg-deb runs for real, apt-get is a script, the network is never asked."""

import dataclasses
import hashlib
import os
import shutil
import subprocess

import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl import cell_libraries
from mixflight.rtl.cell_libraries import LIBRARIES, CellLibrary, cached_library, library_path

CONTENT = b"library(tiny) {}\n"
MEMBER = "usr/share/tiny/tiny.lib"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A package, an ``apt-get`` that gets it, and an empty cache."""
    if shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not on PATH")
    tree = tmp_path / "tree"
    (tree / MEMBER).parent.mkdir(parents=True)
    (tree / MEMBER).write_bytes(CONTENT)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN" / "control").write_text(
        "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: nobody <n@example.org>\nDescription: a test\n")
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(tmp_path / "tiny_1_all.deb")],
                   check=True, capture_output=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cell_libraries, "LIBRARIES", {"tiny": CellLibrary(
        name="tiny", summary="a test", package="tiny", member=MEMBER, nominal="",
        sha256=hashlib.sha256(CONTENT).hexdigest())})

    def apt_get(script):
        (programs / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "apt-get").chmod(0o755)

    apt_get(f"cp {tmp_path}/tiny_1_all.deb .")
    return apt_get


def test_a_library_is_fetched_once_and_nothing_else_is_left(mirror):
    assert cached_library("tiny") is None
    path = library_path("tiny")
    assert path.read_bytes() == CONTENT
    mirror("exit 1")
    assert library_path("tiny") == path == cached_library("tiny")
    assert [item.name for item in path.parent.iterdir()] == ["tiny.lib"]
    path.write_bytes(b"changed")
    assert cached_library("tiny") is None


@pytest.mark.parametrize(("script", "message"), [
    ("echo 'E: Unable to locate package tiny'; exit 100", "run `apt-get update` once"),
    ("echo 'E: Failed to fetch http://x'; exit 100", "its mirror must be reachable; it said 'Failed to fetch"),
    ("echo no package > tiny_1_all.deb", "must be a Debian package"),
])
def test_a_package_that_cannot_be_had_is_one_line(mirror, script, message):
    mirror(script)
    with pytest.raises(InputError, match=message) as caught:
        library_path("tiny")
    assert "\n" not in str(caught.value)
    assert cached_library("tiny") is None


def test_a_member_that_is_not_the_library_is_refused(mirror, monkeypatch):
    good = cell_libraries.LIBRARIES["tiny"]
    for changed, message in ((dataclasses.replace(good, sha256="0" * 64), "must have SHA-256 000"),
                             (dataclasses.replace(good, member="usr/other.lib"), "must hold usr/other.lib")):
        monkeypatch.setattr(cell_libraries, "LIBRARIES", {"tiny": changed})
        with pytest.raises(InputError, match=message):
            library_path("tiny")


def test_without_apt_the_liberty_file_can_be_given(mirror, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="needs apt-get .*--target FILE.lib"):
        library_path("tiny")


def test_the_real_library_is_the_one_recorded(osu018_path):
    assert hashlib.sha256(osu018_path.read_bytes()).hexdigest() == LIBRARIES["osu018"].sha256
