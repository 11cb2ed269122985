"""Machines and GPUs side by side in decode: speed, and energy with its band.

    Side, sides      what is shown of a machine or a GPU, and all of them
    Ratio, ratios    how many times as good as a GPU a machine is
"""

from typing import TYPE_CHECKING, NamedTuple

from mixflight.reports.document import Document, Phase
from mixflight.reports.draw import INK, Drawing, nothing, one_axes, plain
from mixflight.reports.findings import number
from mixflight.reports.palette import BLUE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Side(NamedTuple):
    """A machine or a GPU."""

    name: str
    gpu: bool
    decode: Phase


class Ratio(NamedTuple):
    """``machine`` over ``gpu``: tokens a second, and tokens a joule; the band has one side at its best and the other
    at its worst. Above 1 the machine is better."""

    machine: str
    gpu: str
    speed: float
    energy: float
    energy_low: float
    energy_high: float


def sides(document: Document) -> list[Side]:
    """Machines, then GPUs."""
    gpus = document.gpus.gpus if document.gpus else ()
    return [
        *(Side(item.name, False, item.simulation.decode) for item in document.machines),
        *(Side(item.label, True, item.simulation.decode) for item in gpus),
    ]


def ratios(document: Document) -> list[Ratio]:
    """Every machine over every GPU."""
    every = sides(document)
    return [
        Ratio(
            machine=ours.name, gpu=theirs.name, speed=ours.decode.tokens_per_s / theirs.decode.tokens_per_s,
            energy=theirs.decode.energy_mj_per_token / ours.decode.energy_mj_per_token,
            energy_low=theirs.decode.energy_mj_per_token_low / ours.decode.energy_mj_per_token_high,
            energy_high=theirs.decode.energy_mj_per_token_high / ours.decode.energy_mj_per_token_low,
        )
        for ours in every if not ours.gpu for theirs in every if theirs.gpu
    ]  # fmt: skip


def gpu_speed_drawing(document: Document) -> Drawing:
    """Decoded tokens a second."""
    every = sides(document)
    values = [(item.decode.tokens_per_s,) * 3 for item in every]
    return _rows(every, values, "decode: tokens per second (logarithmic)", band=False)


def gpu_energy_drawing(document: Document) -> Drawing:
    """Energy a decoded token with its band."""
    every = sides(document)
    values = [
        (item.decode.energy_mj_per_token, item.decode.energy_mj_per_token_low, item.decode.energy_mj_per_token_high)
        for item in every
    ]  # fmt: skip
    return _rows(every, values, "decode: mJ per token (logarithmic)", band=True)


def _rows(every: list[Side], values: list[tuple[float, float, float]], label: str, band: bool) -> Drawing:
    def draw(ax: "Axes") -> None:
        for place, (item, (value, low, high)) in enumerate(zip(every, values, strict=True)):
            if band:
                ax.errorbar([value], [place], xerr=[[value - low], [high - value]], fmt="none", ecolor=INK,
                            elinewidth=1.0, capsize=2.5, label="_")
            ax.plot([value], [place], linestyle="none", marker="s" if item.gpu else "o", markersize=6.5,
                    markerfacecolor=VERMILION if item.gpu else BLUE, markeredgecolor=INK, markeredgewidth=0.5, zorder=3)
            ax.annotate(number(value), (high, place), xytext=(5, 0), textcoords="offset points", va="center",
                        fontsize=8)
        for name, colour, marker in (("machine", BLUE, "o"), ("GPU", VERMILION, "s")):
            ax.plot([], [], linestyle="none", marker=marker, color=colour, markeredgecolor=INK, markeredgewidth=0.5,
                    label=name)
        if band:
            ax.plot([], [], color=INK, linewidth=1.0, label="band")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(plain)
        ax.xaxis.set_minor_formatter(nothing)
        ax.margins(x=0.16, y=0.12)
        ax.set_yticks(range(len(every)), [item.name for item in every])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(label)
        ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0.2)

    return one_axes(draw, 1.1 + 0.29 * len(every))
