"""Instruction streams of the published generator: attention, with block masks in prefill."""

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.flightllm_machine import FlightLlmMachine
from mixflight.mapping.block_mask import Mask
from mixflight.mapping.published_layers import FusedLayer
from mixflight.mapping.published_linear import OPERATIONS, blocks_of, ceil_div, fit
from mixflight.mapping.stream_builder import StreamBuilder, tokens

_AFTER = 1 << 60


def attention_mv(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine) -> None:
    """Attention of one token: keys or values stream through the A buffer, all heads' vectors lie in the B buffer."""
    size, room, ports = machine.block, machine.buffers["a"], machine.buffers["a"].ports
    blocks_n, blocks_k = blocks_of(layer, "n", machine), blocks_of(layer, "k", machine)
    tile = machine.matrix.mv_tile_n // size
    tiles, rounds = ceil_div(blocks_n, tile), ceil_div(tile, ports)
    addresses = size * layer.k * rounds // room.mv_width_bytes
    depth = room.depth // addresses
    fit(depth >= 2, f"the A buffer of {room.size_bytes} bytes must hold two tiles", layer)
    vector = machine.buffers["b"]
    needed, has = layer.count * layer.k, vector.depth * vector.mv_width_bytes
    fit(needed <= has, f"the B buffer must hold {needed} of {has} bytes", layer)
    results = machine.buffers["global"]
    tile_addresses = machine.matrix.mv_tile_n // (results.ports * results.mv_width_bytes)
    fit(tiles * tile * tile_addresses <= results.depth, f"the global buffer must hold {layer.n} scores a head", layer)
    build.add("LD", -1, length=layer.k * layer.count, target=0, cross=1)

    head, step = np.arange(layer.count)[:, None], np.arange(tiles)[None, :]
    place = head * (16 * tiles + 16) + 16 * step
    channel = np.arange(ports)
    filled = (np.arange(rounds)[:, None] * ports + channel < blocks_n).sum(axis=0)
    channel, filled = channel[filled > 0], filled[filled > 0]
    bank = (head * tiles + step) * addresses % room.depth
    build.add(
        "LD", place[..., None] + channel, length=size * layer.k * filled, target=4, channel=channel,
        bank_address=bank[..., None], address=(head * layer.k * layer.n)[..., None] + channel * size * layer.k,
        channels=ports, wait=tokens("LD", MV=(step[..., None] >= depth) & (channel == channel[0])),
        release=tokens("LD", MV=channel == channel[-1]),
    )  # fmt: skip
    final, fused = step == tiles - 1, bool(layer.fused)
    out = (head * tiles + step) * tile * tile_addresses % results.depth
    build.add(
        "MV", place + ports, k_blocks=blocks_k, output=1, a_address=bank, out_address=out,
        b_address=head * ceil_div(layer.k, vector.mv_width_bytes), wait=tokens("MV", LD=True),
        release=tokens(
            "MV", LD=step + 1 + depth <= tiles, MISC=final & fused,
            ST=final & (head == layer.count - 1) & (not fused),
        ),
    )  # fmt: skip
    if fused:
        head = head[:, 0]
        build.add(
            "MISC", place[:, -1] + 15, k_blocks=blocks_n, operation=OPERATIONS.index(layer.fused[0]),
            a_address=out[:, 0], out_address=out[:, 0], wait=tokens("MISC", MV=True),
            release=tokens("MISC", ST=head == layer.count - 1),
        )  # fmt: skip
    build.add("ST", _AFTER, length=layer.n * layer.count, wait=tokens("ST", **{"MISC" if fused else "MV": True}))


