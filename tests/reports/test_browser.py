"""The pages in a browser, on phones and desktops, light and dark: nothing on the console, nothing wider than the window,
text of figures large enough to be read, and where numbers come from shown on touch; the run's page as PDF."""

import html
import json
import re
import shutil
import subprocess

import pytest
from small_results import small_document, swept

from mixflight.reporting import Report
from mixflight.reports.page import render
from mixflight.reports.sweep_page import render_sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 390, 1280)
SMALLEST_PX = 8.0
PROBE = """<script>addEventListener('load', () => setTimeout(() => {
  document.querySelectorAll('details').forEach(item => item.open = true);
  const said = selector => { const item = document.querySelector(selector); item.focus();
    const after = getComputedStyle(item, '::after'); return [after.content, after.position]; };
  const texts = [...document.querySelectorAll('figure svg text')].map(text => {
    const svg = text.ownerSVGElement, scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    return parseFloat(getComputedStyle(text).fontSize) * scale; });
  const outside = [...document.querySelectorAll('body *')].filter(item => !item.closest('.wide') && !item.closest('svg')
    && item.getBoundingClientRect().right > innerWidth + 1).map(item => item.outerHTML.slice(0, 60));
  document.title = JSON.stringify({wide: document.documentElement.scrollWidth - innerWidth, width: innerWidth, outside,
    texts: texts.length, smallest: Math.min(...texts), cell: said('td[data-from]'), top: said('SELECTOR'),
    ink: getComputedStyle(document.body).color, page: getComputedStyle(document.body).backgroundColor});
}, 100))</script>"""
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium")


def sweep_page():
    """The page of the small sweep."""
    front = swept()
    outcome = {
        "summary": front.summary, "objectives": front.objectives, "by": [], "points": 12, "evaluated": 11,
        "engine_evaluated": 7, "excluded": {"area": 1}, "failed": 0, "errors": {}, "fidelity": "screened",
        "largest_disagreement": front.apart,
        "pareto": [{**row, "disagreement": front.apart} for row in front.front],
    }  # fmt: skip
    manifest = {
        "space": {"finding": "", "axes": {"array.pe": [], "array.rows": []}, "derived": {}}, "mixflight": "0",
        "code_sha256": front.code_sha256, "space_sha256": front.space_sha256, "python": "3", "versions": {},
    }  # fmt: skip
    return render_sweep(outcome, manifest, front.sources, "derived: the engine")


PAGES = {"run": (lambda: render(small_document()), ".tiles li"), "sweep": (sweep_page, "p[data-from]")}


def browser(profile, *arguments):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               "--enable-logging=stderr", f"--user-data-dir={profile}", *arguments]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def seen(folder, *flags):
    """What the probe found in each page at each width, and what the console said: one start of the browser for all."""
    frames = []  # a window has a least width; a frame has none
    for name, (text, selector) in PAGES.items():
        page = folder / f"{name}.html"
        page.write_text(text().replace("</body>", f"{PROBE.replace('SELECTOR', selector)}</body>"))
        frames += [f'<iframe src="{name}.html" title="{name} {width}" width="{width}" height="800"></iframe>' for width in WIDTHS]
    frame = folder / "frame.html"
    frame.write_text("<style>iframe { border: 0 }</style>" + "".join(frames) + """<script>
      addEventListener('load', () => setTimeout(() => { const found = {};
        for (const item of document.querySelectorAll('iframe')) found[item.title] = item.contentDocument.title;
        document.title = JSON.stringify(found); }, 1000))</script>""")  # fmt: skip
    done = browser(folder / "profile", "--virtual-time-budget=8000", *flags, "--dump-dom", frame.as_uri())
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    found = {name: json.loads(text) for name, text in json.loads(html.unescape(title[1])).items()}
    return found, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return seen(tmp_path_factory.mktemp("light"))


def test_nothing_is_said_on_the_console(light):
    assert light[1] == []
    assert len(light[0]) == len(PAGES) * len(WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_its_window_and_can_be_read(page, width, light):
    found = light[0][f"{page} {width}"]
    assert found["width"] == width
    assert found["wide"] <= 0  # less by the bar at the side
    assert found["outside"] == []
    assert found["texts"] > (100 if page == "run" else 5)
    assert found["smallest"] >= SMALLEST_PX


@pytest.mark.parametrize("page", PAGES)
def test_numbers_say_where_they_come_from_when_touched(page, light):
    found = light[0][f"{page} 390"]
    for said, position in (found["cell"], found["top"]):
        assert position == "fixed"
        assert re.match(r'"(\w+(\.\w+)?: )?(derived|chosen|quoted|assumed): ', said)
    if page == "run":
        assert "500 MHz" in found["top"][0]


def test_dark_is_dark(light, tmp_path):
    dark, console = seen(tmp_path, *DARK)
    assert console == []
    for name, colour in {"run": "rgb(20, 23, 27)", "sweep": "rgb(22, 22, 22)"}.items():
        assert light[0][f"{name} 1280"]["page"] == "rgb(255, 255, 255)"
        assert dark[f"{name} 1280"]["page"] == colour
        assert dark[f"{name} 1280"]["ink"] != light[0][f"{name} 1280"]["ink"]


def test_the_page_prints(tmp_path):
    (tmp_path / "page.html").write_text(render(small_document()))
    browser(tmp_path / "profile", f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri())
    data = (tmp_path / "page.pdf").read_bytes()
    assert data.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", data)) <= 12


def test_a_notebook_shows_the_page():
    shown = Report(render(small_document()))._repr_html_()
    inner = html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1])
    assert inner.startswith("<!doctype html>")
