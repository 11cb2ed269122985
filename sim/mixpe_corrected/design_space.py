"""Area times energy of a MAC against error and perplexity: every PE with every format that it runs.

Area and energy: least exact accumulator for groups of 128, osu018 cells, real operands of the format's width. Errors
and perplexities: ``quality.toml``. Lanes, buffers and memory are left out, as in the published figure.
"""

import functools
import math
from collections.abc import Callable

import msgspec

from mixflight.arch.cell_counts import cell_counts_named
from mixflight.sim.mixpe_corrected.quality import Quality, quality_table

RUN_BY = {
    "mixpe-w4a8-pe": ("mixpe-w4a8-pe", "mixpe-w4a8-centred-pe", "mul4x8-pe", "mixpe-w4a8-dot-pe"),
    "int8-pe": ("int8-pe", "int8-dot-pe"),
    "mixpe-w4a16-aligned-pe": ("mixpe-w4a16-aligned-pe", "mixpe-w4a16-pe", "mixpe-w4a16-dot-pe"),
    "fp16-pe": ("fp16-pe",),
}
"""The PE that a row of ``quality.toml`` names → all that take its operands."""

FLOAT = "fp16-pe"


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """A PE running a format. ``gain``: area x energy of a MAC of the FP16 PE over that of this one."""

    pe: str
    quality: Quality
    gain: float

    @property
    def name(self) -> str:
        """``pe/weights/activations``."""
        return f"{self.pe}/{self.quality.name}"


def product(pe: str) -> float:
    """um2 pJ of a MAC: area and energy both a MAC."""
    counts = cell_counts_named(pe)
    return counts.product


def gain(pe: str) -> float:
    """The published figure's axis: area x energy of the FP16 PE over that of ``pe``."""
    return product(FLOAT) / product(pe)


@functools.cache
def designs() -> tuple[Design, ...]:
    """All points."""
    return tuple(Design(pe=pe, quality=row, gain=gain(pe)) for row in quality_table().rows for pe in RUN_BY[row.pe])


def perplexity(design: Design) -> float:
    """Of the model; less is better."""
    return design.quality.perplexity


def noise(design: Design) -> float | None:
    """Quantisation noise over signal of the LM head in dB; less is better, None where the file has it so."""
    ratio = design.quality.snr_head_db
    return None if ratio is None else -ratio


def front(points: tuple[Design, ...], measure: Callable[[Design], float | None]) -> tuple[Design, ...]:
    """Those that no other point beats in gain without losing in ``measure``; by gain, largest first."""
    rated = [(point, value) for point in points if (value := measure(point)) is not None]
    found: list[Design] = []
    least = math.inf
    for point, value in sorted(rated, key=lambda each: (-each[0].gain, each[1])):
        if value < least:
            found.append(point)
            least = value
    return tuple(found)
