"""One self-contained page of a document: no network, no script, light and dark, printable; its figures as files too."""

import base64
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from mixflight.reports import draw, figures, provenance
from mixflight.reports.document import Document, Gpu, Machine, Phase
from mixflight.reports.figure_list import ListedFigure, listed_figures
from mixflight.reports.findings import WHY, findings, headline, number, share, shown
from mixflight.reports.front_figure import short
from mixflight.reports.gpu_figures import ratios

_FIRST = ("time-prefill", "time-decode", "energy-decode", "energy-decode-on-chip", "energy-prefill", "roofline")
"""The figures of time and energy, in the page's order."""

_ELSEWHERE = ("energy",)
"""Figures that are files alone: this one is two others side by side."""
_MEDIA = {"csv": "text/csv", "svg": "image/svg+xml", "png": "image/png"}
MOST_ROWS = 40
"""Rows of a front's table; its CSV file has all."""

_BULLET = re.compile(r"^\s*(?:[0-9]+[.]|[-*])\s+")


class Shown(NamedTuple):
    """A figure of the page, where its numbers come from, and links to what it shows as files."""

    svg: Markup
    caption: str
    source: str
    links: Markup


class Tile(NamedTuple):
    """A number at the top: what it is and where it comes from."""

    value: str
    what: str
    source: str


def render(document: Document) -> str:
    """The page as HTML text; the same document gives the same text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixflight.reports", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "number": number, "share": share, "given": _given, "parameter": _parameter, "cell": shown, "short": short,
    }  # fmt: skip
    found = _figures(document)
    return environment.get_template("page.html").render(
        d=document, headline=headline(document), findings=findings(document), shown=found,
        figures=[found[name] for name in _FIRST], tiles=_tiles(document), limits=_limits(document.machines),
        gpu_limits=_limits(document.gpus.gpus) if document.gpus else [],
        parameters=_parameters(document.machines), deviations=markdown(document.deviations),
        energy_by_group=figures.energy_by_group, groups_shown=figures.groups_shown, source=provenance,
        ratios=ratios(document), most=MOST_ROWS,
        mixed=len({item.simulation.recipe for item in document.machines}) > 1,
    )  # fmt: skip


def _figures(document: Document) -> dict[str, Shown]:
    found, words = {}, figures.describe(document)
    for name, figure in listed_figures(document).items():
        if name not in _ELSEWHERE:
            svg, files = drawn(figure, f"{name}: {document.scenario.model}", words)
            links = Markup(" ").join(_link(f"{name}.{kind}", kind, data) for kind, data in files.items())
            found[name] = Shown(Markup(draw.with_ids(svg, name, figure.caption)), figure.caption, figure.source, links)
    return found


def drawn(figure: ListedFigure, title: str, words: str) -> tuple[str, dict[str, bytes]]:
    """The figure as an element of a page, and as files by their kind; ``words`` say what it shows."""
    svg = draw.svg(figure.drawing)
    return svg, {
        "csv": figure.csv.encode(), "svg": draw.on_light_and_dark(svg, title, words).encode(),
        "png": draw.png(figure.drawing),
    }


def _link(name: str, kind: str, data: bytes) -> Markup:
    """A link to a file that the page itself carries."""
    address = f"data:{_MEDIA[kind]};base64,{base64.b64encode(data).decode()}"
    return Markup('<a download="{}" href="{}">{}</a>').format(name, address, kind.upper())


def _tiles(document: Document) -> list[Tile]:
    """The few numbers at the top."""
    first = document.machines[0]
    decode = first.simulation.decode
    band = f"{number(decode.energy_mj_per_token_low)} to {number(decode.energy_mj_per_token_high)}"
    tiles = [
        Tile(f"{number(decode.tokens_per_s)} tokens/s", f"decode on {first.name}", provenance.time(first)),
        Tile(f"{number(decode.energy_mj_per_token)} mJ/token", f"decode on {first.name}; band {band}",
             provenance.energy(document)),
        Tile(share(first.utilisation(decode)), f"of {first.name}'s PE time is useful work in decode",
             f"{provenance.ENGINE}; useful MACs over those of all PEs in that time"),
    ]
    checked = document.verification
    if checked is not None:
        right = checked.tests - checked.failures
        tiles.append(Tile(f"{right} of {checked.tests}", "tile runs of the emitted Verilog exact in values and cycles",
                          provenance.RTL))
    for item in ratios(document):
        if item.machine == first.name:
            reach = f"{number(item.energy_low, 2)} to {number(item.energy_high, 2)}"
            what = f"the tokens a joule of {item.gpu}; band {reach}; {number(item.speed, 2)} times its speed"
            tiles.append(Tile(f"{number(item.energy, 2)} times", what, provenance.ratio(document)))
    swept = document.sweep
    if swept is not None:
        tiles.append(Tile(f"{len(swept.front):,} of {swept.evaluated:,}", "designs of the sweep are on its front",
                          provenance.front(swept)))
    return tiles


def _limits(every: Sequence[Machine | Gpu]) -> list[tuple[str, str]]:
    """The limits that occur, and what each means."""
    phases: list[Phase] = [getattr(item.simulation, name) for item in every for name in ("prefill", "decode")]
    return [(name, meaning) for name, meaning in WHY.items() if name in {phase.bound_by for phase in phases}]


def _parameters(machines: tuple[Machine, ...]) -> list[tuple[str, str, str, str, str]]:
    """(parameter, machines, value, basis, source): one row for machines that agree."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for machine in machines:
        for item in machine.parameters:
            rows.setdefault((item.name, item.value, item.basis, item.source), []).append(machine.name)
    order = {name: place for place, (name, *_) in enumerate(rows)}
    return [
        (name, "all" if len(names) == len(machines) and len(names) > 1 else ", ".join(names), value, basis, source)
        for (name, value, basis, source), names in sorted(rows.items(), key=lambda row: order[row[0][0]])
    ]  # fmt: skip


