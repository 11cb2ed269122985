"""The front of a sweep in a figure: two objectives, and one axis or group of fronts by colour and marker."""

from typing import TYPE_CHECKING, Any

from mixflight.reports.document import Sweep
from mixflight.reports.draw import INK, Drawing, nothing, one_axes, plain
from mixflight.reports.palette import SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENERGY = "energy_mj_per_token"


def shown_objectives(sweep: Sweep) -> tuple[str, str]:
    """What lies across and up: the first two objectives; beside a single one energy, or speed beside energy."""
    first, *rest = sweep.objectives
    return first, rest[0] if rest else "tokens_per_s" if first == ENERGY else ENERGY


def series_column(sweep: Sweep) -> str | None:
    """The column that colours and markers stand for: the first with few values, those of ``by`` before others."""
    for name in (*sweep.by, *sweep.axes):
        if 1 < len({row[name] for row in sweep.front}) <= len(SERIES):
            return name
    return None


def short(name: str) -> str:
    """A column's name for people."""
    return name.removeprefix("free.").replace("_", " ").replace("per s", "per second")


def front_drawing(sweep: Sweep) -> Drawing:
    """The points of the front."""
    x, y = shown_objectives(sweep)
    column = series_column(sweep)

    def draw(ax: "Axes") -> None:
        kinds: list[Any] = list(dict.fromkeys(row[column] for row in sweep.front)) if column else [None]
        for place, kind in enumerate(kinds):
            rows = [row for row in sweep.front if column is None or row[column] == kind]
            colour, marker = SERIES[place]
            ax.plot([row[x] for row in rows], [row[y] for row in rows], linestyle="none", marker=marker, color=colour,
                    markersize=5, markeredgecolor=INK, markeredgewidth=0.4,
                    label=f"{kind:g}" if isinstance(kind, float) else f"{kind}")  # fmt: skip
        for axis, name in ((ax.xaxis, x), (ax.yaxis, y)):
            axis.set_major_formatter(plain)
            axis.set_minor_formatter(nothing)
            values = [row[name] for row in sweep.front]
            if min(values) > 0 and max(values) > 30 * min(values):
                (ax.set_xscale if axis is ax.xaxis else ax.set_yscale)("log")
                axis.set_major_formatter(plain)
                axis.set_minor_formatter(nothing)
        ways = {name: f" ({way})" for name, way in sweep.objectives.items()}
        ax.set_xlabel(short(x) + ways.get(x, ""))
        ax.set_ylabel(short(y) + ways.get(y, ""))
        if column:
            ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0.2, title=short(column),
                      title_fontsize=8, alignment="left")  # fmt: skip

    return one_axes(draw, 3.2)
