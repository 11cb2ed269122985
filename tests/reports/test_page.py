"""The page stands alone and shows the document's numbers."""

import base64
import csv
import html.parser
import re
from xml.etree import ElementTree

import msgspec
import pytest
from small_results import small_document

from mixflight.reports.page import markdown, render

FIGURES = 13


class Reader(html.parser.HTMLParser):
    """Collects tags with their attributes, the text, and checks that tags close."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def page():
    return render(small_document())


def test_the_page_needs_nothing_else(page):
    reader = Reader(page)
    assert reader.open == []
    for tag, attributes in reader.tags:
        assert tag not in ("script", "iframe", "img", "object", "embed")
        for name, value in attributes.items():
            assert not name.startswith("on"), f"{name} on {tag}"
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:")) or value == "https://ui.perfetto.dev"
    assert not re.search(r"@import|url\((?!#)", page)


def test_anchors_have_targets_and_ids_are_unique(page):
    tags = Reader(page).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("href", "xlink:href"):
            if attributes.get(name, "").startswith("#"):
                assert attributes[name][1:] in ids


def test_the_page_shows_the_documents_numbers(page):
    text = Reader(page).text
    for shown in (
        "tiny <model> on 2 machines", "verified <somehow>", "125 tokens/s", "4.50 mJ/token", "98.8", "1.5 %", "21 %",
        "627", "7,317 LUTs, 4,129 registers, 10 DSPs", "2 modules, 2 ports, 4,129 register bits and 2,560 memory bits",
        "7,654,321", "act__payload", "0.203 pJ", "0.12 to 0.32", "BitFusion's synthesis table", "two_pass no",
    ):
        assert shown in text, shown
    assert page.count("<svg") == FIGURES


def test_the_same_document_gives_the_same_page(page):
    assert render(small_document()) == page


def test_a_page_without_hardware_and_with_a_note():
    scenario = msgspec.structs.replace(small_document().scenario, note="the real model could not be had")
    document = small_document(verilog=None, synthesis=None, verification=None, scenario=scenario)
    text = Reader(render(document)).text
    assert "The array in hardware" not in text
    assert "the real model could not be had" in text


def test_a_failed_run_shows():
    document = small_document()
    runs = tuple(msgspec.structs.replace(run, wrong=True) for run in document.verification.runs)
    checked = msgspec.structs.replace(
        document.verification, runs=runs, failures=2, messages=("blk.0: 3 of 64 values differ",))
    text = Reader(render(small_document(verification=checked))).text
    assert "0 of 2 runs exact" in text
    assert "3 of 64 values differ" in text


@pytest.mark.parametrize(("text", "shown"), [
    ("# Title\n\ntext", "<h3>Title</h3>\n<p>text</p>"),
    ("1. one\n   more\n2. two", '<ol start="1"><li>one more</li><li>two</li></ol>'),
    ("3. third", '<ol start="3"><li>third</li></ol>'),
    ("| a | b |\n|---|--:|\n| 1 | `x` |",
     ('<div class="wide"><table class="text"><tr><th>a</th><th>b</th></tr>'
      "<tr><td>1</td><td><code>x</code></td></tr></table></div>")),
    ("**bold** and *soft*, 2 * 3 * 4", "<p><strong>bold</strong> and <em>soft</em>, 2 * 3 * 4</p>"),
    ("[text](http://x) <b>", "<p>text &lt;b&gt;</p>"),
    ("", ""),
])
def test_markdown(text, shown):
    assert markdown(text) == shown


def test_numbers_say_where_they_come_from(page):
    said = [attributes["data-from"] for _, attributes in Reader(page).tags if "data-from" in attributes]
    assert len(said) > 60
    assert all(text.split(":")[0].split()[0] in ("derived", "quoted", "assumed", "measured", "read", "chosen") for text in said)
    assert any("BitFusion" in text for text in said)  # a price, from a cell of energy
    assert any("500 MHz" in text for text in said)
    assert not [text for text in said if "not stated" in text]


class Numbers(html.parser.HTMLParser):
    """Numbers in tiles, cells, paragraphs and captions that say nothing of where they come from, themselves or around
    them; cells of tables with a column of sources, links, code and names are passed over."""

    PLACES = ("td", "li", "p", "b", "figcaption", "small", "span")

    def __init__(self, text):
        super().__init__()
        self.path, self.bare, self.known = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in Reader.VOID:
            self.path.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self.path.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tags = [tag for tag, _ in self.path]
        if not re.search(r"(?<![\w.-])\d", data) or not set(tags) & set(self.PLACES):
            return
        said = [attributes for tag, attributes in self.path if "data-from" in attributes]
        around = " ".join(attributes.get("class", "") for _, attributes in self.path)
        if said:
            self.known += 1
        elif "stack" not in around and not set(tags) & {"style", "a", "code", "dl", "summary", "footer"}:
            self.bare.append(data)


def test_no_number_is_without_a_source(page):
    found = Numbers(page.partition('<section id="approximate">')[0])
    assert found.known > 150
    assert found.bare == []


def test_every_figure_can_be_taken_along(page):
    links = {attributes["download"]: attributes["href"] for _, attributes in Reader(page).tags if "download" in attributes}
    assert len(links) == 3 * FIGURES
    for name, address in links.items():
        data = base64.b64decode(address.partition(",")[2])
        if name.endswith(".png"):
            assert data.startswith(b"\x89PNG")
        elif name.endswith(".svg"):
            assert ElementTree.fromstring(data).tag.endswith("svg")
        else:
            rows = list(csv.DictReader(data.decode().splitlines()))
            assert rows
            assert not any(None in row.values() for row in rows)
    table = list(csv.DictReader(base64.b64decode(links["energy-decode.csv"].partition(",")[2]).decode().splitlines()))
    assert sum(float(row["mj_per_token"]) for row in table if row["machine"] == "mixpe-w4a8") == pytest.approx(4.5)
    assert not [row for row in csv.DictReader(base64.b64decode(links["energy-decode-on-chip.csv"].partition(",")[2]).decode().splitlines())
                if row["component"] == "DRAM"]  # fmt: skip
