"""An accelerator: given parameters, with their sources; what follows from them are properties. Presets by name."""

import functools
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.array import Array
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.prices import price_table
from mixflight.arch.strict_toml import convert, read_toml


class Buffers(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """On-chip SRAM in KiB. Streams are double-buffered: half of a buffer is filled while the other half is used."""

    weight_kib: int
    act_kib: int
    output_kib: int

    def __post_init__(self) -> None:
        for field in ("weight_kib", "act_kib", "output_kib"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")

    @property
    def kib(self) -> dict[str, int]:
        """Component -> KiB of it."""
        return {"sram.weight": self.weight_kib, "sram.act": self.act_kib, "sram.output": self.output_kib}


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
    def memories(self) -> dict[str, str]:
        """Component that counts the bits of a memory -> its standard."""
        return {"dram": self.dram.standard}

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Streaming bytes a clock cycle, after the efficiency."""
        return self.dram.peak_gb_s * 1e9 * self.dram.stream_efficiency / (self.clock_mhz * 1e6)

    @property
    def dram_latency_cycles(self) -> int:
        """Cycles to the first byte of a stream, rounded up."""
        return -int(-self.dram.latency_ns * self.clock_mhz // 1000)


def _machine(table: dict[str, Any], where: str) -> Accelerator | CoreMachine:
    """A table with a device is a machine of cores."""
    return convert(table, CoreMachine, where) if "device" in table else convert(table, Accelerator, where)


@functools.cache
def machines() -> dict[str, Accelerator | CoreMachine]:
    """All presets of mode ``corrected``, by name."""
    paths = sorted(Path(__file__).with_name("presets").glob("*.toml"))
    return {path.stem: _machine({"name": path.stem, **read_toml(path)}, path.name) for path in paths}


@functools.cache
def accelerators() -> dict[str, Accelerator]:
    """The presets that are one array, by name."""
    return {name: item for name, item in machines().items() if isinstance(item, Accelerator)}


@functools.cache
def core_machines() -> dict[str, CoreMachine]:
    """The presets made of FlightLLM cores, by name."""
    return {name: item for name, item in machines().items() if isinstance(item, CoreMachine)}


def accelerator_named(name: str) -> Accelerator | CoreMachine:
    """The preset ``name``, or the machine of the TOML file ``name``; ``NAME@TECHNOLOGY`` priced by another table."""
    machine, at, technology = name.rpartition("@")
    if at and not Path(name).exists():
        price_table(technology)
        return msgspec.structs.replace(accelerator_named(machine), name=name, technology=technology)
    if name in machines():
        return machines()[name]
    if name.endswith(".toml"):
        path = Path(name)
        return _machine({"name": path.stem, **read_toml(path)}, name)
    raise InputError(f"ARCH must be a .toml file or one of {', '.join(machines())}, not {name!r}")


def array_named(name: str) -> Accelerator:
    """As :func:`accelerator_named`, of a machine that is one array; a machine of cores is an InputError."""
    found = accelerator_named(name)
    if isinstance(found, CoreMachine):
        raise InputError(f"ARCH must be an array, such as {', '.join(accelerators())}, not the cores of {name}, here")
    return found
