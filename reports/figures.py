"""Figures of a document as SVG text: the same values give the same bytes.

    time_drawing       time per token by group of operators, a bar a machine
    energy_drawing     energy per token by group of components, a bar a machine, with its band
    roofline_drawing   work a second against work a byte: roofs and what was reached
    resources_drawing  what the emitted array takes on an FPGA, by module
    energy_picture     decode's energy with and without DRAM, for a README
    drawings           a document's drawings by name, as a report exports them
    svg, png           a drawing as text in the page's ink, or as pixels on white
    draw_svg           the same of a function that draws
    with_ids           an SVG for a page that holds several
    standalone         an SVG as a file of its own, legible on light and dark

All text and axes are in ``currentColor``: inside a page a figure takes the page's ink. The fill colours are
those of Okabe and Ito, which most colour-blind people tell apart; markers and order differ as well.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mixflight.reports.component_groups import GROUPS, GroupEnergy, group_of, grouped
from mixflight.reports.document import Component, Document, Machine, Phase, Timeline
from mixflight.reports.findings import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"
GREY = "#8a8a8a"
_INK = "#010203"
"""Stands for the ink while matplotlib draws; no figure has this colour otherwise."""

_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "mixflight", "font.size": 9, "font.family": "sans-serif",
    "text.color": _INK, "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False, "legend.fontsize": 8,
    "legend.handlelength": 1.0, "legend.handleheight": 0.8, "legend.columnspacing": 1.2, "axes.titlesize": 9,
    "axes.titlelocation": "left", "axes.unicode_minus": False,
}  # fmt: skip
_WIDTH = 4.3

OPERATOR_GROUPS: Mapping[str, str] = {
    "q": "projections", "k": "projections", "v": "projections", "o": "projections", "qk": "attention",
    "av": "attention", "gate": "feed-forward", "up": "feed-forward", "down": "feed-forward", "head": "LM head",
}  # fmt: skip
"""Operator -> group of the time figure; all others are vector operators."""
VECTORS = "vector operators"
_OPERATOR_COLOURS = {
    "projections": BLUE, "attention": SKY, "feed-forward": GREEN, "LM head": ORANGE, VECTORS: PINK,
}  # fmt: skip

_COMPONENT_COLOURS = {
    "DRAM": BLUE, "buffers": SKY, "PE": GREEN, "PE leakage": GREY, "dequantisation": ORANGE, "SFU": PINK,
    "network": VERMILION, "control": "#f0e442", "static": "#5f5f5f",
}  # fmt: skip


def time_by_group(phase: Phase) -> dict[str, float]:
    """Milliseconds a token by group of operators, in the figure's order."""
    found = dict.fromkeys(_OPERATOR_COLOURS, 0.0)
    cycles = sum(item.cycles for item in phase.operators)
    for item in phase.operators:
        found[OPERATOR_GROUPS.get(item.operator, VECTORS)] += item.cycles / cycles * phase.time_ms_per_token
    return found


def energy_by_group(components: Sequence[Component]) -> dict[str, GroupEnergy]:
    """Energy a token by group of components, with its band, in the figure's order."""
    return {
        item.group: item
        for item in grouped(
            (part.component, part.energy_mj_per_token, part.energy_mj_per_token_low, part.energy_mj_per_token_high)
            for part in components
        )
    }


def groups_shown(machines: Sequence[Machine], phase: str) -> tuple[str, ...]:
    """The groups that any of ``machines`` has, in order."""
    found = {name for machine in machines for name in energy_by_group(getattr(machine.simulation, phase).components)}
    return tuple(name for name in GROUPS if name in found)


class Drawing(NamedTuple):
    """What draws a figure, and its size in inches."""

    draw: "Callable[[Figure], None]"
    size: tuple[float, float]


