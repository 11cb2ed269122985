"""The page in a browser: nothing on the console, nothing wider than the window, on phones and desktops, light and dark."""

import html
import json
import re
import shutil
import subprocess

import pytest
from small_results import small_document

from mixflight.reporting import Report
from mixflight.reports.page import render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>addEventListener('load', () => {
  document.querySelectorAll('details').forEach(item => item.open = true);
  const cell = document.querySelector('[data-from]'); cell.focus();
  const after = getComputedStyle(cell, '::after');
  const wide = document.documentElement.scrollWidth - innerWidth;
  document.title = JSON.stringify({wide, width: innerWidth, said: after.content, position: after.position,
    dark: matchMedia('(prefers-color-scheme: dark)').matches, page: getComputedStyle(document.body).backgroundColor});
})</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium")


def seen(page, width, tmp_path, *flags):
    """What the probe found in ``page`` at ``width`` pixels, and what the console said."""
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", f"{PROBE}</body>"))
    frame = tmp_path / "frame.html"  # a window has a least width; a frame has none
    frame.write_text(f'<body style="margin:0"><iframe id="f" src="page.html" width="{width}" height="800" style="border:0"></iframe>'
                     "<script>addEventListener('load', () => setTimeout(() => "
                     "{ document.title = document.getElementById('f').contentDocument.title }, 200))</script>")  # fmt: skip
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--enable-logging=stderr",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=4000", *flags, "--dump-dom", frame.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    return json.loads(html.unescape(title[1])), [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_window(width, tmp_path):
    found, console = seen(render(small_document()), width, tmp_path)
    assert found["wide"] <= 0  # less by the bar at the side
    assert found["width"] == width
    assert console == []
    assert found["position"] == "fixed"
    assert "twice the PEs of int8" in found["said"]


def test_dark_is_dark(tmp_path):
    light, _ = seen(render(small_document()), 800, tmp_path)
    dark, _ = seen(render(small_document()), 800, tmp_path, "--force-dark-mode", "--blink-settings=preferredColorScheme=0")
    assert light["page"] == "rgb(255, 255, 255)"
    assert dark["page"] == "rgb(20, 23, 27)"


def test_a_notebook_shows_the_page(tmp_path):
    shown = Report(render(small_document()))._repr_html_()
    inner = html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1])
    assert inner.startswith("<!doctype html>")
