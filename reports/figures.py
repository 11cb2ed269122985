"""Figures of a document's machines and of the emitted array.

    time_drawing       time per token by group of operators, a bar a machine
    energy_drawing     energy per token by group of components, a bar a machine, with its band
    roofline_drawing   work a second against work a byte: roofs and what was reached
    resources_drawing  what the emitted array takes on an FPGA, by module
    timeline_drawing   what the units are busy with during a layer
    energy_picture     decode's energy with and without DRAM, for a README
    describe           what the figures show, in words and numbers
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixflight.reports.component_groups import GROUPS, GroupEnergy, group_of, grouped
from mixflight.reports.document import Component, Document, Machine, Phase, Timeline
from mixflight.reports.draw import INK, Drawing, nothing, one_axes, plain
from mixflight.reports.findings import number
from mixflight.reports.palette import BLUE, COMPONENTS, OPERATORS, ORANGE, SERIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OUTLINE: dict[str, Any] = {"linewidth": 0.45, "edgecolor": INK}
"""Of bars: neighbours stay apart for those who see their colours as one, and pale ones on a white page."""

OPERATOR_GROUPS: Mapping[str, str] = {
    "q": "projections", "k": "projections", "v": "projections", "o": "projections", "qk": "attention",
    "av": "attention", "gate": "feed-forward", "up": "feed-forward", "down": "feed-forward", "head": "LM head",
}  # fmt: skip
"""Operator -> group of the time figure; all others are vector operators."""
VECTORS = "vector operators"


def time_by_group(phase: Phase) -> dict[str, float]:
    """Milliseconds a token by group of operators, in the figure's order."""
    found = dict.fromkeys(OPERATORS, 0.0)
    cycles = sum(item.cycles for item in phase.operators)
    for item in phase.operators:
        found[OPERATOR_GROUPS.get(item.operator, VECTORS)] += item.cycles / cycles * phase.time_ms_per_token
    return found


def energy_by_group(components: Sequence[Component]) -> dict[str, GroupEnergy]:
    """Energy a token by group of components, with its band, in the figure's order."""
    return {
        item.group: item
        for item in grouped(
            (part.component, part.energy_mj_per_token, part.energy_mj_per_token_low, part.energy_mj_per_token_high)
            for part in components
        )
    }


def groups_shown(machines: Sequence[Machine], phase: str) -> tuple[str, ...]:
    """The groups that any of ``machines`` has, in order."""
    found = {name for machine in machines for name in energy_by_group(getattr(machine.simulation, phase).components)}
    return tuple(name for name in GROUPS if name in found)


def time_drawing(machines: Sequence[Machine], phase: str) -> Drawing:
    """Time per token of ``phase`` (``prefill`` or ``decode``) by group of operators."""
    rows = [time_by_group(getattr(machine.simulation, phase)) for machine in machines]
    return one_axes(lambda ax: _stack(ax, machines, rows, OPERATORS, f"{phase}: ms per token"), _height(machines))


def energy_drawing(machines: Sequence[Machine], phase: str, dram: bool = True) -> Drawing:
    """Energy per token of ``phase`` by group of components, with its band; ``dram`` = False leaves DRAM out."""
    return one_axes(lambda ax: _energy(ax, machines, phase, dram), _height(machines))


def _height(rows: Sequence[object]) -> float:
    """Inches of a figure with a bar for each of ``rows``."""
    return 1.15 + 0.34 * len(rows)


def _energy(ax: "Axes", machines: Sequence[Machine], phase: str, dram: bool) -> None:
    rows, bands = [], []
    for machine in machines:
        components = getattr(machine.simulation, phase).components
        shown = [item for item in components if dram or group_of(item.component) != "DRAM"]
        rows.append({name: item.energy_mj_per_token for name, item in energy_by_group(shown).items()})
        bands.append((sum(item.energy_mj_per_token_low for item in shown),
                      sum(item.energy_mj_per_token_high for item in shown)))
    groups = groups_shown(machines, phase)
    colours = {name: COMPONENTS[name] for name in groups if dram or name != "DRAM"}
    _stack(ax, machines, rows, colours, f"{phase}: mJ per token{'' if dram else ', without DRAM'}", bands)


