"""One self-contained page of a document: no network, no script, light and dark, printable; its figures as files too."""

import base64
import re
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from mixflight.reports import figures, provenance
from mixflight.reports.document import Document, Machine, Phase
from mixflight.reports.figure_tables import tables
from mixflight.reports.findings import WHY, findings, headline, number, share

_CAPTIONS = {
    "time-prefill": "Prefill: time per token by group of operators.",
    "time-decode": "Decode: time per token by group of operators.",
    "energy-decode": "Decode: energy per token by component. The band is the sum of the prices' lowest and highest "
                     "published values, all at once.",
    "energy-decode-on-chip": "The same without DRAM, where the machines differ.",
    "energy-prefill": "Prefill: energy per token by component, with its band.",
    "roofline": "Work reached against work possible. The slope is DRAM bandwidth, a solid roof every PE busy, a dashed "
                "one only the rows that have a token.",
    "resources": "LUTs and registers by module, all instances together.",
    "timeline": "What the units are busy with during one layer of a decode step.",
}  # fmt: skip

_FIRST = ("time-prefill", "time-decode", "energy-decode", "energy-decode-on-chip", "energy-prefill", "roofline")
"""The figures of time and energy, in the page's order."""

_BULLET = re.compile(r"^\s*(?:[0-9]+[.]|[-*])\s+")


class Shown(NamedTuple):
    """A figure of the page, and links to what it shows as files."""

    svg: Markup
    caption: str
    links: Markup


def render(document: Document) -> str:
    """The page as HTML text; the same document gives the same text."""
    shown = _figures(document)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mixflight.reports", "."), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"number": number, "share": share, "given": _given, "parameter": _parameter}
    return environment.get_template("page.html").render(
        d=document, headline=headline(document), findings=findings(document), shown=shown,
        figures=[shown[name] for name in _FIRST], tiles=_tiles(document), limits=_limits(document.machines),
        parameters=_parameters(document.machines), deviations=markdown(document.deviations),
        energy_by_group=figures.energy_by_group, groups_shown=figures.groups_shown, source=provenance,
    )  # fmt: skip


def _figures(document: Document) -> dict[str, Shown]:
    drawings, rows = figures.drawings(document), tables(document)
    found = {}
    for name, caption in _CAPTIONS.items():
        if name in drawings:
            svg = figures.svg(drawings[name])
            files = {
                "csv": ("text/csv", rows[name].encode()),
                "svg": ("image/svg+xml", figures.standalone(svg, name, document).encode()),
                "png": ("image/png", figures.png(drawings[name])),
            }
            links = Markup(" ").join(_link(f"{name}.{kind}", media, data) for kind, (media, data) in files.items())
            found[name] = Shown(Markup(figures.with_ids(svg, name, caption)), caption, links)
    return found


def _link(name: str, media: str, data: bytes) -> Markup:
    """A link to a file that the page itself carries."""
    address = f"data:{media};base64,{base64.b64encode(data).decode()}"
    return Markup('<a download="{}" href="{}">{}</a>').format(name, address, name.rpartition(".")[2].upper())


def _tiles(document: Document) -> list[tuple[str, str]]:
    """The few numbers at the top: value and what it is."""
    first = document.machines[0]
    decode = first.simulation.decode
    band = f"{number(decode.energy_mj_per_token_low)} to {number(decode.energy_mj_per_token_high)}"
    tiles = [
        (f"{number(decode.tokens_per_s)} tokens/s", f"decode on {first.name}"),
        (f"{number(decode.energy_mj_per_token)} mJ/token", f"decode on {first.name}; band {band}"),
        (share(first.utilisation(decode)), f"of {first.name}'s PE time is useful work in decode"),
    ]
    checked = document.verification
    if checked is not None:
        right = checked.tests - checked.failures
        tiles.append((f"{right} of {checked.tests}", "tile runs of the emitted Verilog exact in values and cycles"))
    return tiles


def _limits(machines: tuple[Machine, ...]) -> list[tuple[str, str]]:
    """The limits that occur, and what each means."""
    phases: list[Phase] = [getattr(item.simulation, name) for item in machines for name in ("prefill", "decode")]
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
