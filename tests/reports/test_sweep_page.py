import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command_line import document, refusal

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
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|fetch\(", text)
    assert "small &lt;space&gt;" in text and "<space>" not in text
    HTMLParser().feed(text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to open the page with")
def test_a_browser_draws_the_front_and_filters_the_table(page, tmp_path):
    path, outcome = page

    def opened(fragment=""):
        command = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--dump-dom",
        ]
        return subprocess.run(
            [*command, f"file://{path}#{fragment}"], capture_output=True, text=True, timeout=120
        ).stdout

    text = opened()
    assert text.count("<circle") == len(outcome["pareto"]) > 2
    assert f"{len(outcome['pareto'])} of {len(outcome['pareto'])}" in text
    middle = sorted(item["tokens_per_s"] for item in outcome["pareto"] if item["scenario.batch"] == 4)[0]
    wanted = [item for item in outcome["pareto"] if item["scenario.batch"] == 4 and item["tokens_per_s"] > middle]
    filtered = opened(f"scenario.batch = 4, tokens_per_s > {middle}")
    assert 0 < filtered.count("<circle") == len(wanted) < len(outcome["pareto"])
    assert filtered.count("<tr data-place") == len(wanted)


def test_a_sweep_that_is_not_finished_is_refused(page, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(page[0].removesuffix("/report.html"), folder)
    (folder / "front.json").unlink()
    assert "a sweep must be finished to be shown" in refusal("report", folder)
    assert "--figures must come with the folder of a run or a shipped study" in refusal(
        "report", page[0].removesuffix("/report.html"), "--figures", tmp_path
    )