def _stack(ax: "Axes", machines: Sequence[Machine], rows: Sequence[Mapping[str, float]], colours: Mapping[str, str],
           label: str, bands: Sequence[tuple[float, float]] | None = None) -> None:
    places = range(len(machines))
    left = [0.0] * len(machines)
    for name, colour in colours.items():
        widths = [row.get(name, 0.0) for row in rows]
        ax.barh(places, widths, left=left, height=0.56, color=colour, label=name, **OUTLINE)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    if bands is not None:
        reach = [[total - low for total, (low, _) in zip(left, bands, strict=True)],
                 [high - total for total, (_, high) in zip(left, bands, strict=True)]]
        ax.errorbar(left, [place + 0.39 for place in places], xerr=reach, fmt="none", ecolor=INK, elinewidth=0.9,
                    capsize=2, label="band")
    ax.set_yticks(places, [machine.name for machine in machines])
    ax.invert_yaxis()
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(label)
    ax.set_xlim(left=0)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=-(-(len(colours) + (bands is not None)) // 2),
              borderaxespad=0.2)


def roofline_drawing(machines: Sequence[Machine]) -> Drawing:
    """MACs a second against MACs a DRAM byte: the roofs of every machine and the points of prefill and decode."""
    return one_axes(lambda ax: _roofline(ax, machines), 3.3)


def _roofline(ax: "Axes", machines: Sequence[Machine]) -> None:
    reached = [
        (machine, phase, phase.macs / (phase.hbm_bytes_per_token * phase.tokens), phase.macs / phase.time_ms * 1e-6)
        for machine in machines for phase in (machine.simulation.prefill, machine.simulation.decode)
    ]  # fmt: skip
    least = min(intensity for _, _, intensity, _ in reached) / 3
    most = max(intensity for _, _, intensity, _ in reached) * 3
    roofs = {(machine.peak_gmacs, machine.dram_gb_s) for machine in machines}
    for peak, bandwidth in sorted(roofs):
        knee = peak / bandwidth
        ax.plot([least, max(knee, least), most], [min(least * bandwidth, peak), peak, peak], color=INK,
                linewidth=0.9, zorder=1)
        names = [machine.name for machine in machines if (machine.peak_gmacs, machine.dram_gb_s) == (peak, bandwidth)]
        ax.annotate(", ".join(names), (most, peak), xytext=(0, 2), textcoords="offset points", ha="right", fontsize=8)
    edges = {machine.peak_gmacs / machine.rows * machine.simulation.batch for machine in machines}
    for edge in sorted(edges):
        ax.plot([max(edge / max(bandwidth for _, bandwidth in roofs), least), most], [edge, edge], color=INK,
                linewidth=0.7, linestyle=(0, (4, 3)), zorder=1)
    batch = machines[0].simulation.batch
    ax.annotate(f"roof{'s' if len(edges) > 1 else ''} of {batch} busy row{'s' if batch > 1 else ''}",
                (most, max(edges)), xytext=(0, 2), textcoords="offset points", ha="right", fontsize=8)
    for index, machine in enumerate(machines):
        colour, shape = SERIES[index % len(SERIES)]
        own = [(phase, x, y) for which, phase, x, y in reached if which is machine]
        for phase, x, y in own:
            filled = phase is machine.simulation.prefill
            ax.plot([x], [y], linestyle="none", marker=shape, markersize=(8.5, 5, 6, 6)[index % 4],
                    markerfacecolor=colour if filled else "none", markeredgewidth=1.3,
                    markeredgecolor=colour, label=machine.name if filled else None, zorder=3)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(least, most)
    ax.set_ylim(bottom=min(y for _, _, _, y in reached) / 3, top=max(peak for peak, _ in roofs) * 2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(nothing)
    ax.set_xlabel("MACs per DRAM byte")
    ax.set_ylabel("10⁹ MACs per second")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0.2, handletextpad=0.2,
              title="filled: prefill, hollow: decode", title_fontsize=8, alignment="left")