def _given(value: float) -> str:
    """A given number as it was given, without trailing zeros."""
    return f"{value:.12g}"


def _parameter(value: Any) -> str:
    return {True: "yes", False: "no", None: "none"}[value] if isinstance(value, bool | None) else str(value)


def markdown(text: str) -> Markup:
    """The little Markdown that the list of approximations uses, as HTML: headings, paragraphs, lists, tables, code.

    Everything is escaped first; a link keeps its text only, as the page stands alone.
    """
    blocks = [block for block in re.split(r"\n\s*\n", text.strip()) if block.strip()]
    return Markup("\n").join(_block(block) for block in blocks)


def _block(block: str) -> Markup:
    lines = block.strip("\n").splitlines()
    if heading := re.match(r"(#+)\s+(.*)", lines[0]):
        rest = _block("\n".join(lines[1:])) if lines[1:] else Markup("")
        level = min(len(heading[1]) + 2, 6)
        return Markup(f"<h{level}>{_inline(heading[2])}</h{level}>") + rest
    if all(line.lstrip().startswith("|") for line in lines):
        return _table(lines)
    if re.match(r"\s*(\d+\.|[-*])\s", lines[0]):
        ordered = re.match(r"\s*(\d+)\.\s", lines[0])
        items = re.split(r"\n(?=(?:\d+\.|[-*])\s)", "\n".join(lines))
        inner = Markup("").join(
            Markup("<li>{}</li>").format(_inline(_BULLET.sub("", item))) for item in items)
        return Markup(f'<ol start="{ordered[1]}">{inner}</ol>' if ordered else f"<ul>{inner}</ul>")
    return Markup(f"<p>{_inline(' '.join(lines))}</p>")


def _table(lines: list[str]) -> Markup:
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] for line in lines]
    body = [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    rows = [
        Markup("<tr>" + "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in row) + "</tr>")
        for row, tag in zip(body, ("th", *["td"] * len(body)), strict=False)
    ]
    return Markup('<div class="wide"><table class="text">' + "".join(rows) + "</table></div>")


def _inline(text: str) -> Markup:
    escaped = str(Markup.escape(" ".join(text.split())))
    escaped = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", escaped)
    escaped = re.sub(r"`([^`]*)`", r"<code>\1</code>", escaped)
    escaped = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)
    return Markup(re.sub(r"(?<![\w*])\*(?=\S)([^*]+)(?<=\S)\*(?!\w)", r"<em>\1</em>", escaped))
