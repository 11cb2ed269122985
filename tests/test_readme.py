"""The README is true: its commands parse, its example runs, its numbers are what the code gives."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest
import typer

import mixflight
from mixflight.arch.accelerator import accelerators
from mixflight.arch.synthesis_counts import counts_named
from mixflight.cli import app as cli
from mixflight.machines import Machine, run
from mixflight.reports import document as doc
from mixflight.reports.figures import describe
from mixflight.reports.findings import findings, headline, number
from mixflight.results import simulation_document

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
TEXT = " ".join(README.split())


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


COMMANDS = [line.split(" #")[0].strip() for block in _blocks("sh") for line in block.splitlines()
            if line.startswith("mixflight ")]  # fmt: skip


@pytest.fixture(scope="module")
def demo(smollm2_path):
    """What ``mixflight demo`` simulates."""
    machines = [Machine.parse(name) for name in ("mixpe-w4a8", "mul4x8", "int8", "fp16")]
    prices, technologies = doc.prices_of([machine.accelerator for machine in machines])
    simulations = [simulation_document(run(machine, str(smollm2_path), 128, 128)) for machine in machines]
    return doc.Document(
        version=doc.VERSION, mixflight="", trace=(), prices=prices, technologies=technologies,
        scenario=doc.Scenario(model=simulations[0]["model"], recipe=simulations[0]["recipe"], prefill=128, decode=128,
                              batch=1),
        machines=tuple(doc.machine_of(machine.accelerator, item, "")
                       for machine, item in zip(machines, simulations, strict=True)),
    )  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_parses(line):
    _, name, *arguments = shlex.split(line)
    command = typer.main.get_command(cli.command_line()).commands[name]
    command.make_context(name, arguments)
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.raises(SystemExit):
        command.main(["--help"], prog_name=name)
    assert name in shown.getvalue()


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake ([a-z-]+)", "\n".join(_blocks("sh")))
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("https://"):       # whether other sites answer is not ours to promise
            continue
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / path).is_file(), target
        assert not anchor or anchor in {title.lower().replace(" ", "-") for title in re.findall(r"^## (.*)$", README, re.MULTILINE)}
    for name in re.findall(r"`(arch/[^`]+)`", README):
        assert (ROOT / name).exists(), name


def test_the_python_example_runs(smollm2_path, capsys):
    [example] = _blocks("python")
    assert len([line for line in example.splitlines() if line]) == 5
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "mixpe-w4a8" in said
    assert "tokens/s" in said


def test_the_table_is_what_the_code_gives(demo):
    for machine in demo.machines:
        prefill, decode = machine.simulation.prefill, machine.simulation.decode
        row = (
            f"| {machine.name} | {number(prefill.time_ms)} | {number(decode.tokens_per_s)} "
            f"| {number(decode.energy_mj_per_token)} "
            f"| {number(decode.energy_mj_per_token_low)} to {number(decode.energy_mj_per_token_high)} "
            f"| {decode.bound_by} |"
        )
        assert row in README
        assert f"({number(machine.dram_gb_s)} GB/s)" in README


def test_the_findings_are_what_the_code_gives(demo):
    used = re.search(r"useful work (.*?) of the time while DRAM is busy (.*?)\.$", headline(demo))
    assert f"PEs do useful work {used[1]} of the time while DRAM is busy {used[2]}." in TEXT
    memory, shift_add = findings(demo)
    assert f"DRAM is {re.search(r'is (.*?) of decode', memory)[1]} of decode's energy" in TEXT
    assert "take the same time" in shift_add
    assert re.search(r"and (\S+ % more) energy", shift_add)[1] + " energy" in TEXT
    widths = [machine.simulation.decode.energy_mj_per_token_high / machine.simulation.decode.energy_mj_per_token_low
              for machine in demo.machines]  # fmt: skip
    assert f"a factor of {min(widths):.0f} to {max(widths):.0f}" in TEXT


def test_the_picture_shows_what_the_code_gives(demo):
    assert f"<desc>{describe(demo)}</desc>" in (ROOT / "docs" / "energy-per-token.svg").read_text()


def test_the_synthesis_counts_are_the_recorded_ones():
    shift_add, multiply = counts_named("mixpe-array-lut"), counts_named("mul4x8-array-lut")
    assert shift_add.dsp == multiply.dsp == 0
    assert f"{shift_add.lut:,} LUTs against {multiply.lut:,}" in TEXT


def test_every_preset_is_in_the_table_with_its_luts():
    from mixflight.advising.footprint import footprint
    from mixflight.arch.accelerator import core_machines, machines
    from mixflight.arch.array_resources import array_resources

    rows = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|[^|]*\|[^|]*\|[^|]*\| ([^|]*) \|", README, re.MULTILINE)
    said = {}
    for names, luts in rows:
        found = re.findall(r"`([^`]+)`", names)
        said |= dict(zip(found, luts.split(", ") if "," in luts else [luts] * len(found), strict=True))
    assert {name for name in machines() if name not in said} == set()
    for name, luts in said.items():
        if luts.endswith("k"):
            count = footprint(core_machines()[name]).lut if name in core_machines() else array_resources(accelerators()[name].array).lut
            assert luts == f"{count / 1e3:.0f}k", name
    assert sum(luts.endswith("k") for luts in said.values()) >= 8


def test_what_to_cite_is_there():
    text = (ROOT / "CITATION.cff").read_text()
    for key in ("cff-version", "message", "title", "authors", "license: Apache-2.0", "references"):
        assert re.search(rf"^{key}", text, re.MULTILINE), key
    [command] = re.findall(r"`python -c \"([^`]+)\"`", TEXT)
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(command, {})
    assert shown.getvalue().strip() == mixflight.__version__


def test_it_begins_with_what_a_stranger_asks():
    titles = re.findall(r"^## (.*)$", README, re.MULTILINE)
    wanted = ["In Python", "Documentation", "How far each machine is verified", "What comes out", "When not to use it", "How to cite"]
    assert [title for title in titles if title in wanted] == wanted
    first = README.split("\n\n")[1]
    assert len(re.findall(r"\.(?:\s|$)", first)) == 2  # sentences
    assert README.index("![") < README.index("```sh") < README.index("```python")


@pytest.mark.parametrize("name", ["mixpe-w4a8", "mul4x8", "int8", "fp16"])
def test_the_presets_are_as_described(name):
    array = accelerators()[name].array
    assert re.search(rf"\| `{name}` \| {array.rows}x{array.cols} ", README)


def test_the_table_of_our_own_pes_is_the_recorded_one():
    from mixflight.arch.cell_counts import cell_counts_named

    rows = re.findall(r"^\| `([a-z0-9-]+-pe)`[^|]*\| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", README, re.MULTILINE)
    assert len(rows) == 6
    for name, area, real, settled, delay in rows:
        counts = cell_counts_named(name)
        energy = counts.energy["real"]
        assert area == f"{counts.area_um2:,.0f}"
        assert (real, settled) == (f"{energy.pj_per_mac:.1f}", f"{energy.settled_pj_per_mac:.1f}")
        assert delay == f"{counts.delay_ns:.2f}"


def test_the_split_array_is_as_fast_as_said(smollm2_path):
    split = mixflight.simulate("mixpe-w4a8-split", smollm2_path.as_posix(), prefill=128, decode=128)
    assert f"decodes at {split.decode.tokens / split.decode.time_ms * 1e3:.0f} tokens/s" in README
    assert split.decode.bound_by == "dram"
    assert "bound by DRAM" in README
    whole, blocks = counts_named("mixpe-array-lut"), counts_named("mixpe-array-split-lut")
    assert f"{blocks.lut / whole.lut - 1:.1%} more LUTs".replace("%", " %") in README


def test_flightllms_figures_are_what_the_engine_gives():
    from mixflight import flightllm_corrected as study

    u280 = study.Machine(study.U280)
    rate = u280.rate_at(study.CONTEXT)
    ideal = study.Machine(study.U280, study.EFFECTS["row-timing-and-refresh"]).rate_at(study.CONTEXT)
    assert f"decodes {rate:.1f} tokens/s" in TEXT
    assert f"rows and refresh cost {100 * (ideal / rate - 1):.1f} %" in TEXT
    assert f"still be {study.serial_rate(u280):.1f} tokens/s" in TEXT
    share = 100 * 55 * study.PAPER_BYTES / 1e9 / u280.machine.hbm.peak_gb_s
    assert f"55 move {share:.0f} % of the HBM's peak" in TEXT


def test_the_instructions_of_all_lengths_are_as_large_as_said():
    from mixflight import flightllm_corrected as study
    from mixflight.compile_program import compile_model

    found = compile_model(study.U280, study.MODEL, study.RECIPE, study.LONGEST).storage
    assert f"all lengths: {found.compact / (1 << 20):.3f} MiB" in TEXT
