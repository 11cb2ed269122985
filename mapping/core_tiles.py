"""How a core cuts its share of a weight matrix: columns a tile, slabs of K, and the bytes of each in memory and buffer.

A tile is up to ``mv_columns`` outputs and one slab of K. Its weights lie in a slot of the weight buffer, widened to a
byte each; its scales in a slot of the scale buffer and its indices in one of the index buffer, both as stored. In
memory every channel of the core holds an equal part: an eighth of the tile's columns with eight channels.
"""

import math
from collections.abc import Iterator

import msgspec

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.mapping.core_network import Linear

BURST_BYTES = 32


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def round_up(a: int, b: int) -> int:
    """The least multiple of b from a on."""
    return ceil_div(a, b) * b


def column_step(machine: CoreMachine) -> int:
    """Columns that advance together on a vector."""
    return machine.column_step


def slot_bytes(machine: CoreMachine) -> dict[str, int]:
    """Bytes of a slot of each buffer."""
    return machine.buffers.slot_bytes


def index_bits(keep_n: int, coding: str) -> float:
    """Bits of position a weight, kept or not, of blocks that keep ``keep_n`` of 16."""
    if keep_n >= K_BLOCK:
        return 0.0
    if coding == "four_bit":
        return 4 * keep_n / K_BLOCK
    if coding == "bitmap":
        return 1.0
    return math.ceil(math.log2(math.comb(K_BLOCK, keep_n))) / K_BLOCK


def scale_bits(item: Format, k: int) -> int:
    """Bits of scales, zero points and minima of a row of ``k`` codes."""
    return item.row_bits(k) - (item.packed_bits * (k // (item.packed_codes or item.group)) if item.packed_bits
                               else k * item.bits)  # fmt: skip


class Slab(msgspec.Struct, frozen=True, kw_only=True):
    """``k`` of one tile: bytes each channel moves of weights, scales and indices."""

    k: int
    weight_bytes: int
    scale_bytes: int
    index_bytes: int


class Tiling(msgspec.Struct, frozen=True, kw_only=True):
    """A core's share of a linear: ``columns`` outputs from ``first`` on, in tiles of ``tile``, K cut into slabs."""

    linear: Linear
    first: int
    columns: int
    tile: int
    slab: int
    step: int
    channels: int
    coding: str

    def spans(self) -> Iterator[tuple[int, int]]:
        """(First column, columns) of its tiles, in order."""
        for first in range(self.first, self.first + self.columns, max(1, self.tile)):
            yield first, min(self.tile, self.first + self.columns - first)

    def tiles(self) -> Iterator[tuple[int, int, bool]]:
        """(How often, columns, whether it ends the linear) of its tiles, in order."""
        if not self.columns:
            return
        whole, tail = divmod(self.columns, self.tile)
        if tail:
            if whole:
                yield whole, self.tile, False
            yield 1, tail, True
        elif whole:
            if whole > 1:
                yield whole - 1, self.tile, False
            yield 1, self.tile, True

    def slabs(self) -> list[int]:
        """Lengths of the slabs of K."""
        whole, rest = divmod(self.linear.k, self.slab)
        return [self.slab] * whole + ([rest] if rest else [])

    def slab_of(self, columns: int, k: int, last: bool) -> Slab:
        """What one slab moves; scales of a whole row come with the ``last`` slab.

        Every step of columns is whole bursts, so that a tile is its steps one after the other.
        """
        steps = ceil_div(columns, self.step)
        return Slab(k=k, **{name: steps * round_up(ceil_div(bits, 8 * self.channels), BURST_BYTES)
                            for name, bits in self._step_bits(k, last).items()})  # fmt: skip

    def part_of(self, k: int) -> Slab:
        """A part of K of one step of columns, as it lies in the slab, which pads only its end."""
        return Slab(k=k, **{name: ceil_div(bits, 8 * self.channels)
                            for name, bits in self._step_bits(k, False).items()})  # fmt: skip

    def _step_bits(self, k: int, last: bool) -> dict[str, int]:
        weight, step = self.linear.weight, self.step
        scales = step * scale_bits(weight, k) if weight.group else step * scale_bits(weight, self.linear.k) * last
        places = k // K_BLOCK * round(index_bits(self.linear.keep_n, self.coding) * K_BLOCK)
        return {
            "weight_bytes": step * k * weight.bits * self.linear.keep_n // K_BLOCK, "scale_bytes": scales,
            "index_bytes": step * places,
        }  # fmt: skip

    def all_slabs(self) -> Iterator[tuple[int, int, int, Slab]]:
        """(First column, columns, first k, slab) in the order in which the program streams them."""
        column = self.first
        for times, columns, _ in self.tiles():
            for _ in range(times):
                at = 0
                for k in self.slabs():
                    yield column, columns, at, self.slab_of(columns, k, at + k == self.linear.k)
                    at += k
                column += columns


def tiling_of(linear: Linear, first: int, columns: int, machine: CoreMachine, unit: int = 1) -> Tiling:
    """The tiling of a core's share: as wide as an MV, with the longest slab that fits a slot of every buffer.

    Tiles are multiples of ``unit`` columns (a head where heads are rotated tile by tile).
    """
    if linear.k % LINE_BYTES:
        raise InputError(f"K must be a multiple of {LINE_BYTES}, not {linear.k}, in operator {linear.name!r}")
    step, room = column_step(machine), slot_bytes(machine)
    widest = machine.mv_columns // unit * unit
    if not widest:
        raise InputError(f"an MV of {machine.mv_columns} columns must hold {unit}, in operator {linear.name!r}")
    tile = min(columns, widest)
    padded, weight = round_up(tile, step), linear.weight
    grain = math.lcm(LINE_BYTES, weight.block or 1)
    if 0 < linear.keep_n < K_BLOCK and not linear.k % (stretch := K_BLOCK * K_BLOCK // linear.keep_n):
        grain = math.lcm(grain, stretch)  # whole words
    found = Tiling(
        linear=linear, first=first, columns=columns, tile=tile, slab=linear.k, step=step,
        channels=machine.hbm.channels_per_core, coding=machine.memory_unit.index_coding,
    )  # fmt: skip

    def fits(k: int) -> bool:
        slab = found.slab_of(tile, k, True)
        return (
            padded * k * linear.keep_n // K_BLOCK <= room["weight"]
            and slab.scale_bytes * found.channels <= room["scale"]
            and slab.index_bytes * found.channels <= room["index"]
        )

    longest = linear.k
    if not fits(longest):
        longest = max((k for k in range(grain, linear.k, grain) if fits(k)), default=0)
    if not longest:
        need = padded * grain * linear.keep_n // K_BLOCK
        raise InputError(
            f"a slot of the weight, scale and index buffers ({room['weight']}, {room['scale']}, {room['index']} bytes) "
            f"must hold {grain} of K for {padded} columns, {need} bytes of weights, in operator {linear.name!r}"
        )
    even = ceil_div(linear.k, ceil_div(linear.k, longest))
    slab = min(longest, round_up(even, grain))
    return msgspec.structs.replace(found, slab=slab)
