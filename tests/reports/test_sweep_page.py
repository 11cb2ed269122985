import base64
import csv
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import msgspec
import pytest
from command_line import document, refusal

from mixflight.sweeping.run import sweep
from mixflight.sweeping.space import space_named, studies
from mixflight.sweeping.workers import Here

TEXT = """
summary = "small <space>"
arch = "mixpe-w4a8"
model = "smollm2-135m"
recipe = "w4a8g32"
by = ["scenario.batch"]
[scenario]
prefill = 24
decode = 6
[objectives]
tokens_per_s = "max"
area_um2 = "min"
[axes]
"scenario.batch" = [1, 4]
"array.rows" = [8, 16, 32]
"array.pe" = ["shift-add-4x8", "multiply-8x8"]
[derived]
"array.lanes" = "array_cols"
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """(Path of the page, outcome)."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "space.toml").write_text(TEXT)
    outcome = document("sweep", folder / "space.toml", "-o", folder / "out", "--jobs", 1)
    path = document("report", folder / "out")["path"]
    return path, outcome


def test_the_page_stands_alone_and_is_well_formed(page):
    text = Path(page[0]).read_text()
    assert not re.search(r"(?:src|href)=[\"']|https?://(?!www\.w3\.org/2000/svg)|@import|fetch\(", text)
    assert "small &lt;space&gt;" in text and "<space>" not in text
    HTMLParser().feed(text)


with_chromium = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to open the page with")


def opened(path, profile, fragment=""):
    """(The page as the browser has it, what it says on its console)."""
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}",
        "--virtual-time-budget=3000", "--dump-dom", f"file://{path}#{fragment}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@with_chromium
def test_a_browser_draws_the_front_and_filters_the_table(page, tmp_path):
    path, outcome = page
    text, console = opened(path, tmp_path)
    assert console == []
    assert text.count('class="point"') == len(outcome["pareto"]) > 2
    assert f"{len(outcome['pareto'])} of {len(outcome['pareto'])}" in text
    files = {name: unquote(html.unescape(address)) for name, address in
             re.findall(r'id="(csv|svg|png)" download="front.(?:csv|svg|png)" href="([^"]*)"', text)}  # fmt: skip
    rows = list(csv.DictReader(files["csv"].partition(",")[2].splitlines()))
    assert [row["array.pe"] for row in rows] == [item["array.pe"] for item in outcome["pareto"]]
    assert [float(row["area_um2"]) for row in rows] == [item["area_um2"] for item in outcome["pareto"]]
    picture = ElementTree.fromstring(files["svg"].partition(",")[2])
    assert len(picture.findall("{http://www.w3.org/2000/svg}path")) == len(rows) + 2  # and the legend's two batches
    assert base64.b64decode(files["png"].partition(",")[2]).startswith(b"\x89PNG")
    assert text.count('"tokens_per_s: derived: the cycle engine') == len(rows)
    assert text.count('"array.rows: chosen: a value of the space') == len(rows)
    middle = sorted(item["tokens_per_s"] for item in outcome["pareto"] if item["scenario.batch"] == 4)[0]
    wanted = [item for item in outcome["pareto"] if item["scenario.batch"] == 4 and item["tokens_per_s"] > middle]
    filtered, _ = opened(path, tmp_path, f"scenario.batch = 4, tokens_per_s > {middle}")
    assert 0 < filtered.count('class="point"') == len(wanted) < len(outcome["pareto"])
    assert filtered.count("<tr data-place") == len(wanted)


@pytest.mark.slow
@with_chromium
@pytest.mark.parametrize("name", studies())
def test_a_browser_draws_each_study(name, tmp_path):
    space = msgspec.structs.replace(space_named(name), method="random", points=2000 if name == "mixpe" else 16)
    outcome = sweep(space, tmp_path / "out", Here())
    text, console = opened(document("report", tmp_path / "out")["path"], tmp_path / "profile")
    assert console == []
    assert text.count('class="point"') == text.count("<tr data-place") == len(outcome.pareto) > 1
    assert html.escape(space.finding, quote=False) in text


def test_a_sweep_that_is_not_finished_is_refused(page, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(page[0].removesuffix("/report.html"), folder)
    (folder / "front.json").unlink()
    assert "a sweep must be finished to be shown" in refusal("report", folder)
    whole = page[0].removesuffix("/report.html")
    assert "must join the folder of a run, not that of a sweep" in refusal("report", whole, "--sweep", whole)


def test_figures_of_any_sweep(page, tmp_path):
    path, outcome = page
    written = document("report", path.removesuffix("/report.html"), "--figures", tmp_path)["figures"]
    assert sorted(map(str, tmp_path.iterdir())) == sorted(written)
    assert [Path(name).name for name in sorted(written)] == ["sweep-front.csv", "sweep-front.png", "sweep-front.svg"]
    rows = list(csv.DictReader((tmp_path / "sweep-front.csv").read_text().splitlines()))
    assert [float(row["tokens_per_s"]) for row in rows] == [item["tokens_per_s"] for item in outcome["pareto"]]
    assert {row["array.pe"] for row in rows} == {item["array.pe"] for item in outcome["pareto"]}
