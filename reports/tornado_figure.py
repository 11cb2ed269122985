"""A tornado: for each number that was moved alone, how far the ratio of two machines goes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mixflight.reports.draw import draw_svg, on_light_and_dark
from mixflight.reports.palette import BLUE, ORANGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEAST = 1.002
"""Swings below this factor are left out of the figure."""
_WIDE = 4.0
"""Swings above this factor make the axis logarithmic."""


class Swing(Protocol):
    """What a row must have."""

    @property
    def parameter(self) -> str:
        """What was moved."""

    @property
    def of(self) -> str:
        """Whose it is."""

    @property
    def base(self) -> float:
        """The ratio with nothing moved."""

    @property
    def ratio_low(self) -> float | None:
        """The ratio at the lowest value; None where the machine cannot run so."""

    @property
    def ratio_high(self) -> float | None:
        """The ratio at the highest; None where the machine cannot run so."""

    @property
    def swing(self) -> float:
        """Largest over smallest ratio."""


def tornado_figure(rows: Sequence[Swing], title: str, most: int = 14) -> str:
    """The largest swings as an SVG file, the largest on top; the line at 1 is where the conclusion flips."""
    shown = [row for row in sorted(rows, key=lambda row: -row.swing) if row.swing >= _LEAST][:most]

    def draw(figure: "Figure") -> None:
        ax = figure.subplots()
        for name, colour in (("ratio_low", BLUE), ("ratio_high", ORANGE)):
            ends = [getattr(row, name) for row in shown]
            widths = [0.0 if end is None else end - row.base for end, row in zip(ends, shown, strict=True)]
            bases = [row.base for row in shown]
            ax.barh(range(len(shown)), widths, left=bases, height=0.6, color=colour, linewidth=0,
                    label={"ratio_low": "at its lowest", "ratio_high": "at its highest"}[name])  # fmt: skip
        ax.axvline(1, color="#d55e00", linewidth=1.1, linestyle=(0, (4, 2)), label="the conclusion flips")
        if shown:
            ax.axvline(shown[0].base, color="#8a8a8a", linewidth=0.9)
        if shown and max(row.swing for row in shown) > _WIDE:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:g}"[0] in "25" else "")
        ax.set_yticks(range(len(shown)), [f"{row.parameter}" for row in shown])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(title)
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    parts = [
        f"{row.parameter} ({row.of}): {row.base:.3g}, {_said(row.ratio_low)} at its lowest, {_said(row.ratio_high)} at "
        "its highest"
        for row in shown
    ]
    return on_light_and_dark(draw_svg(draw, (7.6, 1.1 + 0.27 * len(shown))), title, ". ".join(parts))


def _said(ratio: float | None) -> str:
    return "cannot run" if ratio is None else f"{ratio:.3g}"
