"""The memory image of a core: weights as its channels hold them, in the order in which its program streams them.

A slab (one tile's columns, one run of K) is its steps of columns one after the other. In a step of 64 columns channel c
of eight holds columns 8 c ... 8 c + 7: for every block of 16 along K the codes of each column, packed from the lowest
bit up. Scales lie alike in a region of their own, for every group those of each column: the FP16 scale, and the FP16
minimum where there is one. Columns beyond the share are zeros. Every step is padded to whole bursts.

N:M weights keep ``keep_n`` of each 16 along K. Their codes lie as if there were no others: a block of 16 codes is that
of 16 / keep_n blocks along K. For each such block of codes a third region has the places of each column: four bits a
code, the first one lowest.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, KEPT
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import BURST_BYTES, Tiling, ceil_div, round_up, tiling_of
from mixflight.workloads.tensor import Tensor

Octets = NDArray[np.uint8]

PLACE_BITS = 4


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


def tile_image(
    tensor: Tensor, tiling: Tiling, column: int, columns: int
) -> tuple[list[Octets], list[Octets], list[Octets]]:  # fmt: skip
    """Codes, scales and places of one tile: for every slab the bytes of each channel [channels, bytes].

    Dense weights have no bytes of places.
    """
    weight = tiling.linear.weight
    if weight.two_level or weight.packed_bits or weight.scale not in ("f16", "none") or weight.group == 0:
        raise InputError(
            f"a memory image must be of grouped codes with FP16 scales, not {weight.name}, in {tensor.name!r}"
        )
    padded = round_up(columns, tiling.step)
    rows = slice(column, column + columns)
    codes = np.zeros((padded, tiling.linear.k), np.uint8)
    codes[:columns] = tensor.codes(rows).view(np.uint8) & ((1 << weight.bits) - 1)
    keep = tiling.linear.keep_n
    if keep < K_BLOCK:
        _check_kept(tiling, tensor.name)
        codes, places = kept_codes(codes, keep, tensor.name)
    parts = [tensor.scales(rows)]
    minima = tensor.minima(rows) if weight.zero == "f16-min" else None
    if minima is not None:
        parts.append(minima)
    scales = np.zeros((padded, tiling.linear.k // weight.group, len(parts)), np.float16)
    scales[:columns] = np.stack(parts, axis=-1)
    code_slabs, scale_slabs, place_slabs, at = [], [], [], 0
    for k in tiling.slabs():
        stored = slice(at * keep // K_BLOCK, (at + k) * keep // K_BLOCK)
        code_slabs.append(_codes_of(codes[:, stored], weight.bits, tiling))
        place_slabs.append(_codes_of(places[:, stored], PLACE_BITS, tiling) if keep < K_BLOCK
                           else np.zeros((tiling.channels, 0), np.uint8))  # fmt: skip
        groups = slice(at // weight.group, (at + k) // weight.group)
        scale_slabs.append(_steps(scales[:, groups].view(np.uint8).reshape(padded, k // weight.group, -1), tiling))
        at += k
    return code_slabs, scale_slabs, place_slabs


def _check_kept(tiling: Tiling, name: str) -> None:
    """Refuse N:M weights that a core has no order of bytes for."""
    weight, keep = tiling.linear.weight, tiling.linear.keep_n
    if keep not in KEPT or tiling.coding != "four_bit":
        raise InputError(f"N:M weights must keep 2, 4 or 8 of 16, with places of four bits, not {keep} of 16 with "
                         f"{tiling.coding}, in {name!r}")  # fmt: skip
    if weight.table or weight.offset or weight.zero != "none":
        raise InputError(f"N:M weights must have codes in which 0 is zero, not {weight.name}, in {name!r}")
    stretch = K_BLOCK * K_BLOCK // keep
    if weight.group % stretch or any(k % stretch for k in tiling.slabs()):
        raise InputError(f"{keep} of 16 weights must have groups and slabs of whole {stretch} along K, not groups of "
                         f"{weight.group} and slabs of {tiling.slab}, in {name!r}")  # fmt: skip


def kept_codes(codes: Octets, keep: int, name: str) -> tuple[Octets, Octets]:
    """The codes that N:M weights [columns, K] keep, and their places in their blocks [columns, K keep / 16].

    All that are not 0; where fewer are, zeros beside them, the first ones.
    """
    blocks = codes.reshape(len(codes), -1, K_BLOCK)
    most = int(np.count_nonzero(blocks, axis=-1).max(initial=0))
    if most > keep:
        raise InputError(f"every 16 weights along K must keep at most {keep}, not {most}, in {name!r}")
    places = np.sort(np.argsort(blocks == 0, axis=-1, kind="stable")[..., :keep], axis=-1)
    found = np.take_along_axis(blocks, places, axis=-1)
    return found.reshape(len(codes), -1), places.astype(np.uint8).reshape(len(codes), -1)


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
) -> Iterator[tuple[str, Octets, Octets, Octets]]:
    """(Weight's name, codes, scales, places by channel) of each tile, in the order of the memory."""
    for name, tiling, column, columns in streamed(network, machine, share):
        codes, scales, places = (np.concatenate(part, axis=1) for part in
                                 tile_image(linears[name], tiling, column, columns))  # fmt: skip
        yield name, codes, scales, places


def read_tile(
    codes: Octets, scales: Octets, tiling: Tiling, columns: int, places: Octets | None = None
) -> tuple[Octets, NDArray[np.float16]]:  # fmt: skip
    """The inverse: codes [columns, K] and scales (and minima) [columns, groups, 1 or 2] of a tile's bytes.

    N:M weights come with ``places``; codes that are not kept are 0.
    """
    weight, keep, kept, found = tiling.linear.weight, tiling.linear.keep_n, [], []
    parts = 2 if weight.zero == "f16-min" else 1
    stored = at = start = 0
    for k in tiling.slabs():
        dense, stored = _codes_back(codes, stored, weight.bits, k * keep // K_BLOCK, tiling, columns)
        if places is not None:
            where, at = _codes_back(places, at, PLACE_BITS, k * keep // K_BLOCK, tiling, columns)
            blocks = np.zeros((columns, k // K_BLOCK, K_BLOCK), np.uint8)
            shape = columns, k // K_BLOCK, keep
            np.put_along_axis(blocks, where.reshape(shape).astype(np.int64), dense.reshape(shape), axis=-1)
            dense = blocks.reshape(columns, k)
        kept.append(dense)
        cells, start = _cells(scales, start, k // weight.group, parts * 2, tiling, columns)
        found.append(np.ascontiguousarray(cells).view(np.float16))
    return np.concatenate(kept, axis=1), np.concatenate(found, axis=1)


def _codes_back(
    data: Octets, at: int, bits: int, k: int, tiling: Tiling, columns: int
) -> tuple[Octets, int]:  # fmt: skip
    """Codes [columns, k] of a slab from byte ``at`` of every channel on, and where it ends."""
    cells, end = _cells(data, at, k // K_BLOCK, K_BLOCK * bits // 8, tiling, columns)
    found = np.unpackbits(cells, axis=-1, bitorder="little").reshape(columns, k, bits)
    return (found << np.arange(bits, dtype=np.uint8)).sum(axis=-1).astype(np.uint8), end


def _cells(
    data: Octets, at: int, blocks: int, size: int, tiling: Tiling, columns: int
) -> tuple[Octets, int]:  # fmt: skip
    """The inverse of ``_steps``: [columns, blocks or groups, bytes] from byte ``at`` on, and where they end."""
    steps, each = ceil_div(columns, tiling.step), tiling.step // tiling.channels
    whole = blocks * each * size
    stride = round_up(whole, BURST_BYTES)
    cells = data[:, at : at + steps * stride].reshape(tiling.channels, steps, stride)[..., :whole]
    cells = cells.reshape(tiling.channels, steps, blocks, each, size).transpose(1, 0, 3, 2, 4)
    return cells.reshape(steps * tiling.step, blocks, size)[:columns], at + steps * stride
