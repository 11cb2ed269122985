"""Prices of the corrected comparison: our PEs and lanes at 45 nm beside SRAM of 45 nm and DRAM of its own.

PEs and lanes: switching counted in osu018 cells (180 nm, 1.8 V) on SmolLM2's operands, scaled to 45 nm at 0.9 V by
``arch/node_scaling.toml``. The rest as in ``arch/technology/45nm-literature.toml``. Scaled so, our INT8 PE takes
several times what BitFusion's synthesis at 45 nm says (0.298 pJ a MAC): cells without sizing, registers without clock
gating, hazards counted. ``anchored`` prices take the literature's figure for INT8 and keep only the ratios of ours.
"""

import msgspec

from mixflight.arch.accelerator import array_named
from mixflight.arch.cell_counts import cell_counts_named
from mixflight.arch.node_scaling import Scaling, node_scaling
from mixflight.arch.prices import Price, PriceTable, price_table
from mixflight.sim.mixpe_corrected.machines import REFERENCE, Candidate, Sized, candidate_named, cells_of, lane_of

DRAM_PJ_PER_BIT = (0.63, 3.9, 18.75)
"""ANT's and MixPE's simulators (an outlier); HBM2 (O'Connor et al., MICRO 2017); BitMoD's DDR4."""

_LANE_MULTIPLIES = 2


def to_45nm() -> Scaling:
    """From the cells' node and supply to the literature's."""
    return node_scaling("180", 1.8, "45-hp", 0.9)


def mac_pj(candidate: Candidate) -> float:
    """pJ a MAC at 45 nm, on the operands of the 4-bit model."""
    return cells_of(candidate).energy[candidate.operands].pj_per_mac * to_45nm().energy


def settled_mac_pj(candidate: Candidate) -> float:
    """The same without hazards."""
    return cells_of(candidate).energy[candidate.operands].settled_pj_per_mac * to_45nm().energy


def _anchor() -> float:
    """The literature's pJ of an INT8 MAC over our scaled one on INT8 operands."""
    base = price_table(array_named(REFERENCE).technology)
    ours = cell_counts_named(candidate_named(REFERENCE).cells).energy["real"].pj_per_mac * to_45nm().energy
    return base.of("pe.multiply-8x8", "mac").value_pj / ours


def prices_for(machine: Sized, dram_pj_per_bit: float, *, anchored: bool = False) -> PriceTable:
    """The price table of one machine with one DRAM; ``anchored`` scales PEs and lanes to the literature's INT8 MAC."""
    factor = _anchor() if anchored else 1.0
    base = price_table(array_named(REFERENCE).technology)
    lane = lane_of(machine.candidate)[1] * to_45nm().energy * factor
    mac = mac_pj(machine.candidate) * factor
    ours = {
        (f"pe.{machine.candidate.kind}", "mac"): mac,
        (f"pe.{machine.candidate.kind}", "mac_4bit"): mac,  # of the operands that the candidate has
        ("lanes", "fp32_mul"): lane / _LANE_MULTIPLIES,
        ("lanes", "fp32_add"): 0.0, ("lanes", "zero_correct"): 0.0,  # all in the lane's own energy
        ("accumulator", "read_bit"): 0.0, ("accumulator", "write_bit"): 0.0,
        ("dram", "read_bit"): dram_pj_per_bit, ("dram", "write_bit"): dram_pj_per_bit,
    }  # fmt: skip
    kept = tuple(price for price in base.price if (price.component, price.action) not in ours)
    return msgspec.structs.replace(
        base, name=f"corrected-{machine.candidate.name}", price=(*kept, *(_price(*key, pj) for key, pj in ours.items()))
    )


def _price(component: str, action: str, pj: float) -> Price:
    source = (
        "given: one of the study's three DRAM prices"
        if component == "dram"
        else (f"our RTL in osu018 cells, switching on real operands, scaled to 45 nm: {to_45nm().source}")
    )
    return Price(component=component, action=action, value_pj=pj, basis="derived", date="2026", source=source)
