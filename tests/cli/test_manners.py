"""What all commands share: examples, narrow terminals, colours, completion, how much is said."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import typer
from command_line import mixflight, refusal

import mixflight as package
from mixflight.cli import app as cli
from mixflight.cli.examples import EXAMPLES
from mixflight.cli.summaries import FIRST_STEPS, SUMMARIES

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


def test_every_command_has_a_line_in_the_list():
    said = mixflight("--help", env={**os.environ, "COLUMNS": "80"}).stdout
    assert "..." not in said.replace("[ARGS]...", "")
    assert list(SUMMARIES) == list(COMMANDS)
    for name, summary in SUMMARIES.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", said, re.MULTILINE)


def test_the_first_steps_run():
    joined = [line.strip() for line in FIRST_STEPS.replace("\\\n", " ").split("\n") if line.startswith("  mixflight")]
    assert len(joined) == 3
    for line in joined:
        _, name, *arguments = shlex.split(line)
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


@pytest.mark.parametrize("width", [30, 60, 70])
def test_words_and_numbers_stay_whole_where_it_is_narrow(width, monkeypatch, capsys):
    from mixflight.cli.output import print_table

    monkeypatch.setenv("COLUMNS", str(width))
    rows = [("mixpe-w4a8:as-stored", 1234.5678, "0.693 - 6.51", "dequantisation"), ("h100:fp16", 1086.4, "158 - 197", "launch")]
    print_table("title", ("machine", "tokens/s", "mJ band", "component"), rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    words = {word for line in lines for word in line.replace(":", " ").split()}
    assert {"mixpe-w4a8", "as-stored", "1,235", "0.693", "dequantisation", "h100", "fp16", "launch", "197"} <= words
    assert any(line.split() == ["tokens/s", "1,235"] for line in lines) is (width == 30)  # a line of its own


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
    asked = {"_MIXFLIGHT_COMPLETE": "complete_bash", "COMP_WORDS": words.replace(" ", "\n"), "COMP_CWORD": str(len(words.split()) - 1)}
    code = "import sys; sys.argv[0] = 'mixflight'; from mixflight.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert sorted(done.stdout.split()) == proposed


@pytest.mark.parametrize(("name", "option", "begun", "proposed"), [
    ("compare", "gpu", "h100:w4a16g128-", ["h100:w4a16g128-ideal"]),
    ("trace", "model", "smollm2-1", ["smollm2-135m"]),
    ("reproduce", "what", "sh", ["shuhai"]),
    ("sweep", "space", "hy", ["hybrid"]),
    ("prices", "name", "45nm-l", ["45nm-literature"]),
    ("schema", "name", "sweep", ["sweep/1"]),
    ("fetch", "name", "o", ["osu018"]),
    ("advise", "arch", "mixpe-core", ["mixpe-core"]),
])  # fmt: skip
def test_names_are_proposed(name, option, begun, proposed):
    [parameter] = [item for item in COMMANDS[name].params if item.name == option]
    found = parameter.shell_complete(COMMANDS[name].make_context(name, [], resilient_parsing=True), begun)
    assert [item.value for item in found] == proposed


ASK = {
    # words as bash cuts them; zsh's own functions as the script calls them; fish has a command for it
    "bash": r"""source {script}
COMP_WORDS=({cut}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _mixflight_completion mixflight; printf '%s\n' "${{COMPREPLY[@]}}" """,
    "zsh": r"""compdef() {{}}; _files() {{}}; _arguments() {{ print -r -- "$@" }}
source {script}; words=({words}); CURRENT=${{#words}}; _mixflight_completion""",
    "fish": "source {script}; complete -C '{words}'",
}
ANSWERS = {
    "mixflight simu": {"bash": "simulate", "zsh": "simulate", "fish": "simulate"},
    "mixflight compare --arch mixpe-w4a8-w": dict.fromkeys(ASK, "mixpe-w4a8-ws"),
    "mixflight compare --arch int8:w8a": {"bash": "w8a8", "zsh": r"int8\\:w8a8", "fish": "int8:w8a8"},
    "mixflight compare --arch=int8:w8a": {"bash": "w8a8"},
}


@pytest.mark.parametrize("shell", ASK)
def test_the_shells_own_completion(shell, tmp_path):
    """The script that ``--show-completion`` prints, run by the shell that it is for."""
    program = shutil.which(shell) or pytest.skip(f"{shell} is not installed")
    script, command = tmp_path / "script", tmp_path / "mixflight"
    command.write_text(f"#!{sys.executable}\nfrom mixflight.cli.app import main\nmain()\n")
    command.chmod(0o755)
    clean = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    made = subprocess.run([command], capture_output=True, text=True, env={**clean, "_MIXFLIGHT_COMPLETE": f"source_{shell}"})
    script.write_text(made.stdout)
    for words, answers in ANSWERS.items():
        if shell in answers:
            cut = words.replace(":", " : ").replace("=", " = ")
            asked = ASK[shell].format(script=script, words=words, cut=cut)
            done = subprocess.run([program, "-c", asked], capture_output=True, text=True, env=clean)
            assert done.stderr == ""
            assert answers[shell] in done.stdout
            assert shell != "bash" or done.stdout == answers[shell] + "\n"


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
