"""How small the best PEs are against what they replace, and what bounds them."""

import msgspec

from mixflight.arch.cell_counts import CellCounts, cell_counts_named
from mixflight.sim.mixpe_corrected.hardware import Parts, hardware

W4A8 = ("mixpe-w4a8-pe", "mixpe-w4a8-centred-pe", "mul4x8-pe", "mixpe-w4a8-dot-pe")
W4A16 = ("mixpe-w4a16-pe", "mixpe-w4a16-aligned-pe", "mixpe-w4a16-dot-pe")
OPERANDS = "real"


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """The least ratio that ``pes`` reach against ``against``, an area or an energy a MAC, and the goal."""

    name: str
    pes: tuple[str, ...]
    against: str
    figure: str
    most: float | None
    note: str = ""

    def ratios(self) -> dict[str, float]:
        """PE → its ratio."""
        base = per_mac(cell_counts_named(self.against), self.figure)
        return {pe: per_mac(cell_counts_named(pe), self.figure) / base for pe in self.pes}

    def best(self) -> tuple[str, float]:
        """The PE with the least ratio."""
        return min(self.ratios().items(), key=lambda item: item[1])


def per_mac(counts: CellCounts, figure: str) -> float:
    """``area`` in um2 or ``energy`` in pJ a MAC, on real operands; ``settled`` without hazards."""
    energy = counts.energy[OPERANDS]
    return {
        "area": counts.area_um2 / counts.macs_per_step,
        "energy": energy.pj_per_mac,
        "settled": energy.settled_pj_per_mac,
    }[figure]


def goals() -> list[Goal]:
    """As they were set, then with one product a step, then like for like: four products a step on both sides."""
    found = []
    for figure in ("area", "energy", "settled"):
        set_ = figure != "settled"
        for wide, most in (("", 0.50), ("-32", 0.40)):
            width = "32-bit" if wide else "least"
            pes = tuple(f"{pe}{wide}" for pe in W4A8)
            found += [
                Goal(
                    name=f"w4a8-over-int8/{width}/{figure}",
                    pes=pes,
                    against=f"int8-pe{wide}",
                    figure=figure,
                    most=most if set_ else None,
                ),
                Goal(
                    name=f"w4a8-over-int8/{width}/{figure}/one-product",
                    pes=pes[:-1],
                    against=f"int8-pe{wide}",
                    figure=figure,
                    most=most if set_ else None,
                ),
                Goal(
                    name=f"w4a8-over-int8/{width}/{figure}/like-for-like",
                    pes=pes[-1:],
                    against=f"int8-dot-pe{wide}",
                    figure=figure,
                    most=None,
                    note="four products a step on both sides",
                ),
            ]
        found += [
            Goal(
                name=f"w4a16-over-fp16/{figure}",
                pes=W4A16,
                against="fp16-pe",
                figure=figure,
                most=0.25 if set_ else None,
            ),
            Goal(
                name=f"w4a16-over-fp16/{figure}/one-product",
                pes=W4A16[:-1],
                against="fp16-pe",
                figure=figure,
                most=0.25 if set_ else None,
            ),
        ]
    return found


def parts_of(pe: str) -> Parts:
    """Where the area of ``pe`` goes."""
    return next(parts for parts in hardware().parts if parts.name == pe)


def floor(pe: str, against: str) -> float:
    """Ratio of the areas a MAC if the product of ``pe`` cost nothing at all."""
    own, other = parts_of(pe), parts_of(against)
    rest = (own.registers_um2 + own.accumulate_um2) / own.macs_per_step
    return rest / (other.area_um2 / other.macs_per_step)
