"""The accelerators, memories and models of the published simulator, as typed values of ``machines.toml``."""

import functools
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.strict_toml import convert, read_toml

Product = Literal["qkv", "output", "up", "down"]


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clock, DRAM interface and buffers, the same for every accelerator."""

    clock_mhz: int
    dram_bits_per_cycle: int
    weight_kib: int
    act_kib: int
    output_kib: int
    output_bits: int

    @property
    def half_buffer_bits(self) -> NDArray[np.int64]:
        """Bits of the half of weight, activation and output buffer that is filled while the other is used."""
        return np.array([self.weight_kib, self.act_kib, self.output_kib], dtype=np.int64) * 1024 * 8 // 2


class PePower(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Power of one PE, by its highest and lowest operand bits."""

    bits: tuple[int, int]
    leakage_nw: float
    dynamic_nw: float


class Sram(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One buffer as banks of ``port_bits``; energies of a port access."""

    banks: int
    port_bits: int
    read_nj: float
    write_nj: float
    leakage_mw: float


class DramEnergy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of 1024 bits read or written, and of a clock cycle."""

    read_nj: float
    write_nj: float
    static_nj_per_cycle: float


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An array and the operand bits that its products are given.

    ``bits``        highest and lowest operand bits, which also name the PE's power; an operand of fewer bits than the
                    highest multiplies the array's side by their ratio
    ``gemm_bits``   bits of both operands of a layer's products; ``wide_bits`` of ``wide_products`` in ``wide_layers``
    ``dequant``     the extra product that stands for dequantisation comes before or after each product, at
                    ``dequant_bits``
    ``gemm_act_bits``   bits of the products' activations where they are not those of the weights
    ``one_mac_per_pe``  narrow operands save traffic but no cycles (no published machine; for the corrections)
    """

    name: str
    rows: int
    cols: int
    bits: tuple[int, int]
    gemm_bits: int
    dequant_bits: int
    dequant: Literal["before", "after"]
    wide_bits: int = 0
    wide_products: tuple[Product, ...] = ()
    wide_layers: dict[str, int] = {}
    gemm_act_bits: int = 0
    one_mac_per_pe: bool = False

    def factor(self, bits: int) -> int:
        """By how much operands of ``bits`` bits widen the array's side."""
        return 1 if self.one_mac_per_pe else self.bits[0] // max(bits, self.bits[1])


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer as the layer generator sees it."""

    name: str
    hidden: int
    layers: int
    patch_embedding: bool = False


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is the same for all models: rows a product, group, and the patch embedding of the ViTs."""

    batch: int
    group: int
    dequant_divisor: int
    patch: int
    patch_channels: int
    patches_per_side: int


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``machines.toml``."""

    memory: Memory
    pe: tuple[PePower, ...]
    weight_buffer: Sram
    act_buffer: Sram
    output_buffer: Sram
    dram: DramEnergy
    dram_in_search: DramEnergy
    accelerator: tuple[Machine, ...]
    model: tuple[Model, ...]
    workload: Workload
    sources: dict[str, str]

    def machine(self, name: str) -> Machine:
        """The accelerator ``name``."""
        return next(item for item in self.accelerator if item.name == name)


@functools.cache
def published() -> Published:
    """What the published simulator is given."""
    path = Path(__file__).with_name("machines.toml")
    return convert(read_toml(path), Published, path.name)
