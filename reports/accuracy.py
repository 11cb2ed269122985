"""Recorded accuracy of recipes on the real model, as a table and a figure of ``docs/accuracy.md``.

    accuracy_table    Markdown, a row a recipe
    accuracy_figure   perplexity over the unquantised model's against bits a weight and against cache, with energy

Rows are those of ``mixflight evaluate --json`` with ``--reference``.
"""

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixflight.reports.draw import INK, draw_svg
from mixflight.reports.palette import BLUE, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
WORST = 2.5  # perplexity over the unquantised model's that the figure still shows
WEIGHTS = ("w-", "w2-", "w3-", "w4-", "w8")
BASE = "kv8"  # what every recipe changes one thing of
PARAMETERS = 134_479_872  # of SmolLM2's linears and tied head



def accuracy_table(rows: Sequence[Row]) -> str:
    """Perplexity with its interval, the ratio with its, sizes, operations and energy of a decoded token."""
    lines = [
        "| recipe | arithmetic | perplexity (95 %) | over unquantised (95 %) | weights MB | KV kB | MMACs | mJ |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        energy = row["energy_mj_per_token"]
        ratio = [row[f"ratio_to_unquantised{end}"] for end in ("", "_low", "_high")]
        cells = (
            f"`{row['recipe']}`", row["arithmetic"],
            f"{_digits(row['perplexity'])} ({_digits(row['perplexity_low'])} – {_digits(row['perplexity_high'])})",
            f"{_digits(ratio[0])} ({_digits(ratio[1])} – {_digits(ratio[2])})", f"{row['weight_bytes'] / 1e6:.1f}",
            f"{row['kv_bytes'] / 1e3:.0f}", f"{row['macs'] / 1e6:.1f}", "–" if energy is None else f"{energy:.3f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def accuracy_figure(rows: Sequence[Row]) -> str:
    """A file of its own: recipes that change weights on the left, cache or attention on the right, mJ at the names."""
    shown = [row for row in rows if row["ratio_to_unquantised"] <= WORST]

    weights = [row for row in shown if row["recipe"].startswith(WEIGHTS) or row["recipe"] == BASE]
    others = [row for row in shown if row["kv_bytes"] != _base(rows)["kv_bytes"] and row["recipe"] != "unquantised"]

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _points(left, weights, [8 * row["weight_bytes"] / PARAMETERS for row in weights])
        left.set_xlabel("bits a weight, LM head included")
        left.set_ylabel("perplexity over the unquantised model's")
        _points(right, [*others, _base(rows)], [row["kv_bytes"] / 1e3 for row in (*others, _base(rows))])
        right.set_xlabel("kB of KV cache a decoded token")

    svg = draw_svg(draw, (8.6, 4.0))
    start = svg.index(">") + 1
    said = "; ".join(f"{row['recipe']} {row['ratio_to_unquantised']:.3f}" for row in shown)
    style = "<style>svg{color:#24292f}@media(prefers-color-scheme:dark){svg{color:#d0d7de}}</style>"
    described = f"<title>Accuracy of recipes on SmolLM2</title><desc>{html.escape(said)}</desc>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{svg[:start]}\n{described}{style}{svg[start:]}'


def _base(rows: Sequence[Row]) -> Row:
    return next(row for row in rows if row["recipe"] == BASE)


def _points(ax: "Axes", rows: Sequence[Row], x: Sequence[float]) -> None:
    """One point a row with its name; names that would overlap a point drawn before are moved up."""
    ax.set_yscale("log")
    ticks = [1, 1.05, 1.1, 1.2, 1.3, 1.5, 2, 2.5]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    span = (max(x) - min(x)) or 1
    placed: list[tuple[float, float]] = []
    for at, row in sorted(zip(x, rows, strict=True), key=lambda item: item[1]["ratio_to_unquantised"]):
        y, golden = row["ratio_to_unquantised"], row["arithmetic"] == "golden"
        ax.plot(at, y, "o" if golden else "s", color=BLUE if golden else VERMILION, markersize=4)
        height = y
        while any(abs(at - px) < 0.4 * span and abs(height / py - 1) < 0.027 for px, py in placed):
            height *= 1.006
        placed.append((at, height))
        energy = row["energy_mj_per_token"]
        name = row["recipe"] + ("" if energy is None else f"  {energy:.2f} mJ")
        ax.annotate(
            name, (at, y), (at + 0.02 * span, height), fontsize=6, va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.3, "color": INK} if height > y * 1.01 else None,
        )  # fmt: skip
    ax.set_xlim(min(x) - 0.05 * span, max(x) + 0.45 * span)
