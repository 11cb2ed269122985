"""Figures of the shipped studies of sweeps, one each, from their rows.

    study_figure   the figure of a study as an SVG file, or None for a space that is no shipped study
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixflight.reports.draw import draw_svg, on_light_and_dark
from mixflight.reports.palette import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
_COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PINK, SKY, GREY)
_MARKERS = "oD^sPvX"


def study_figure(name: str, finding: str, rows: Sequence[Row], front: Sequence[Row]) -> str | None:
    """The figure of the study ``name``: ``rows`` are all measured points, ``front`` those of its fronts."""
    if name not in FIGURES:
        return None
    draw, size = FIGURES[name]
    good = [row for row in rows if not row.get("error")]
    return on_light_and_dark(draw_svg(lambda figure: draw(figure, good, front), size), name, finding)


def _lines(ax: "Axes", rows: Iterable[Row], by: Callable[[Row], str], x: str, y: str, **look: Any) -> None:
    """A line a value of ``by``, points in the order of ``x``."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(by(row), []).append(row)
    for place, (label, items) in enumerate(groups.items()):
        items = sorted(items, key=lambda row: row[x])
        ax.plot([row[x] for row in items], [row[y] for row in items], label=label,
                color=_COLOURS[place % len(_COLOURS)], marker=_MARKERS[place % len(_MARKERS)], markersize=4,
                linewidth=1.2, **look)  # fmt: skip


def _labels(ax: "Axes", x: str, y: str, title: str = "") -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title)


