"""Drawings as SVG text in the page's ink, or as pixels: the same drawing gives the same bytes.

    Drawing, one_axes  what draws a figure, and its size
    svg, png           a drawing as text in the page's ink, or as pixels on white
    draw_svg           the same of a function that draws
    with_ids           an SVG for a page that holds several
    on_light_and_dark  an SVG as a file of its own, legible on light and dark

All text, outlines and axes are in ``currentColor``: inside a page a figure takes the page's ink.
"""

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Stands for the ink while matplotlib draws; no figure has this colour otherwise."""

STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "mixflight", "font.size": 9, "font.family": "sans-serif",
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "figure.facecolor": "none",
    "axes.facecolor": "none", "savefig.facecolor": "none", "legend.frameon": False, "legend.fontsize": 8,
    "legend.handlelength": 1.0, "legend.handleheight": 0.8, "legend.columnspacing": 1.2, "axes.titlesize": 9,
    "axes.titlelocation": "left", "axes.unicode_minus": False,
}  # fmt: skip
WIDTH = 4.3
"""Inches: on a phone its text is still large enough to be read."""


class Drawing(NamedTuple):
    """What draws a figure, and its size in inches."""

    draw: "Callable[[Figure], None]"
    size: tuple[float, float]


def one_axes(draw: "Callable[[Axes], None]", height: float) -> Drawing:
    """A drawing of one pair of axes, ``height`` inches high."""
    return Drawing(lambda figure: draw(figure.subplots()), (WIDTH, height))


def plain(value: float, _: float) -> str:
    """A tick's number."""
    return f"{value:g}" if value < 1e4 else f"{value:,.0f}"


def nothing(value: float, _: float) -> str:
    """The label of a tick that has none."""
    return ""


def svg(drawing: Drawing) -> str:
    """The ``<svg>`` element of a drawing, in the page's ink."""
    return draw_svg(drawing.draw, drawing.size)


def png(drawing: Drawing, dots_per_inch: int = 150) -> bytes:
    """A drawing as a PNG file, dark ink on white."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context({**STYLE, "figure.facecolor": "white", "savefig.facecolor": "white"}):
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

    with matplotlib.rc_context(STYLE):
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
    text = text.replace(INK, "currentColor")
    text = re.sub(r"(font(?:-family)?: [^;\"]*?)'DejaVu Sans'[^;\"]*sans-serif", r"\1sans-serif", text)
    return re.sub(r"<svg ([^>]*?)width=\"([\d.]+)pt\" height=\"([\d.]+)pt\"", r'<svg \1width="\2pt"', text, count=1)


def with_ids(svg: str, name: str, label: str) -> str:
    """``svg`` with ids of its own, so that several fit into one page, and ``label`` for those who cannot see it."""
    svg = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label, quote=True)}" ', 1)


def on_light_and_dark(svg: str, title: str, description: str) -> str:
    """``svg`` as a file whose ink follows the reader's light or dark preference."""
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d0d7de}}</style>"
    start = svg.index(">") + 1
    described = f"<title>{html.escape(title)}</title><desc>{html.escape(description)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:start]}\n{described}{style}{svg[start:]}'
