"""An accelerator: given parameters, with their sources; what follows from them are properties."""

import functools
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.array_pipeline import tile_shape
from mixflight.arch.errors import InputError
from mixflight.arch.pe import PES, Pe, PeKind
from mixflight.arch.strict_toml import convert, read_toml

LONGEST_EDGE = 4096
"""Rows, columns or lanes of an array; more is a slip of the pen."""


class Array(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An output-stationary systolic array of ``rows`` x ``cols`` PEs with ``lanes`` dequantisation lanes.

    Rows hold tokens (activations enter on the left), columns hold output channels (weights enter on top). A lane serves
    ``cols / lanes`` columns. With ``split`` > 1 the rows can also work as so many blocks, each with weights of its own:
    a tile of ``rows / split`` tokens and ``cols * split`` channels.
    """

    pe: PeKind
    rows: int
    cols: int
    lanes: int
    split: int = 1

    def __post_init__(self) -> None:
        for field in ("rows", "cols", "lanes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
            if getattr(self, field) > LONGEST_EDGE:
                raise ValueError(f"{field} must be at most {LONGEST_EDGE:,}, not {getattr(self, field):,}")
        if self.cols % self.lanes:
            raise ValueError(f"lanes must divide cols: {self.lanes} does not divide {self.cols}")
        tile_shape(rows=self.rows, cols=self.cols, split=self.split)

    @property
    def element(self) -> Pe:
        """What one PE is."""
        return PES[self.pe]

    def tile(self, split: int) -> tuple[int, int]:
        """(Tokens, output channels) of a tile on ``split`` blocks of rows."""
        return tile_shape(rows=self.rows, cols=self.cols, split=split)


class Buffers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On-chip SRAM in KiB. Streams are double-buffered: half of a buffer is filled while the other half is used."""

    weight_kib: int
    act_kib: int
    output_kib: int

    def __post_init__(self) -> None:
        for field in ("weight_kib", "act_kib", "output_kib"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")


class Dram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Off-chip memory as a pipe: ``stream_efficiency`` of ``peak_gb_s`` after ``latency_ns`` for the first byte."""

    standard: str
    peak_gb_s: float
    stream_efficiency: float
    latency_ns: float

    def __post_init__(self) -> None:
        if self.peak_gb_s <= 0:
            raise ValueError(f"peak_gb_s must be positive, not {self.peak_gb_s}")
        if not 0 < self.stream_efficiency <= 1:
            raise ValueError(f"stream_efficiency must be in (0, 1], not {self.stream_efficiency}")
        if self.latency_ns < 0:
            raise ValueError(f"latency_ns must be at least 0, not {self.latency_ns}")


class Sfu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Special-function unit: ``elements_per_cycle`` elements a pass, ``latency_cycles`` from first in to first out."""

    elements_per_cycle: int
    latency_cycles: int

    def __post_init__(self) -> None:
        if self.elements_per_cycle < 1:
            raise ValueError(f"elements_per_cycle must be at least 1, not {self.elements_per_cycle}")
        if self.latency_cycles < 0:
            raise ValueError(f"latency_cycles must be at least 0, not {self.latency_cycles}")


class Accelerator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine that runs operator traces: array, buffers, SFU, memory, clock and the technology that prices actions.

    ``sources`` says for each table, or ``table.key``, where its values come from.
    """

    name: str
    summary: str
    clock_mhz: float
    technology: str
    array: Array
    buffers: Buffers
    dram: Dram
    sfu: Sfu
    sources: dict[str, str]

    def __post_init__(self) -> None:
        if self.clock_mhz <= 0:
            raise ValueError(f"clock_mhz must be positive, not {self.clock_mhz}")

    @property
    def peak_macs_per_s(self) -> float:
        """One MAC a PE and cycle."""
        return self.array.rows * self.array.cols * self.clock_mhz * 1e6

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Streaming bytes a clock cycle, after the efficiency."""
        return self.dram.peak_gb_s * 1e9 * self.dram.stream_efficiency / (self.clock_mhz * 1e6)

    @property
    def dram_latency_cycles(self) -> int:
        """Cycles to the first byte of a stream, rounded up."""
        return -int(-self.dram.latency_ns * self.clock_mhz // 1000)


def _accelerator(table: dict[str, Any], where: str) -> Accelerator:
    return convert(table, Accelerator, where)


@functools.cache
def accelerators() -> dict[str, Accelerator]:
    """The preset accelerators, by name (``corrected`` mode)."""
    folder = Path(__file__).with_name("presets")
    paths = sorted(folder.glob("*.toml"))
    return {path.stem: _accelerator({"name": path.stem, **read_toml(path)}, path.name) for path in paths}


def accelerator_named(name: str) -> Accelerator:
    """The preset ``name``, or the accelerator of the TOML file ``name``."""
    if name in accelerators():
        return accelerators()[name]
    if name.endswith(".toml"):
        path = Path(name)
        return _accelerator({"name": path.stem, **read_toml(path)}, name)
    raise InputError(f"ARCH must be a .toml file or one of {', '.join(accelerators())}, not {name!r}")
