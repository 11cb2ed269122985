"""Energy per decoded token against the batch: accelerators and GPUs in one plot, each with its band."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mixflight.reports.draw import draw_svg, on_light_and_dark
from mixflight.reports.findings import number
from mixflight.reports.palette import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION
from mixflight.sim.simulate import Simulation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = ((BLUE, "o"), (ORANGE, "D"), (GREEN, "^"), (VERMILION, "s"), (PINK, "P"), (SKY, "v"), (GREY, "X"))


def series(results: Sequence[Simulation]) -> dict[str, list[Simulation]]:
    """Simulations by machine and recipe, each in the order of batches."""
    found: dict[str, list[Simulation]] = {}
    for item in results:
        found.setdefault(f"{item.accelerator} {item.formats}", []).append(item)
    return {name: sorted(items, key=lambda item: item.batch) for name, items in found.items()}


def mj_per_token(item: Simulation) -> tuple[float, float, float]:
    """Value, low and high of decode's energy a token."""
    energy, share = item.decode.energy, 1e-9 / item.decode.tokens
    return energy.pj * share, energy.low_pj * share, energy.high_pj * share


def describe(results: Sequence[Simulation]) -> str:
    """The figure in words and numbers."""
    parts = []
    for name, items in series(results).items():
        points = "; ".join(
            f"batch {item.batch} {number(value)} mJ ({number(low)} to {number(high)})"
            for item in items for value, low, high in [mj_per_token(item)]
        )  # fmt: skip
        parts.append(f"{name}: {points}")
    first = results[0]
    lengths = f"prefill {first.prefill.tokens // first.batch}, decode {first.decode.tokens // first.batch}"
    return f"{first.model}, {lengths}, energy per decoded token: " + ". ".join(parts)


def batch_figure(results: Sequence[Simulation]) -> str:
    """The figure as an SVG file."""

    def draw(figure: "Figure") -> None:
        ax = figure.subplots()
        for index, (name, items) in enumerate(series(results).items()):
            colour, marker = _LOOKS[index % len(_LOOKS)]
            values, low, high = zip(*(mj_per_token(item) for item in items), strict=True)
            batches = [item.batch for item in items]
            if len(items) > 1:
                ax.fill_between(batches, low, high, color=colour, alpha=0.13, linewidth=0)
            else:
                reach = [[values[0] - low[0]], [high[0] - values[0]]]
                ax.errorbar(batches, values, yerr=reach, color=colour, linewidth=0.9, capsize=2)
            ax.plot(batches, values, color=colour, marker=marker, markersize=5, linewidth=1.3, label=name)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        every = sorted({item.batch for item in results})
        ax.set_xticks(every, [f"{batch}" for batch in every])
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e4 else f"{value:,.0f}")
        ax.minorticks_off()
        ax.set_xlabel("sequences in a batch")
        ax.set_ylabel("mJ per decoded token")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, borderaxespad=0.2)

    first = results[0]
    title = f"{first.model}: energy per token against batch"
    return on_light_and_dark(draw_svg(draw, (7.2, 4.2)), title, describe(results))
