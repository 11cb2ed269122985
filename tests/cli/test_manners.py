"""What all commands share: examples, narrow terminals, colours, completion, how much is said."""

import os
import re
import shlex
import subprocess
import sys

import pytest
import typer
from command_line import mixflight, refusal

import mixflight as package
from mixflight.cli import app as cli
from mixflight.cli.examples import EXAMPLES

COMMANDS = typer.main.get_command(cli.command_line()).commands
TINY = ("simulate", "--arch", "int8:w8a8", "--model", "smollm2-135m", "--prefill", "8", "--decode", "2")


def test_every_command_has_examples():
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("example", [example for examples in EXAMPLES.values() for example in examples])
def test_every_example_parses(example):
    assert max(map(len, example.split("\n"))) <= 58
    program, name, *arguments = shlex.split(example.replace("\\\n", " "))
    assert program == "mixflight"
    COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_fits_a_narrow_terminal(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        COMMANDS[name].main(["--help"], prog_name=f"mixflight {name}")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 60] == []
    shown = "\n".join(lines)
    for example in EXAMPLES[name]:
        for line in example.split("\n"):
            assert f"\n    {line}" in shown


def test_a_table_fits_a_narrow_terminal():
    done = mixflight(*TINY, env={**os.environ, "COLUMNS": "60"})
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 60


@pytest.mark.parametrize(("set_to", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)])
def test_no_color_is_kept_to(set_to, coloured):
    code = "from mixflight.cli.output import print_table; print_table('t', ('a',), [(1,)]); from rich import print; print('[red]x[/red]')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TERM": "xterm", **set_to})
    assert bool(re.search(r"\x1b\[3\dm", done.stdout)) is coloured


@pytest.mark.parametrize(("words", "proposed"), [
    ("mixflight simu", ["simulate"]),
    ("mixflight simulate --arch mixpe-w4a8-", ["mixpe-w4a8-split", "mixpe-w4a8-ws"]),
    ("mixflight compare --arch int8:w8a", ["int8:w8a8"]),
    ("mixflight simulate --model smollm2-1", ["smollm2-135m"]),
    ("mixflight rtl fp16-", ["fp16-align", "fp16-pe"]),
])  # fmt: skip
def test_the_shell_can_complete(words, proposed):
    if " rtl " in words:
        pytest.importorskip("amaranth")
    asked = {"_MIXFLIGHT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'mixflight'; from mixflight.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert sorted(done.stdout.split()) == proposed


def test_verbose_says_what_is_done_and_quiet_nothing():
    plain, verbose, quiet = (mixflight(*TINY, *more) for more in ((), ("--verbose",), ("-q",)))
    assert plain.stdout == verbose.stdout == quiet.stdout != ""
    assert plain.stderr == quiet.stderr == ""
    said = verbose.stderr.splitlines()
    assert said[0] == "mixflight: int8: prefill 8, decode 2, batch 1"
    assert re.fullmatch(r"mixflight: \d+\.\d s", said[-1])


def test_the_version():
    assert mixflight("--version").stdout == f"mixflight {package.__version__}\n"


def test_quiet_silences_a_remark():
    pytest.importorskip("amaranth")
    command = ("verify", "mul4x8-pe", "--seed", "1")
    offline = {**os.environ, "MIXFLIGHT_CACHE": os.devnull + "/none"}
    assert "no real tiles" not in mixflight(*command, "--quiet", env=offline).stderr


def test_quiet_and_verbose_exclude_each_other():
    assert refusal(*TINY, "-q", "-v") == "mixflight: --quiet and --verbose must not stand together"