def _legend(figure: "Figure", ax: "Axes", columns: int = 4) -> None:
    """One legend below all axes."""
    handles, names = ax.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def _mixpe(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Fronts of four batches: decode's speed against its energy, by kind of PE."""
    kinds = sorted({item["array.pe"] for item in front})
    axes = figure.subplots(1, 4)
    for ax, batch in zip(axes, sorted({item["scenario.batch"] for item in front}), strict=True):
        for place, kind in enumerate(kinds):
            some = [item for item in front if (item["scenario.batch"], item["array.pe"]) == (batch, kind)]
            ax.plot([item["tokens_per_s"] for item in some], [item["tokens_per_joule"] for item in some],
                    linestyle="", marker=_MARKERS[place], color=_COLOURS[place], label=kind, markersize=5)  # fmt: skip
        _labels(ax, "tokens/s", "tokens/J" if batch == 1 else "", f"batch {batch}")
        ax.margins(0.15)
    _legend(figure, axes[0])


def _batch(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Speed against the batch, whole and split rows, a panel a bandwidth."""
    speeds = sorted({row["dram.peak_gb_s"] for row in rows})
    axes = figure.subplots(1, len(speeds), sharey=True)
    for ax, speed in zip(axes, speeds, strict=True):
        some = [row for row in rows if row["dram.peak_gb_s"] == speed and row["array.rows"] == 32]
        some = [row for row in some if row["array.split"] in (1, 4, 16)]
        _lines(ax, some, lambda row: f"blocks of rows: {row['array.split']}", "scenario.batch", "tokens_per_s")
        _labels(ax, "sequences", "tokens/s" if speed == speeds[0] else "", f"{speed:g} GB/s")
    _legend(figure, axes[0])


def _flightllm(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Decode's speed by kept weights and coding of places, at the most cores that fit, 4-bit weights."""
    codings = ("four_bit", "bitmap", "rank")
    axes = figure.subplots(1, 2)
    for ax, arch in zip(axes, ("flightllm-u280", "flightllm-vhk158"), strict=True):
        some = [row for row in rows if row["arch"] == arch and row["recipe.weight.*.b"] == 4]
        some = [row for row in some if row["chains.chain"] == 16]
        cores = max(row["cores"] for row in some)
        for place, coding in enumerate(codings):
            bars = {row["recipe.weight.*.sparse.n"]: row["tokens_per_s"] for row in some
                    if (row["cores"], row["memory_unit.index_coding"]) == (cores, coding)}  # fmt: skip
            at = [index + 0.26 * (place - 1) for index in range(len(bars))]
            ax.bar(at, [bars[keep] for keep in sorted(bars)], 0.24, color=_COLOURS[place],
                   label=f"places: {coding.replace('_', ' ')}")  # fmt: skip
            ax.set_xticks(range(len(bars)), [f"{keep} of 16" if keep < 16 else "dense" for keep in sorted(bars)])
        _labels(ax, "kept weights", "tokens/s", f"{arch.partition('-')[2].upper()}, {cores} cores")
    _legend(figure, axes[0])


def _hybrid(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Speed against LUTs, cores as lines, chains in LUTs as points."""
    ax = figure.subplots()
    whole = [row for row in rows if row["chains.mv_chains_per_mpu"] == 1]
    whole = [{**row, "kilo": row["lut"] / 1e3} for row in whole]
    _lines(ax, whole, lambda row: f"{row['cores']} cores", "kilo", "tokens_per_s")
    for row in whole:
        ax.annotate(f"{row['chains.fabric_chains_per_mpu']}", (row["kilo"], row["tokens_per_s"]), (0, 5),
                    textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
    _labels(ax, "thousand LUTs of 1,754", "tokens/s", "chains in LUTs beside each unit's DSP chain")
    _legend(figure, ax)


def _speculative(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Speed against the tokens verified together, a line a batch, a panel a device."""
    axes = figure.subplots(1, 2)
    for ax, arch in zip(axes, ("flightllm-u280", "flightllm-vhk158"), strict=True):
        some = [row for row in rows if row["arch"] == arch and row["acceptance"] == 0.8]
        some = [row for row in some if row["buffers.act.depth"] == max(item["buffers.act.depth"] for item in rows)]
        _lines(ax, some, lambda row: f"sequences: {row['scenario.batch']}", "recipe.decode.width", "tokens_per_s")
        ax.set_ylim(bottom=0)
        _labels(ax, "tokens verified together", "tokens/s", arch.partition("-")[2].upper())
    _legend(figure, axes[0])


def _accuracy(figure: "Figure", rows: Sequence[Row], front: Sequence[Row]) -> None:
    """Perplexity against energy, a point a recipe."""
    ax = figure.subplots()
    on_front = {(item["recipe"], item["array.pe"]) for item in front}
    some = [row for row in rows if row["array.pe"] == "shift-add-4x8" and row["feasible"]]
    for place, row in enumerate(sorted(some, key=lambda row: row["perplexity"])):
        left = place % 2 == 0 and row["perplexity"] < _CROWDED
        kept = (row["recipe"], row["array.pe"]) in on_front
        ax.plot(row["energy_mj_per_token"], row["perplexity"], marker="o", markersize=5, linestyle="",
                color=BLUE if kept else GREY)  # fmt: skip
        ax.annotate(row["recipe"], (row["energy_mj_per_token"], row["perplexity"]), (-5 if left else 5, 0),
                    textcoords="offset points", fontsize=7, va="center", ha="right" if left else "left")  # fmt: skip
    ax.margins(0.12)
    _labels(ax, "mJ per decoded token", "perplexity", "SmolLM2 on shift-add PEs; blue: on the front")


_CROWDED = 24.0
"""Perplexity below which recipes lie so close that their labels go to either side."""

_Draw = Callable[["Figure", Sequence[Row], Sequence[Row]], None]
FIGURES: dict[str, tuple[_Draw, tuple[float, float]]] = {
    "mixpe": (_mixpe, (8.4, 2.8)), "batch": (_batch, (8.4, 2.8)), "flightllm": (_flightllm, (7.2, 3.0)),
    "hybrid": (_hybrid, (5.4, 3.4)), "speculative": (_speculative, (7.2, 3.0)), "accuracy": (_accuracy, (5.4, 5.0)),
}  # fmt: skip
"""Study -> how its figure is drawn, and its size in inches."""
