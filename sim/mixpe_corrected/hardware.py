"""What an array holds beside its PEs, and where a PE's area goes: ``hardware.toml``, written by
``python -m mixflight.record_mixpe`` from our own RTL in osu018 cells."""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

_WORD = 32
HARDWARE = Path(__file__).with_name("hardware.toml")


class Lane(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dequantisation lane with ``elements`` FP32 accumulators in flip-flops."""

    name: str
    elements: int
    area_um2: float
    delay_ns: float
    sequential_area_um2: float
    flip_flops: int


class LaneEnergy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pJ a group sum of the lane ``name`` with ``elements`` accumulators, all registers clocked; ``clock_pj`` of
    that at the flip-flops, ``settled_pj`` the whole without hazards; over ``steps`` group sums of real operands."""

    name: str
    elements: int
    pj: float
    settled_pj: float
    clock_pj: float
    steps: int


class Parts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Area of a PE: flip-flops, what accumulates and holds around them, and the product (the rest)."""

    name: str
    macs_per_step: int
    area_um2: float
    registers_um2: float
    accumulate_um2: float
    product_um2: float
    text_sha256: str


class Hardware(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recorded table."""

    energy: LaneEnergy
    lanes: list[Lane]
    parts: list[Parts]

    def lane(self, name: str, elements: int) -> tuple[float, float]:
        """(Area in um2, pJ a group sum) of lane ``name`` with ``elements`` accumulators.

        Area: on the line through the two recorded ones. Energy: that of the measured lane, in proportion to the areas
        with as many accumulators as it has, and the clocking of 32 flip-flops for each accumulator more or less.
        """
        small, large = self._recorded(name)
        measured, _ = self._recorded(self.energy.name)
        along = (elements - small.elements) / (large.elements - small.elements)
        word = _WORD * self.energy.clock_pj / measured.flip_flops
        return (
            small.area_um2 + along * (large.area_um2 - small.area_um2),
            self.energy.pj * small.area_um2 / measured.area_um2 + word * (elements - small.elements),
        )

    def _recorded(self, name: str) -> tuple[Lane, Lane]:
        known = sorted((lane for lane in self.lanes if lane.name == name), key=lambda lane: lane.elements)
        if len(known) != 2:
            raise InputError(f"lane must be one of {', '.join({lane.name for lane in self.lanes})}, not {name!r}")
        return known[0], known[1]


@functools.cache
def hardware() -> Hardware:
    """The recorded table."""
    table: Hardware = convert(read_toml(HARDWARE), Hardware, HARDWARE.name)
    return table
