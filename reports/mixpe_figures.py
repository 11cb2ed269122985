"""The figures of ``mixflight reproduce mixpe --mode corrected``: where MixPE wins, and the design space.

advantage_figure     speed and efficiency over INT8 by phase, and the dequantisation crossover
design_space_figure  area x energy of a MAC against error and perplexity
FIGURES              name -> figure, each an SVG of its own that follows light and dark
"""

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mixflight.reports.draw import draw_svg
from mixflight.reports.palette import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION
from mixflight.sim.mixpe_corrected.crossover import TILES, closed_form, counted
from mixflight.sim.mixpe_corrected.design_space import Design, designs, front, noise, perplexity
from mixflight.sim.mixpe_corrected.machines import GROUP
from mixflight.sim.mixpe_corrected.prices import DRAM_PJ_PER_BIT
from mixflight.sim.mixpe_corrected.reproduce import efficiency
from mixflight.sim.mixpe_corrected.run import MODELS, PHASES, outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MODEL = MODELS[-1]
MACHINES = {
    "mixpe-w4a8": (BLUE, "o"), "mixpe-w4a8-centred": (SKY, "s"), "mul4x8": (ORANGE, "D"),
    "int8-dequantise": (GREY, "v"), "mixpe-w4a16": (GREEN, "^"), "fp16": (VERMILION, "P"),
}  # fmt: skip
_PES = {
    "mixpe-w4a8-pe": ("shift-add 4x8", BLUE, "o"), "mixpe-w4a8-centred-pe": ("centred 4x8", SKY, "s"),
    "mul4x8-pe": ("multiplier 4x8", ORANGE, "D"), "mixpe-w4a8-dot-pe": ("shift-add 4x8, four a step", PINK, "*"),
    "int8-pe": ("INT8", GREY, "v"), "int8-dot-pe": ("INT8, four a step", GREY, "X"),
    "mixpe-w4a16-aligned-pe": ("shift-add 4xFP16", GREEN, "^"), "mixpe-w4a16-pe": ("the same, FP32 sum", GREEN, "<"),
    "mixpe-w4a16-dot-pe": ("shift-add 4xFP16, four a step", GREEN, "*"), "fp16-pe": ("FP16", VERMILION, "P"),
}  # fmt: skip
_DRAM = DRAM_PJ_PER_BIT[1]


def _short(phase: str) -> str:
    return phase.removeprefix("decode-b")


def _over_int8(ax: "Axes", values: Mapping[str, list[float]], label: str) -> None:
    for name, heights in values.items():
        colour, marker = MACHINES[name]
        ax.plot(
            range(1, len(heights)), heights[1:], color=colour, marker=marker, markersize=4.5, linewidth=1.3, label=name
        )
        ax.plot([-0.2], heights[:1], color=colour, marker=marker, markersize=4.5, linestyle="none")
    ax.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    ax.annotate("INT8", (len(PHASES) - 1, 1), xytext=(0, -9), textcoords="offset points", fontsize=7, ha="right")
    ax.axvline(0.4, color=GREY, linewidth=0.6, linestyle=(0, (2, 3)), zorder=0)
    ax.set_xticks([-0.2, *range(1, len(PHASES))], ["prefill", *map(_short, PHASES[1:])])
    ax.set_xlabel("decode: sequences in a batch")
    ax.set_ylim(bottom=0)
    ax.set_title(label)