def time_drawing(machines: Sequence[Machine], phase: str) -> Drawing:
    """Time per token of ``phase`` (``prefill`` or ``decode``) by group of operators."""
    rows = [time_by_group(getattr(machine.simulation, phase)) for machine in machines]
    return _drawing(lambda ax: _stack(ax, machines, rows, _OPERATOR_COLOURS, f"{phase}: ms per token"), machines)


def energy_drawing(machines: Sequence[Machine], phase: str, dram: bool = True) -> Drawing:
    """Energy per token of ``phase`` by group of components, with its band; ``dram`` = False leaves DRAM out."""
    return _drawing(lambda ax: _energy(ax, machines, phase, dram), machines)


def _energy(ax: "Axes", machines: Sequence[Machine], phase: str, dram: bool) -> None:
    rows, bands = [], []
    for machine in machines:
        components = getattr(machine.simulation, phase).components
        shown = [item for item in components if dram or group_of(item.component) != "DRAM"]
        rows.append({name: item.energy_mj_per_token for name, item in energy_by_group(shown).items()})
        bands.append((sum(item.energy_mj_per_token_low for item in shown),
                      sum(item.energy_mj_per_token_high for item in shown)))
    groups = groups_shown(machines, phase)
    colours = {name: _COMPONENT_COLOURS[name] for name in groups if dram or name != "DRAM"}
    _stack(ax, machines, rows, colours, f"{phase}: mJ per token{'' if dram else ', without DRAM'}", bands)


def _stack(ax: "Axes", machines: Sequence[Machine], rows: Sequence[Mapping[str, float]], colours: Mapping[str, str],
           label: str, bands: Sequence[tuple[float, float]] | None = None) -> None:
    places = range(len(machines))
    left = [0.0] * len(machines)
    for name, colour in colours.items():
        widths = [row.get(name, 0.0) for row in rows]
        ax.barh(places, widths, left=left, height=0.56, color=colour, label=name, linewidth=0)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    if bands is not None:
        reach = [[total - low for total, (low, _) in zip(left, bands, strict=True)],
                 [high - total for total, (_, high) in zip(left, bands, strict=True)]]
        ax.errorbar(left, [place + 0.39 for place in places], xerr=reach, fmt="none", ecolor=_INK, elinewidth=0.9,
                    capsize=2, label="band")
    ax.set_yticks(places, [machine.name for machine in machines])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(label)
    ax.set_xlim(left=0)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=-(-(len(colours) + (bands is not None)) // 2),
              borderaxespad=0.2)


def roofline_drawing(machines: Sequence[Machine]) -> Drawing:
    """MACs a second against MACs a DRAM byte: the roofs of every machine and the points of prefill and decode."""
    return _drawing(lambda ax: _roofline(ax, machines), machines, height=3.3)