def resources_drawing(document: Document) -> Drawing:
    """LUTs and registers of the emitted array by module, all instances together."""
    assert document.synthesis is not None
    modules = sorted(document.synthesis.modules, key=lambda item: -item.lut * item.instances)
    top = document.synthesis.modules[0].name
    names = [
        f"{item.name.removeprefix(f'{top}_').replace('_', ' ') if item.name != top else 'the rest'} ×{item.instances}"
        for item in modules
    ]

    def draw(ax: "Axes") -> None:
        for offset, unit, colour in ((-0.18, "lut", BLUE), (0.18, "ff", ORANGE)):
            values = [getattr(item, unit) * item.instances for item in modules]
            bars = ax.barh([place + offset for place in range(len(modules))], values, height=0.34, color=colour,
                           label=unit.upper(), **OUTLINE)
            ax.bar_label(bars, [f"{value:,.0f}" for value in values], padding=2, fontsize=8, color=INK)
        ax.set_yticks(range(len(modules)), names)
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.margins(x=0.12)
        ax.xaxis.set_major_formatter(plain)
        ax.set_xlabel("LUTs and registers in the whole array")
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, borderaxespad=0.2)

    return one_axes(draw, _height(modules))


def energy_picture(machines: Sequence[Machine]) -> Drawing:
    """Decode's energy per token with its band, and beside it what is left without DRAM."""

    def draw(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        _energy(left, machines, "decode", dram=True)
        _energy(right, machines, "decode", dram=False)
        handles, labels = left.get_legend_handles_labels()
        for ax in (left, right):
            legend = ax.get_legend()
            if legend is not None:
                legend.remove()
        left.invert_yaxis()     # each of the two panels inverted the axis that they share
        figure.legend(handles, labels, loc="outside upper left", ncols=7)

    return Drawing(draw, (8.2, 2.5))


def timeline_drawing(timeline: Timeline) -> Drawing:
    """What each unit is busy with while one layer of a decode step runs."""

    def draw(ax: "Axes") -> None:
        for item in timeline.slices:
            if item.track != TIMELINE_TRACKS[0]:
                colour = OPERATORS[OPERATOR_GROUPS.get(item.operator, VECTORS)]
                ax.barh(TIMELINE_TRACKS.index(item.track) - 1, item.duration_us, left=item.start_us, height=0.6,
                        color=colour, linewidth=0.3, edgecolor="none")
        shown = {OPERATOR_GROUPS.get(item.operator, VECTORS) for item in timeline.slices}
        for name, colour in OPERATORS.items():
            if name in shown:
                ax.barh([0], [0], color=colour, label=name)
        ax.set_yticks(range(len(TIMELINE_TRACKS) - 1), TIMELINE_TRACKS[1:])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlim(left=0)
        ax.set_xlabel(f"µs of layer {timeline.layer} of a decode step at a context of {timeline.context:,}")
        ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, borderaxespad=0.2)

    return one_axes(draw, 2.3)


TIMELINE_TRACKS = ("operators", "array", "DRAM", "SFU")
"""The tracks of a timeline: all operators, then the units in the figure's order."""


def describe(document: Document) -> str:
    """What the figures show of decode, in words and numbers."""
    parts = []
    for machine in document.machines:
        decode = machine.simulation.decode
        parts.append(
            f"{machine.name}: {number(decode.tokens_per_s)} tokens/s, "
            f"{number(decode.energy_mj_per_token)} mJ per token "
            f"({number(decode.energy_mj_per_token_low)} to {number(decode.energy_mj_per_token_high)})"
        )
    return f"{document.scenario.model}, decode: {'; '.join(parts)}"