def _crossover(ax: "Axes") -> None:
    ax.plot(TILES, [closed_form(tile).ratio for tile in TILES], color=BLUE, linewidth=1.3, label="closed form, G / Mt")
    ax.plot(
        TILES,
        [counted(tile).ratio for tile in TILES],
        color=ORANGE,
        marker="o",
        linestyle="none",
        markersize=5,
        markerfacecolor="none",
        markeredgewidth=1.3,
        label="counted by the engine",
    )
    ax.axhline(1, color=GREY, linewidth=0.8, zorder=0)
    ax.axvline(GROUP, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xticks(TILES[::2], [f"{tile}" for tile in TILES[::2]])
    ax.set_yticks([0.25, 1, 4, 16, 64], ["1/4", "1", "4", "16", "64"])
    ax.minorticks_off()
    ax.set_xlabel(f"Mt: tokens a weight tile (G = {GROUP})")
    ax.set_title("dequantising: before / after, multiplies")
    ax.legend(loc="lower left", fontsize=7)


def advantage_figure() -> str:
    """Speed and efficiency over the INT8 machine of equal area, and the crossover."""
    speed = {
        name: [outcome("int8", MODEL, phase).ms / outcome(name, MODEL, phase).ms for phase in PHASES]
        for name in MACHINES
    }
    saved = {name: [efficiency(name, MODEL, phase, _DRAM) for phase in PHASES] for name in MACHINES}

    def draw(figure: "Figure") -> None:
        left, middle, right = figure.subplots(1, 3)
        _over_int8(left, speed, "speed over INT8, equal area")
        _over_int8(middle, saved, f"tokens a joule over INT8, DRAM {_DRAM} pJ/bit")
        _crossover(right)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=6)

    return draw_svg(draw, (9.6, 3.2))


def _points(ax: "Axes", measure: Callable[[Design], float | None]) -> None:
    for pe, (label, colour, marker) in _PES.items():
        own = [design for design in designs() if design.pe == pe]
        shown = [(design.gain, value) for design in own if (value := measure(design)) is not None]
        ax.plot(
            [x for x, _ in shown],
            [y for _, y in shown],
            linestyle="none",
            marker=marker,
            color=colour,
            markersize=7 if marker == "*" else 4.5,
            markerfacecolor="none",
            markeredgewidth=1.2,
            label=label,
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    ax.minorticks_off()
    ax.set_xlabel("area x energy of FP16's MAC over this one's")


def _front(ax: "Axes", rated: Callable[[Design], float | None], shown: Callable[[Design], float | None]) -> None:
    best = front(designs(), rated)
    points = [(design.gain, value) for design in best if (value := shown(design)) is not None]
    ax.plot([x for x, _ in points], [y for _, y in points], color=GREY, linewidth=0.9, zorder=0, drawstyle="steps-pre")
    for design, (x, y) in zip(best, points, strict=True):
        ax.annotate(
            design.quality.name.split("/")[0],
            (x, y),
            xytext=(-4, 5),
            textcoords="offset points",
            fontsize=7,
            ha="right",
        )


def design_space_figure() -> str:
    """Error of an 8-bit tensor and perplexity of the model, each against area x energy."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        _points(left, lambda design: design.quality.snr_head_db)
        _front(left, noise, lambda design: design.quality.snr_head_db)
        left.set_title("signal over quantisation noise, LM head, dB")
        _points(right, perplexity)
        _front(right, perplexity, perplexity)
        right.set_title("perplexity (line: not beaten in both)")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper left", ncols=5)

    return draw_svg(draw, (9.6, 3.9))


_STYLE = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d0d7de}}</style>"
_TITLES = {
    "mixpe-advantage": f"{MODEL}, equal area, the same 4-bit model: speed and efficiency over INT8, and the crossover "
    "of dequantising before and after at Mt = G",
    "mixpe-design-space": "SmolLM2-135M: area times energy of a MAC against measured error and perplexity",
}
FIGURES: Mapping[str, Callable[[], str]] = {
    "mixpe-advantage": advantage_figure, "mixpe-design-space": design_space_figure,
}  # fmt: skip


def described(name: str) -> str:
    """The figure ``name`` as a file."""
    svg = FIGURES[name]()
    start = svg.index(">") + 1
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:start]}\n<title>{html.escape(_TITLES[name])}</title>'
        f"{_STYLE}{svg[start:]}"
    )
