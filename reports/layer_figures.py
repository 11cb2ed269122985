"""A decode step layer by layer: time with what each unit is busy with, and energy by component.

What is outside the layers (embedding, last norm, LM head) has a scale of its own at the right: it takes as much as many
layers together.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mixflight.reports.component_groups import GROUPS
from mixflight.reports.document import Layer, Layers
from mixflight.reports.draw import INK, WIDTH, Drawing
from mixflight.reports.figures import energy_by_group
from mixflight.reports.palette import COMPONENTS, UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_THIN: dict[str, Any] = {"linewidth": 0.25, "edgecolor": INK}
TICKS = 8
"""Most layers that are named below the axis."""


def name_of(layer: Layer) -> str:
    """Its number, or that it is none."""
    return "rest" if layer.layer < 0 else f"{layer.layer}"


def layers_time_drawing(layers: Layers) -> Drawing:
    """Time of each layer as a bar, and for how much of it each unit is busy as points."""

    def bars(ax: "Axes", part: Sequence[Layer]) -> None:
        places = range(len(part))
        ax.bar(places, [item.time_us for item in part], width=0.8, color="none", label="time", linewidth=0.6,
               edgecolor=INK)
        for unit, (colour, marker) in UNITS.items():
            ax.plot(places, [item.busy_us[unit] for item in part], linestyle="none", marker=marker, markersize=4,
                    color=colour, markeredgecolor=INK, markeredgewidth=0.4, label=f"{unit} busy")

    return _two_parts(layers, bars, "µs")


def layers_energy_drawing(layers: Layers) -> Drawing:
    """Energy of each layer by group of components, with its band."""
    shown = {name for item in layers.layers for name in energy_by_group(item.components)}

    def bars(ax: "Axes", part: Sequence[Layer]) -> None:
        groups = [energy_by_group(item.components) for item in part]
        base = [0.0] * len(groups)
        for name in (name for name in GROUPS if name in shown):
            heights = [item[name].energy_mj_per_token * 1e3 if name in item else 0.0 for item in groups]
            ax.bar(range(len(part)), heights, bottom=base, width=0.8, color=COMPONENTS[name], label=name, **_THIN)
            base = [start + height for start, height in zip(base, heights, strict=True)]
        low = [sum(one.energy_mj_per_token_low for one in item.values()) * 1e3 for item in groups]
        high = [sum(one.energy_mj_per_token_high for one in item.values()) * 1e3 for item in groups]
        reach = [[value - least for value, least in zip(base, low, strict=True)],
                 [most - value for value, most in zip(base, high, strict=True)]]
        ax.errorbar(range(len(part)), base, yerr=reach, fmt="none", ecolor=INK, elinewidth=0.6, capsize=1.2,
                    label="band")

    return _two_parts(layers, bars, "µJ per token")


def _two_parts(layers: Layers, bars: "Callable[[Axes, Sequence[Layer]], None]", unit: str) -> Drawing:
    """The layers, and at the right what is outside them."""
    inside = [item for item in layers.layers if item.layer >= 0]
    rest = [item for item in layers.layers if item.layer < 0]

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2, width_ratios=(7, 1))
        for ax, part in ((left, inside), (right, rest)):
            bars(ax, part)
            ax.set_ylim(bottom=0)
            ax.tick_params(axis="y", labelsize=8)
        step = -(-len(inside) // TICKS)
        left.set_xticks(range(0, len(inside), step), [name_of(inside[at]) for at in range(0, len(inside), step)])
        left.set_xlabel(f"layer (decode step, context {layers.context:,})")
        left.set_ylabel(unit)
        right.set_xticks([0], ["rest"])
        right.set_xlim(-1, 1)
        handles, names = left.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)

    return Drawing(draw, (WIDTH, 2.8))