def _roofline(ax: "Axes", machines: Sequence[Machine]) -> None:
    colours = dict(zip([machine.name for machine in machines], (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION) * 9,
                       strict=False))
    shapes = "osD^vP"
    reached = [
        (machine, phase, phase.macs / (phase.hbm_bytes_per_token * phase.tokens), phase.macs / phase.time_ms * 1e-6)
        for machine in machines for phase in (machine.simulation.prefill, machine.simulation.decode)
    ]  # fmt: skip
    least = min(intensity for _, _, intensity, _ in reached) / 3
    most = max(intensity for _, _, intensity, _ in reached) * 3
    roofs = {(machine.peak_gmacs, machine.dram_gb_s) for machine in machines}
    for peak, bandwidth in sorted(roofs):
        knee = peak / bandwidth
        ax.plot([least, max(knee, least), most], [min(least * bandwidth, peak), peak, peak], color=_INK,
                linewidth=0.9, zorder=1)
        names = [machine.name for machine in machines if (machine.peak_gmacs, machine.dram_gb_s) == (peak, bandwidth)]
        ax.annotate(", ".join(names), (most, peak), xytext=(0, 2), textcoords="offset points", ha="right", fontsize=7)
    edges = {machine.peak_gmacs / machine.rows * machine.simulation.batch for machine in machines}
    for edge in sorted(edges):
        ax.plot([max(edge / max(bandwidth for _, bandwidth in roofs), least), most], [edge, edge], color=_INK,
                linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    batch = machines[0].simulation.batch
    ax.annotate(f"roof{'s' if len(edges) > 1 else ''} of {batch} busy row{'s' if batch > 1 else ''}",
                (most, max(edges)), xytext=(0, 2), textcoords="offset points", ha="right", fontsize=7)
    for index, machine in enumerate(machines):
        own = [(phase, x, y) for which, phase, x, y in reached if which is machine]
        for phase, x, y in own:
            filled = phase is machine.simulation.prefill
            ax.plot([x], [y], linestyle="none", marker=shapes[index % 6], markersize=(8.5, 5, 6, 6)[index % 4],
                    markerfacecolor=colours[machine.name] if filled else "none", markeredgewidth=1.3,
                    markeredgecolor=colours[machine.name], label=machine.name if filled else None, zorder=3)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(least, most)
    ax.set_ylim(bottom=min(y for _, _, _, y in reached) / 3, top=max(peak for peak, _ in roofs) * 2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(_plain)
        axis.set_minor_formatter(_nothing)
    ax.set_xlabel("MACs per DRAM byte")
    ax.set_ylabel("10⁹ MACs per second")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2, handletextpad=0.2,
              title="filled: prefill, hollow: decode", title_fontsize=8, alignment="left")


def _plain(value: float, _: float) -> str:
    return f"{value:g}" if value < 1e4 else f"{value:,.0f}"


def _nothing(value: float, _: float) -> str:
    return ""


def resources_drawing(document: Document) -> Drawing:
    """LUTs and registers of the emitted array by module, all instances together."""
    assert document.synthesis is not None
    modules = sorted(document.synthesis.modules, key=lambda item: -item.lut * item.instances)
    top = document.synthesis.modules[0].name
    names = [
        f"{item.name.removeprefix(f'{top}_').replace('_', ' ') if item.name != top else 'the rest'} ×{item.instances}"
        for item in modules
    ]

    def draw(ax: "Axes") -> None:
        for offset, unit, colour in ((-0.18, "lut", BLUE), (0.18, "ff", ORANGE)):
            values = [getattr(item, unit) * item.instances for item in modules]
            bars = ax.barh([place + offset for place in range(len(modules))], values, height=0.34, color=colour,
                           label=unit.upper(), linewidth=0)
            ax.bar_label(bars, [f"{value:,.0f}" for value in values], padding=2, fontsize=7, color=_INK)
        ax.set_yticks(range(len(modules)), names)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.12)
        ax.xaxis.set_major_formatter(_plain)
        ax.set_xlabel("LUTs and registers in the whole array")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)

    return _drawing(draw, modules)


def energy_picture(machines: Sequence[Machine]) -> Drawing:
    """Decode's energy per token with its band, and beside it what is left without DRAM."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _energy(left, machines, "decode", dram=True)
        _energy(right, machines, "decode", dram=False)
        handles, labels = left.get_legend_handles_labels()
        for ax in (left, right):
            legend = ax.get_legend()
            if legend is not None:
                legend.remove()
        left.invert_yaxis()     # each of the two panels inverted the axis that they share
        figure.legend(handles, labels, loc="outside upper left", ncols=7)

    return Drawing(draw, (8.2, 2.5))


def timeline_drawing(timeline: Timeline) -> Drawing:
    """What each unit is busy with while one layer of a decode step runs."""

    def draw(ax: "Axes") -> None:
        for item in timeline.slices:
            if item.track != TIMELINE_TRACKS[0]:
                colour = _OPERATOR_COLOURS[OPERATOR_GROUPS.get(item.operator, VECTORS)]
                ax.barh(TIMELINE_TRACKS.index(item.track) - 1, item.duration_us, left=item.start_us, height=0.6,
                        color=colour, linewidth=0.3, edgecolor="none")
        shown = {OPERATOR_GROUPS.get(item.operator, VECTORS) for item in timeline.slices}
        for name, colour in _OPERATOR_COLOURS.items():
            if name in shown:
                ax.barh([0], [0], color=colour, label=name)
        ax.set_yticks(range(len(TIMELINE_TRACKS) - 1), TIMELINE_TRACKS[1:])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlim(left=0)
        ax.set_xlabel(f"µs of layer {timeline.layer} of a decode step at a context of {timeline.context:,}")
        ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0.2)

    return _drawing(draw, timeline.slices, height=2.3)


TIMELINE_TRACKS = ("operators", "array", "DRAM", "SFU")
"""The tracks of a timeline: all operators, then the units in the figure's order."""


