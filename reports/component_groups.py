"""Components of energy in groups, each with its band: what tables and figures show."""

from collections.abc import Iterable

import msgspec

GROUPS = ("DRAM", "buffers", "PE", "PE leakage", "dequantisation", "SFU", "network", "control", "static")
"""In the order of tables and figures; ``network`` is what carries bits between memory, cores and buffers."""

_OF = {
    "dram": "DRAM", "hbm": "DRAM", "ddr": "DRAM", "memory": "DRAM",
    "sfu": "SFU",
    "memory_path": "network", "exchange": "network",
    "controller": "control", "fabric": "control",
    "static": "static", "idle": "static", "active": "static",
    "tensor": "PE", "unpack": "dequantisation", "int4": "PE",
    "lanes": "dequantisation", "accumulator": "dequantisation", "row_sum": "dequantisation", "align": "dequantisation",
}  # fmt: skip
"""Component -> group, of accelerators and of the GPU model's parts; ``pe.*`` and ``sram.*`` are told by their start."""


class GroupEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy of a group with its band, in mJ a token."""

    group: str
    energy_mj_per_token: float
    energy_mj_per_token_low: float
    energy_mj_per_token_high: float


def group_of(component: str) -> str:
    """The group of ``component``; one that no group has is a defect of the program, a KeyError."""
    if component.startswith("pe."):
        return "PE leakage" if component.endswith(" leakage") else "PE"
    if component.startswith("sram."):
        return "buffers"
    return _OF[component]


def grouped(components: Iterable[tuple[str, float, float, float]]) -> tuple[GroupEnergy, ...]:
    """The groups that have any of (component, value, low, high), in their order."""
    found: dict[str, list[float]] = {}
    for component, *energies in components:
        sums = found.setdefault(group_of(component), [0.0, 0.0, 0.0])
        found[group_of(component)] = [a + b for a, b in zip(sums, energies, strict=True)]
    return tuple(
        GroupEnergy(
            group=group, energy_mj_per_token=found[group][0], energy_mj_per_token_low=found[group][1],
            energy_mj_per_token_high=found[group][2],
        )
        for group in GROUPS if group in found
    )  # fmt: skip
