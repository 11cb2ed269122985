"""FlightLLM's machines as published: parameters with their sources, and what its sizing formulas make of them."""

import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

URAM_BITS = 64
BRAM36_BYTES = 4608
DSP58_INT8_MACS = 3


class Matrix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The matrix engine (MPE) of a core.

    ``mpu``            matrix units of ``p_m * chain * p_n`` DSP blocks each; ``chain`` (p_K) blocks form a cascade.
    ``mm_n``, ``mm_m`` columns and rows that advance together, ``chain`` products deep, on a matrix; ``mv_n`` columns
                       on a vector.
    ``mm_tile_n``...   what one MM or MV instruction covers, for any K.
    """

    mpu: int
    chain: int
    p_m: int
    p_n: int
    macs_per_dsp: int
    mm_n: int
    mm_m: int
    mv_n: int
    mm_tile_n: int
    mm_tile_m: int
    mv_tile_n: int

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def mm_macs_per_cycle(self) -> int:
        """MACs a cycle on a matrix."""
        return self.mm_n * self.chain * self.mm_m

    @property
    def mv_macs_per_cycle(self) -> int:
        """MACs a cycle on a vector."""
        return self.mv_n * self.chain

    @property
    def dsp(self) -> int:
        """DSP blocks of one core: p_M p_K p_N MPU."""
        return self.p_m * self.chain * self.p_n * self.mpu


class SfuPasses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often an operation reads its vector."""

    add: int
    multiply: int
    silu: int
    softmax: int
    layernorm: int
    rmsnorm: int


class PublishedSfu(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The special-function unit of a core."""

    elements_per_cycle: int
    passes: SfuPasses


class Hbm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """High-bandwidth memory as efficiencies of a channel's peak: 70 % in the own channel, 35 % across."""

    peak_gb_s: float
    bytes_per_gb: int
    channels: int
    capacity_gib: int
    same_channel_efficiency: float
    cross_channel_efficiency: float
    port_gb_s: float

    def __post_init__(self) -> None:
        for name in ("same_channel_efficiency", "cross_channel_efficiency"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in (0, 1], not {getattr(self, name)}")
        if self.peak_gb_s <= 0 or self.channels < 1 or self.bytes_per_gb < 1:
            raise ValueError("peak_gb_s, channels and bytes_per_gb must be positive")

    @property
    def channel_bytes_per_s(self) -> float:
        """Peak of one channel."""
        return self.peak_gb_s * self.bytes_per_gb / self.channels


class Ddr(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The second memory: tables and instructions."""

    peak_gb_s: float
    capacity_gib: int


class Buffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An on-chip buffer of one core: ``ports`` of ``width_bytes``, ``depth`` addresses each.

    ``mv_width_bytes`` and ``misc_width_bytes`` are what one address of a port holds for MV and MISC data.
    """

    width_bytes: int
    mv_width_bytes: int
    depth: int
    memory: Literal["uram", "bram"]
    misc_width_bytes: int = 0
    ports: int = 1

    @property
    def size_bytes(self) -> int:
        """Capacity."""
        return self.ports * self.width_bytes * self.depth


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resources of a component."""

    lut: int
    ff: int
    bram36: int
    uram: int
    dsp: int


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the chip has; 0 where it is not published."""

    name: str
    dsp: int
    uram: int = 0
    bram36: int = 0
    lut: int = 0
    ff: int = 0


class FlightLlmMachine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A FlightLLM machine under its publication's rules.

    ``block`` is the edge of a weight block and the unit of K, ``mask_block`` that of the attention mask. All times are
    divided by ``correction_factor``. ``infeasible`` says why the machine does not fit its device; without it a machine
    with more DSP blocks than its device is refused. ``power_w`` is 0 where it is not reported. ``sources`` says where
    values come from, by table or table.key.
    """

    name: str
    summary: str
    cores: int
    clock_mhz: float
    block: int
    mask_block: int
    correction_factor: float
    matrix: Matrix
    sfu: PublishedSfu
    hbm: Hbm
    ddr: Ddr
    buffers: dict[Literal["a", "b", "global", "meta", "fsb", "bias"], Buffer]
    device: Device
    sources: dict[str, str]
    infeasible: str = ""
    power_w: float = 0.0
    utilisation: dict[str, Resources] = {}

    def __post_init__(self) -> None:
        if self.cores < 1 or self.clock_mhz <= 0 or self.correction_factor <= 0 or self.block < 1:
            raise ValueError("cores, clock_mhz, correction_factor and block must be positive")
        if self.mask_block % self.block or self.matrix.mm_tile_m % self.mask_block:
            raise ValueError("block must divide mask_block, and mask_block the rows of an MM tile")
        missing = {"a", "b", "global", "meta", "fsb", "bias"} - set(self.buffers)
        if missing:
            raise ValueError(f"buffers must have {sorted(missing)[0]!r}")
        if self.dsp > self.device.dsp and not self.infeasible:
            raise ValueError(f"the machine must fit its device: {self.dsp} DSP blocks of {self.device.dsp}")

    @property
    def dsp(self) -> int:
        """DSP blocks of all matrix engines: p_M p_K p_N MPU MPE."""
        return self.matrix.dsp * self.cores

    @property
    def dsp58(self) -> int:
        """DSP58 blocks that do the same INT8 MACs a cycle three at a time."""
        return self.dsp * self.matrix.macs_per_dsp // DSP58_INT8_MACS

    @property
    def uram(self) -> int:
        """URAM blocks of the A buffers: (p_M p_K actWidth / uramWidth) MPU MPE."""
        return self.matrix.p_m * self.matrix.chain * 8 // URAM_BITS * self.matrix.mpu * self.cores

    @property
    def bram36(self) -> int:
        """BRAM36 of the weight, global and index buffers of all cores, by capacity."""
        return sum(-(-self.buffers[name].size_bytes // BRAM36_BYTES) for name in ("b", "global", "meta")) * self.cores

    @property
    def ports(self) -> int:
        """Memory ports: (MPU / 8 + 2) MPE."""
        return (self.matrix.mpu // 8 + 2) * self.cores

    @property
    def peak_gb_s(self) -> float:
        """Bandwidth of all ports."""
        return self.ports * self.hbm.port_gb_s

    @property
    def max_context(self) -> int:
        """Longest context whose probabilities of all 32 heads fit the B buffer."""
        return self.buffers["b"].depth * self.buffers["b"].mv_width_bytes // 32


def _positive(item: msgspec.Struct) -> None:
    for field in item.__struct_fields__:
        if getattr(item, field) < 1:
            raise ValueError(f"{field} must be at least 1, not {getattr(item, field)}")


@functools.cache
def flightllm_machines() -> dict[str, FlightLlmMachine]:
    """The published machines, by name."""
    folder = Path(__file__).with_name("flightllm")
    return {
        path.stem: convert({"name": path.stem, **read_toml(path)}, FlightLlmMachine, path.name)
        for path in sorted(folder.glob("*.toml"))
    }


def flightllm_machine(name: str) -> FlightLlmMachine:
    """The published machine ``name``, or the machine of the TOML file ``name``."""
    if name in flightllm_machines():
        return flightllm_machines()[name]
    if name.endswith(".toml"):
        path = Path(name)
        return convert({"name": path.stem, **read_toml(path)}, FlightLlmMachine, name)
    known = ", ".join(flightllm_machines())
    raise InputError(f"a published machine must be a .toml file or one of {known}, not {name!r}")