def attention_mm(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine, mask: Mask) -> None:
    """Attention of many tokens: 128 rows of queries or probabilities are held, keys or values stream.

    ``mask`` [heads, rows, columns] in blocks of ``mask_block`` tokens says what is computed. QK^T skips column blocks
    that no row of the group needs; AV loads the probabilities of masked blocks as zeros and computes them.
    """
    size, rows_a, room = machine.block, machine.buffers["a"], machine.buffers["b"]
    blocks_n, blocks_k, blocks_m = (blocks_of(layer, name, machine) for name in "nkm")
    tile = machine.matrix.mm_tile_m // size
    fit(layer.m % machine.matrix.mm_tile_m == 0, f"rows must be a multiple of {machine.matrix.mm_tile_m}", layer)
    fit(rows_a.depth >= blocks_k, f"the A buffer must hold {tile * size} rows of {layer.k} bytes", layer)
    addresses = blocks_k * (size * size // room.width_bytes)
    depth, depth_out = room.depth // addresses, machine.buffers["global"].depth // blocks_n
    fit(depth >= 2, f"the B buffer of {room.size_bytes} bytes must hold two columns of blocks", layer)
    fit(depth_out >= 2, f"the global buffer must hold two groups of {blocks_n} blocks", layer)
    scores = layer.kind == "qk"
    repeat = machine.mask_block // size
    needed = mask.repeat(repeat, 1).repeat(repeat, 2)[:, :blocks_m, : blocks_n if scores else blocks_k]

    heads, groups, ports = layer.count, blocks_m // tile, rows_a.ports
    by_group = needed.reshape(heads, groups, tile, -1)
    per_row = by_group.sum(axis=3)
    kept = per_row > 0
    span = 1 << 24
    start = (np.arange(heads)[:, None] * groups + np.arange(groups)) * span
    first_row, final_row = kept.argmax(axis=2), tile - 1 - kept[..., ::-1].argmax(axis=2)
    _load_rows(build, layer, machine, by_group, start, first_row, scores)

    columns: Mask = np.logical_or.reduce(by_group, axis=2) if scores else np.ones((heads, groups, blocks_n), bool)
    h, g, n = columns.nonzero()
    calc = columns.cumsum(axis=2)[h, g, n]
    total = columns.sum(axis=2)[h, g]
    place = start[h, g] + (1 << 22) + 2 * n
    bank = n * addresses % room.depth
    user = "MISC" if layer.fused else "ST"
    build.add(
        "LD", place, length=size * size * blocks_k, target=0, channel=n % ports, cross=1, bank_address=bank,
        address=h * layer.k * layer.n + n * blocks_k * size * size,
        wait=tokens("LD", MM=calc > depth), release=tokens("LD", MM=True),
    )  # fmt: skip
    build.add(
        "MM", place + 1, k_blocks=blocks_k, output=1, b_address=bank, out_address=n % machine.buffers["global"].depth,
        wait=tokens("MM", LD=True, **{user: (g >= depth_out) & (calc == 1)}),
        release=tokens(
            "MM", LD=(calc + depth <= total) | ((calc == total) & (g < groups - 1)), **{user: calc == total}
        ),
    )  # fmt: skip

    stored = kept if scores else np.ones_like(kept)
    h, g, row = stored.nonzero()
    place = start[h, g] + (1 << 23) + 32 * row
    width = per_row[h, g, row] if scores else np.full(len(h), blocks_n)
    freed = (g + 1 + depth_out <= groups) & (row == (final_row[h, g] if scores else tile - 1))
    opens = row == (first_row[h, g] if scores else 0)
    if layer.fused:
        vector = np.arange(size)
        build.add(
            "MISC", place[:, None] + vector, k_blocks=width[:, None], operation=OPERATIONS.index(layer.fused[0]),
            wait=tokens("MISC", MM=opens[:, None] & (vector == 0)),
            release=tokens("MISC", ST=vector == size - 1, MM=freed[:, None] & (vector == size - 1)),
        )  # fmt: skip
    build.add(
        "ST", place + size, length=width * size * size, channel=row % ports, channels=ports,
        address=h * layer.m * layer.n + (g * tile + row) * blocks_n * size * size,
        wait=tokens("ST", MISC=bool(layer.fused), MM=opens & (not layer.fused)),
        release=tokens("ST", MM=freed & (not layer.fused)),
    )  # fmt: skip


def _load_rows(
    build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine, by_group: Mask, start: NDArray[np.int64],
    first_row: NDArray[np.int64], scores: bool,
) -> None:  # fmt: skip
    """The held operand of every group: whole rows of queries, or probabilities in runs with zeros between."""
    size, ports = machine.block, machine.buffers["a"].ports
    blocks_k, block_bytes = layer.k // size, size * size
    per_row = by_group.sum(axis=3)
    fields = {"target": 4, "channels": ports}
    if scores:
        h, g, row = (per_row > 0).nonzero()
        build.add(
            "LD", start[h, g] + 4096 * row, length=block_bytes * blocks_k, channel=row % ports,
            address=h * layer.m * layer.k + (g * by_group.shape[2] + row) * block_bytes * blocks_k, **fields,
            wait=tokens("LD", MM=(g > 0) & (row == first_row[h, g])),
        )  # fmt: skip
        return
    h, g, row = (per_row < blocks_k).nonzero()
    build.add(
        "LD", start[h, g] + 4096 * row, length=block_bytes * (blocks_k - per_row[h, g, row]), channel=row % ports,
        zero_fill=1, **fields, wait=tokens("LD", MM=(g > 0) & (row == 0)),
    )  # fmt: skip
    edges = np.diff(by_group.astype(np.int8), axis=3, prepend=0, append=0)
    h, g, row, begin = (edges == 1).nonzero()
    end = (edges == -1).nonzero()[3]
    opens = (g > 0) & (row == 0) & (begin == 0) & (per_row[h, g, row] == blocks_k)
    build.add(
        "LD", start[h, g] + 4096 * row + 1 + begin, length=block_bytes * (end - begin), channel=row % ports,
        bank_address=begin, **fields,
        address=h * layer.m * layer.k + ((g * by_group.shape[2] + row) * blocks_k + begin) * block_bytes,
        wait=tokens("LD", MM=opens),
    )  # fmt: skip
