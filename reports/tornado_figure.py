"""A tornado: for each number that was moved alone, how far the ratio of two machines goes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from mixflight.reports.figures import BLUE, ORANGE, draw_svg, on_light_and_dark

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
    def ratio_low(self) -> float:
        """The ratio at the lowest value."""

    @property
    def ratio_high(self) -> float:
        """The ratio at the highest."""

    @property
    def swing(self) -> float:
        """Largest over smallest ratio."""


def tornado_figure(rows: Sequence[Swing], title: str, most: int = 14) -> str:
    """The largest swings as an SVG file, the largest on top; the line at 1 is where the conclusion flips."""
    shown = [row for row in sorted(rows, key=lambda row: -row.swing) if row.swing >= _LEAST][:most]

    def draw(figure: "Figure") -> None:
        ax = figure.subplots()
        for name, colour in (("ratio_low", BLUE), ("ratio_high", ORANGE)):
            widths = [getattr(row, name) - row.base for row in shown]
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
        f"{row.parameter} ({row.of}): {row.base:.3g}, {row.ratio_low:.3g} at its lowest, {row.ratio_high:.3g} at its "
        "highest"
        for row in shown
    ]
    return on_light_and_dark(draw_svg(draw, (7.6, 1.1 + 0.27 * len(shown))), title, ". ".join(parts))