def drawings(document: Document) -> dict[str, Drawing]:
    """The drawings of ``document`` by name; those of synthesis and of a timeline where it has them."""
    machines = document.machines
    found = {
        "time-prefill": time_drawing(machines, "prefill"),
        "time-decode": time_drawing(machines, "decode"),
        "energy-decode": energy_drawing(machines, "decode"),
        "energy-decode-on-chip": energy_drawing(machines, "decode", dram=False),
        "energy-prefill": energy_drawing(machines, "prefill"),
        "roofline": roofline_drawing(machines),
        "energy": energy_picture(machines),
    }
    if document.synthesis is not None:
        found["resources"] = resources_drawing(document)
    if document.timeline is not None:
        found["timeline"] = timeline_drawing(document.timeline)
    return found


def _drawing(draw: "Callable[[Axes], None]", rows: Sequence[object], height: float | None = None) -> Drawing:
    return Drawing(lambda figure: draw(figure.subplots()), (_WIDTH, height or 1.15 + 0.34 * len(rows)))


def svg(drawing: Drawing) -> str:
    """The ``<svg>`` element of a drawing, in the page's ink."""
    return draw_svg(drawing.draw, drawing.size)


def png(drawing: Drawing, dots_per_inch: int = 150) -> bytes:
    """A drawing as a PNG file, dark ink on white."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
        figure = Figure(figsize=drawing.size, layout="constrained")
        FigureCanvasAgg(figure)
        drawing.draw(figure)
        figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def draw_svg(draw: "Callable[[Figure], None]", size: tuple[float, float]) -> str:
    """The ``<svg>`` element of what ``draw`` puts on a figure of ``size`` inches, in the page's ink."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _inline(buffer.getvalue())


def _inline(text: str) -> str:
    """The ``<svg>`` element alone, in the page's ink and type."""
    text = text[text.index("<svg"):]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor")
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*sans-serif", r"\1sans-serif", text)
    return re.sub(r"<svg ([^>]*?)width=\"([\d.]+)pt\" height=\"([\d.]+)pt\"", r'<svg \1width="\2pt"', text, count=1)


def with_ids(svg: str, name: str, label: str) -> str:
    """``svg`` with ids of its own, so that several fit into one page, and ``label`` for those who cannot see it."""
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)


def describe(document: Document) -> str:
    """What the figures show of decode, in words and numbers."""
    parts = []
    for machine in document.machines:
        decode = machine.simulation.decode
        parts.append(
            f"{machine.name}: {number(decode.tokens_per_s)} tokens/s, "
            f"{number(decode.energy_mj_per_token)} mJ per token "
            f"({number(decode.energy_mj_per_token_low)} to {number(decode.energy_mj_per_token_high)})"
        )
    return f"{document.scenario.model}, decode: {'; '.join(parts)}"


def standalone(svg: str, name: str, document: Document) -> str:
    """``svg`` as a file, with what it shows in words."""
    return on_light_and_dark(svg, f"{name}: {document.scenario.model}", describe(document))


def on_light_and_dark(svg: str, title: str, description: str) -> str:
    """``svg`` as a file whose ink follows the reader's light or dark preference."""
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d0d7de}}</style>"
    start = svg.index(">") + 1
    described = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:start]}\n{described}{style}{svg[start:]}'
