"""The table of every PE in one technology, and the same scaled to 28 nm: ``docs/processing-elements.md``.

    python -m mixflight.reports.pe_table
"""

import math
from collections.abc import Sequence

from mixflight.arch.cell_counts import CellCounts, cell_table
from mixflight.arch.node_scaling import Scaling, node_scaling_between

HEAD = (
    "PE", "accumulator bits", "MACs a step", "µm² a MAC", "fJ a MAC, real", "fJ a MAC, uniform", "delay ns",
    "µm² x pJ", "28 nm: µm²", "fJ, real", "fJ, uniform", "delay ns", "µm² x fJ",
)  # fmt: skip


def to_28nm() -> Scaling:
    """From osu018 (180 nm, 1.8 V) to 28 nm at 0.9 V, between the table's 32 and 16 nm."""
    share = math.log(32 / 28) / math.log(32 / 16)
    return node_scaling_between("180", 1.8, above="32-hp", below="16-hp", share=share, target_v=0.9)


def pe_cells(counts: CellCounts) -> list[str]:
    """One row: the PE as mapped, then scaled; areas and products are of one MAC of a step."""
    area = counts.area_um2 / counts.macs_per_step
    real, uniform = (1e3 * counts.energy[kind].pj_per_mac for kind in ("real", "random"))
    scaling = to_28nm()
    return [
        f"`{counts.name}`", str(counts.accumulator_bits), str(counts.macs_per_step),
        f"{area:,.0f}", f"{real:,.0f}", f"{uniform:,.0f}", f"{counts.delay_ns:.2f}", f"{counts.product:,.0f}",
        f"{area * scaling.area:,.0f}", f"{real * scaling.energy:,.0f}", f"{uniform * scaling.energy:,.0f}",
        f"{counts.delay_ns * scaling.delay:.2f}", f"{area * scaling.area * real * scaling.energy:,.0f}",
    ]  # fmt: skip


def pe_table() -> str:
    """Every PE whose energy is recorded, as Markdown."""
    rows = [pe_cells(counts) for counts in cell_table().rows if counts.energy]
    return "\n".join(_line(cells) for cells in (HEAD, ["---", *["---:"] * (len(HEAD) - 1)], *rows)) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(pe_table(), end="")
