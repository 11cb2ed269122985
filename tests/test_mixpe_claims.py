"""``docs/mixpe-claims.md``, its figures and README's answer say what the corrected study gives."""

import re
from pathlib import Path

import pytest

from mixflight.reports.mixpe_figures import FIGURES, described
from mixflight.reproduce_mixpe import rows as study_rows
from mixflight.sim.mixpe_corrected.goals import goals
from mixflight.sim.mixpe_corrected.run import PHASES

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "mixpe-claims.md").read_text()
TEXT = " ".join(PAGE.split())
README = " ".join((ROOT / "README.md").read_text().split())


@pytest.fixture(scope="module")
def rows():
    return {row.id: row.ours for row in study_rows("corrected")}


def _tables(page):
    """The table below each ``### family`` heading: first cell -> the others."""
    found = {}
    for heading, body in re.findall(r"^### `([^`]+)`.*?\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL):
        lines = [line for line in body.splitlines() if line.startswith("| `")]
        found[heading] = {cells[0].strip("`"): cells[1:] for cells in (
            [cell.strip() for cell in line.strip("|").split("|")] for line in lines)}  # fmt: skip
    return found


def test_the_tables_of_speed_and_efficiency(rows):
    tables = _tables(PAGE)
    for family, suffix in (
        ("speedup/llama2-13b", ""),
        ("efficiency/llama2-13b", "/dram-3.9"),
        ("efficiency-anchored/llama2-13b", "/dram-3.9"),
    ):
        table = tables[family]
        assert set(table) == {"mixpe-w4a8", "mixpe-w4a8-centred", "mul4x8", "int8-dequantise", "mixpe-w4a16", "fp16"}
        for machine, cells in table.items():
            assert cells == [f"{rows[f'{family}/{phase}/{machine}{suffix}']:.2f}" for phase in PHASES], machine


def test_the_table_of_machines(rows):
    table = _tables(PAGE)["machine"]
    assert len(table) == 7
    for name, cells in table.items():
        of = {key: rows[f"machine/{name}/{key}"] for key in (
            "pe-um2", "lane-um2-a-pe", "columns", "area-residual", "mac-pj-45nm", "delay-ns-45nm")}  # fmt: skip
        assert cells == [f"{of['pe-um2']:,.0f}", f"{of['lane-um2-a-pe']:,.0f}", f"32x{of['columns']:.0f}",
                         f"{100 * of['area-residual']:+.1f} %", f"{of['mac-pj-45nm']:.2f}",
                         f"{of['delay-ns-45nm']:.2f}"]  # fmt: skip


def test_the_table_of_goals():
    table = _tables(PAGE)["goal"]
    by_name = {goal.name: goal for goal in goals()}
    assert len(table) == 6
    for name, cells in table.items():
        goal, single = by_name[name], by_name[f"{name}/one-product"]
        same = by_name.get(f"{name}/like-for-like")
        assert cells == [f"{goal.most:.2f}", f"{goal.best()[1]:.3f}", f"{single.best()[1]:.3f}",
                         f"{same.best()[1]:.3f}" if same else ""]  # fmt: skip


def test_the_table_of_parts(rows):
    for name, cells in _tables(PAGE)["parts"].items():
        parts = [rows[f"parts/{name}/{part}"] for part in ("registers", "accumulate", "product")]
        assert cells == [*(f"{part:,.0f}" for part in parts), f"{sum(parts):,.0f}"]
    assert f"{rows['parts/floor/mixpe-w4a8-pe-over-int8-pe']:.3f} of INT8's area" in TEXT


def test_the_table_of_the_published_design_space(rows):
    for name, cells in _tables(PAGE)["dse"].items():
        assert cells[1] == f"{rows[f'dse/{name}']:.1f}"


def test_the_table_of_quality(rows):
    for name, cells in _tables(PAGE)["quality"].items():
        head = rows[f"quality/{name}/snr-head-db"]
        assert cells == ["" if head is None else f"{head:.1f}", f"{rows[f'quality/{name}/perplexity']:.1f}",
                         f"{rows[f'quality/{name}/ratio']:.3f}"]  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_the_figures_are_what_the_code_draws(name):
    drawn = (ROOT / "docs" / f"{name}.svg").read_text()
    assert re.findall(r"<path d=\"[^\"]*\"", drawn) == re.findall(r"<path d=\"[^\"]*\"", described(name))


def test_the_answer_in_the_readme(rows):
    def speed(machine, phase):
        return rows[f"speedup/llama2-13b/{phase}/{machine}"]

    shift_add = [speed("mixpe-w4a8", phase) for phase in ("prefill", "decode-b64", "decode-b1")]
    saved = [rows[f"efficiency/llama2-13b/{phase}/mixpe-w4a8/dram-3.9"] for phase in ("prefill", "decode-b1")]
    assert (f"{shift_add[0]:.2f} times as fast as INT8 in LLaMA2-13B's prefill, {shift_add[1]:.2f} times in decode at a "
            f"batch of 64 and {shift_add[2]:.2f} times at a batch of 1") in README  # fmt: skip
    assert f"{saved[0]:.2f} and {saved[1]:.2f} times the tokens a joule" in README
    plain, floating = (speed("mixpe-w4a8", "prefill") / speed(name, "prefill") for name in ("mul4x8", "fp16"))
    published = next(row.published for row in study_rows("corrected")
                     if row.id == "speedup/opt-6.7b/decode-b64/mixpe-w4a8")  # fmt: skip
    assert f"the authors' simulator has {published:.1f} times INT8's speed at a batch of 64" in README
    assert f"{plain:.2f} times as fast as a plain 4x8 multiplier and {floating:.2f} times as fast as FP16" in README
