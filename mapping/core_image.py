"""The memory image of a core: weights as its channels hold them, in the order in which its program streams them.

A slab (one tile's columns, one run of K) is its steps of columns one after the other. In a step of 64 columns channel c
of eight holds columns 8 c ... 8 c + 7: for every block of 16 along K the codes of each column, packed from the lowest
bit up. Scales lie alike in a region of their own, for every group those of each column: the FP16 scale, and the FP16
minimum where there is one. Columns beyond the share are zeros. Every step is padded to whole bursts.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import BURST_BYTES, Tiling, ceil_div, round_up, tiling_of
from mixflight.workloads.tensor import Tensor

Octets = NDArray[np.uint8]


def streamed(network: Network, machine: CoreMachine, share: Share) -> Iterator[tuple[str, Tiling, int, int]]:
    """(Weight's name, its tiling, a tile's first column, columns) in the order of the program."""
    for index, layer in enumerate(network.layers):
        tiles = tilings(network, machine, share, layer)
        for names in (("k",), ("v",), ("q",), ("o",), ("gate", "up"), ("down",)):
            cut = [tiles[name] for name in names if name in tiles]
            for at in range(max((ceil_div(item.columns, item.tile) for item in cut), default=0)):
                for item in cut:
                    column = item.first + at * item.tile
                    name = f"layers.{index}.{item.linear.name}"
                    yield name, item, column, min(item.tile, item.first + item.columns - column)
    head = tiling_of(network.head, *share.vocab, machine)
    for column in range(head.first, head.first + head.columns, max(1, head.tile)):
        yield "head", head, column, min(head.tile, head.first + head.columns - column)


def tile_image(tensor: Tensor, tiling: Tiling, column: int, columns: int) -> tuple[list[Octets], list[Octets]]:
    """Codes and scales of one tile: for every slab the bytes of each channel [channels, bytes]."""
    weight = tiling.linear.weight
    if weight.two_level or weight.packed_bits or weight.scale not in ("f16", "none") or weight.group == 0:
        raise InputError(
            f"a memory image must be of grouped codes with FP16 scales, not {weight.name}, in {tensor.name!r}"
        )
    padded = round_up(columns, tiling.step)
    rows = slice(column, column + columns)
    codes = np.zeros((padded, tiling.linear.k), np.uint8)
    codes[:columns] = tensor.codes(rows).view(np.uint8) & ((1 << weight.bits) - 1)
    parts = [tensor.scales(rows)]
    minima = tensor.minima(rows) if weight.zero == "f16-min" else None
    if minima is not None:
        parts.append(minima)
    scales = np.zeros((padded, tiling.linear.k // weight.group, len(parts)), np.float16)
    scales[:columns] = np.stack(parts, axis=-1)
    code_slabs, scale_slabs, at = [], [], 0
    for k in tiling.slabs():
        code_slabs.append(_codes_of(codes[:, at : at + k], weight.bits, tiling))
        groups = slice(at // weight.group, (at + k) // weight.group)
        scale_slabs.append(_steps(scales[:, groups].view(np.uint8).reshape(padded, k // weight.group, -1), tiling))
        at += k
    return code_slabs, scale_slabs


def _codes_of(codes: Octets, bits: int, tiling: Tiling) -> Octets:
    """Packed codes of a slab by channel."""
    columns, k = codes.shape
    blocks = codes.reshape(columns, k // K_BLOCK, K_BLOCK)
    if bits == 8:
        packed = blocks
    elif bits == 4:
        packed = (blocks[..., 0::2] | blocks[..., 1::2] << 4).astype(np.uint8)
    else:
        packed = np.packbits(
            (blocks[..., None] >> np.arange(bits, dtype=np.uint8) & 1).reshape(columns, k // K_BLOCK, -1), axis=-1,
            bitorder="little",
        )  # fmt: skip
    return _steps(packed, tiling)


def _steps(cells: Octets, tiling: Tiling) -> Octets:
    """[Columns, blocks or groups, bytes] as [channels, bytes]: steps, in each the blocks, in each the columns."""
    columns, blocks, size = cells.shape
    each = tiling.step // tiling.channels
    shaped = cells.reshape(columns // tiling.step, tiling.channels, each, blocks, size).transpose(1, 0, 3, 2, 4)
    flat = shaped.reshape(tiling.channels, columns // tiling.step, -1)
    padded = np.zeros((*flat.shape[:2], round_up(flat.shape[2], BURST_BYTES)), np.uint8)
    padded[..., : flat.shape[2]] = flat
    return padded.reshape(tiling.channels, -1)


def core_image(
    linears: Mapping[str, Tensor], network: Network, machine: CoreMachine, share: Share
) -> Iterator[tuple[str, Octets, Octets]]:
    """(Weight's name, codes, scales by channel) of each tile, in the order of the memory."""
    for name, tiling, column, columns in streamed(network, machine, share):
        codes, scales = tile_image(linears[name], tiling, column, columns)
        yield name, np.concatenate(codes, axis=1), np.concatenate(scales, axis=1)


def read_tile(
    codes: Octets, scales: Octets, tiling: Tiling, columns: int
) -> tuple[Octets, NDArray[np.float16]]:  # fmt: skip
    """The inverse: codes [columns, K] and scales (and minima) [columns, groups, 1 or 2] of a tile's bytes."""
    weight, steps = tiling.linear.weight, ceil_div(columns, tiling.step)
    each, kept, found = tiling.step // tiling.channels, [], []
    parts = 2 if weight.zero == "f16-min" else 1
    at = place = 0
    for k in tiling.slabs():
        size = each * k * weight.bits // 8
        stride = round_up(size, BURST_BYTES)
        cells = codes[:, at : at + steps * stride].reshape(tiling.channels, steps, stride)[..., :size]
        bits = np.unpackbits(cells.reshape(tiling.channels, steps, k // K_BLOCK, each, -1), axis=-1, bitorder="little")
        bits = bits.reshape(*bits.shape[:-1], K_BLOCK, weight.bits)
        values = (bits << np.arange(weight.bits, dtype=np.uint8)).sum(axis=-1).astype(np.uint8)
        kept.append(values.transpose(1, 0, 3, 2, 4).reshape(steps * tiling.step, k)[:columns])
        at += steps * stride
        size = each * (k // weight.group) * parts * 2
        stride = round_up(size, BURST_BYTES)
        cells = scales[:, place : place + steps * stride].reshape(tiling.channels, steps, stride)[..., :size]
        halves = np.ascontiguousarray(cells).view(np.float16)
        halves = halves.reshape(tiling.channels, steps, k // weight.group, each, parts).transpose(1, 0, 3, 2, 4)
        found.append(halves.reshape(steps * tiling.step, k // weight.group, parts)[:columns])
        place += steps * stride
    return np.concatenate(kept, axis=1), np.concatenate(found, axis=1)
