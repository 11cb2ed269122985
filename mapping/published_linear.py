"""Instruction streams of the published generator: norms, cache appends and linears.

What follows the weights' stream is double-buffered: a load waits for the tile computed ``depth`` tiles before, where
``depth`` is how many slabs of K the buffers hold. K is cut until two fit.
"""

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.flightllm_machine import FlightLlmMachine
from mixflight.arch.isa import Ints
from mixflight.mapping.published_layers import FusedLayer
from mixflight.mapping.stream_builder import StreamBuilder, tokens

OPERATIONS = ("add", "multiply", "softmax", "layernorm", "rmsnorm", "silu")
ELEMENTWISE = ("add", "multiply")
BIAS_BYTES = 4

_BEFORE, _AFTER = -10, 1 << 60


class Slabs(msgspec.Struct, frozen=True, kw_only=True):
    """K in slabs of ``blocks`` blocks; the buffers hold ``depth`` slabs."""

    blocks: Ints
    depth: int

    def __len__(self) -> int:
        return len(self.blocks)


def ceil_div(value: int, unit: int) -> int:
    """``value / unit``, rounded up."""
    return -(-value // unit)


def blocks_of(layer: FusedLayer, name: str, machine: FlightLlmMachine) -> int:
    """Blocks along the dimension ``name``, which must be whole."""
    size = getattr(layer, name)
    if size % machine.block:
        raise InputError(f"{name} must be a multiple of {machine.block}, not {size}, in operator {layer.name!r}")
    return int(size) // machine.block


def fit(condition: bool, what: str, layer: FusedLayer) -> None:
    """Refuse ``layer`` unless ``condition``: a buffer overflows."""
    if not condition:
        raise InputError(f"{what}, in operator {layer.name!r} ({layer.m} x {layer.n} x {layer.k})")


def norm(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine) -> None:
    """One vector after the other through the global buffer, loaded and stored."""
    room = machine.buffers["global"]
    addresses = ceil_div(layer.n, room.misc_width_bytes * room.ports)
    depth = room.depth // addresses
    fit(depth >= 2, f"the global buffer of {room.size_bytes} bytes must hold two vectors", layer)
    row = np.arange(layer.m)
    full, more = row >= depth, row + 1 + depth <= layer.m
    at = row * addresses % room.depth
    build.add(
        "LD", 3 * row, length=layer.n, target=5, bank_address=at, address=row * layer.n,
        wait=tokens("LD", MISC=full), release=tokens("LD", MISC=True),
    )  # fmt: skip
    build.add(
        "MISC", 3 * row + 1, k_blocks=blocks_of(layer, "n", machine), operation=OPERATIONS.index(layer.fused[0]),
        a_address=at, out_address=at,
        wait=tokens("MISC", LD=True, ST=full), release=tokens("MISC", ST=True, LD=more),
    )  # fmt: skip
    build.add(
        "ST", 3 * row + 2, length=layer.n, bank_address=at, address=row * layer.n,
        wait=tokens("ST", MISC=True), release=tokens("ST", MISC=more),
    )  # fmt: skip


def concat(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine) -> None:
    """The cache read once more over all channels; the published generator stores nothing and waits for nothing."""
    ports = machine.buffers["a"].ports
    length = ceil_div(layer.count * layer.m * layer.n, ports)
    channel = np.arange(ports)
    build.add("LD", channel, length=length, target=5, channel=channel, channels=ports)
    build.add("ST", _AFTER, length=0)


def linear_mv(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine) -> None:
    """A linear on one token: weights stream through the A buffer, eight channels at once."""
    size, room, ports = machine.block, machine.buffers["a"], machine.buffers["a"].ports
    blocks_n, blocks_k = blocks_of(layer, "n", machine), blocks_of(layer, "k", machine)
    tile = machine.matrix.mv_tile_n // size
    groups, rounds = ceil_div(blocks_n, tile), ceil_div(tile, ports)
    slabs = _slabs(
        layer, machine, blocks_k, room.depth, 8 * (2 * size * rounds // room.mv_width_bytes),
        8 * (size * rounds // machine.buffers["meta"].width_bytes), rounds,
    )  # fmt: skip
    vector = machine.buffers["b"]
    fit(layer.k <= vector.depth * vector.mv_width_bytes, f"the B buffer must hold {layer.k} bytes", layer)
    _fit_bias(layer, machine)
    build.add("LD", _BEFORE, length=layer.k, target=0, cross=1)
    if layer.bias:
        build.add("LD", _BEFORE + 1, length=BIAS_BYTES * layer.n, target=2)

    pieces = len(slabs)
    stride = 16 * pieces + 64
    group, piece = np.arange(groups)[:, None], np.arange(pieces)[None, :]
    calc, total = group * pieces + piece, groups * pieces
    place = group * stride + 16 * piece
    blocks = np.broadcast_to(slabs.blocks, calc.shape)
    slab_bytes = blocks * size * size
    before = np.cumsum(slab_bytes.ravel()).reshape(calc.shape) - slab_bytes
    bank = before * rounds // room.mv_width_bytes % room.depth
    channel = np.arange(ports)
    filled = (np.arange(rounds)[:, None] * ports + channel < blocks_n).sum(axis=0)
    channel, filled = channel[filled > 0], filled[filled > 0]
    build.add(
        "LD", place[..., None] + channel, length=slab_bytes[..., None] * filled, target=4, channel=channel,
        bank_address=bank[..., None], address=before[..., None] * rounds, channels=ports,
        ratio=layer.widening / layer.density,
        wait=tokens("LD", MV=(calc[..., None] >= slabs.depth) & (channel == channel[0])),
        release=tokens("LD", MV=channel == channel[-1]),
    )  # fmt: skip
    last = piece == pieces - 1
    out = group * ceil_div(machine.matrix.mv_tile_n, machine.buffers["global"].mv_width_bytes)
    out = out % machine.buffers["global"].depth
    build.add(
        "MV", place + ports, k_blocks=blocks, output=last, bias=layer.bias, sparse=layer.density < 1,
        a_address=bank, out_address=out, density=layer.density, wait=tokens("MV", LD=True),
        release=tokens(
            "MV", LD=calc + 1 + slabs.depth <= total, ST=(calc == total - 1) & (not layer.fused),
            MISC=last & bool(layer.fused),
        ),
    )  # fmt: skip
    _fused(
        build, layer, machine, place=group[:, 0] * stride + 16 * pieces, engine="MV",
        load_bytes=machine.matrix.mv_tile_n, k_blocks=tile, store=group[:, 0] == groups - 1, address=out[:, 0],
    )  # fmt: skip
    before_store = "MISC" if layer.fused else "MV"
    build.add("ST", _AFTER, length=layer.n, wait=tokens("ST", **{before_store: True}))


def linear_mm(build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine) -> None:
    """A linear on many tokens: 128 rows of activations are held, weights stream through the B buffer."""
    size, rows_a, room = machine.block, machine.buffers["a"], machine.buffers["b"]
    blocks_n, blocks_k, blocks_m = (blocks_of(layer, name, machine) for name in "nkm")
    tile = machine.matrix.mm_tile_m // size
    fit(layer.m % machine.matrix.mm_tile_m == 0, f"rows must be a multiple of {machine.matrix.mm_tile_m}", layer)
    fit(rows_a.depth >= blocks_k, f"the A buffer must hold {tile * size} rows of {layer.k} bytes", layer)
    slabs = _slabs(
        layer, machine, blocks_k, room.depth, 8 * (2 * size // room.width_bytes),
        8 * (size // machine.buffers["meta"].width_bytes), 1,
    )  # fmt: skip
    _fit_bias(layer, machine)
    if layer.bias:
        build.add("LD", _BEFORE, length=BIAS_BYTES * layer.n, target=2)

    groups, pieces, depth_out = blocks_m // tile, len(slabs), machine.buffers["global"].depth
    stride = 2 * pieces + 64
    group = np.arange(groups)[:, None, None]
    column, piece = np.arange(blocks_n)[None, :, None], np.arange(pieces)[None, None, :]
    start = group * (blocks_n * stride + tile)
    channel = np.arange(tile)
    build.add(
        "LD", start[:, 0] + channel, length=size * size * blocks_k, target=4, channel=channel % rows_a.ports,
        address=(group[:, 0] * tile + channel) * size * size * blocks_k, channels=rows_a.ports,
        wait=tokens("LD", MM=(group[:, 0] > 0) & (channel == 0)),
    )  # fmt: skip
    calc, total = np.broadcast_arrays(column * pieces + piece, group)[0], blocks_n * pieces
    place = start + tile + column * stride + 2 * piece
    last, blocks = piece == pieces - 1, np.broadcast_to(slabs.blocks, calc.shape)
    before = (column * blocks_k + np.cumsum(slabs.blocks) - slabs.blocks) * size * size
    bank = before // room.width_bytes % room.depth
    build.add(
        "LD", place, length=blocks * size * size, target=0, cross=1, ratio=layer.widening / layer.density,
        bank_address=bank, address=before,
        wait=tokens("LD", MM=calc >= slabs.depth), release=tokens("LD", MM=True),
    )  # fmt: skip
    user = "MISC" if layer.fused else "ST"
    freed = column + 1 + depth_out <= blocks_n
    build.add(
        "MM", place + 1, k_blocks=blocks, output=last, bias=layer.bias, sparse=layer.density < 1,
        b_address=bank, out_address=column % depth_out, density=layer.density,
        wait=tokens("MM", LD=True, **{user: last & (column >= depth_out)}),
        release=tokens(
            "MM", LD=(calc + 1 + slabs.depth <= total) | ((calc == total - 1) & (group < groups - 1)), **{user: last}
        ),
    )  # fmt: skip
    place = (start + tile + column * stride + 2 * pieces)[..., 0]
    _fused(
        build, layer, machine, place=place, engine="MM", load_bytes=size * size, k_blocks=tile, store=True,
        address=column[..., 0] % depth_out, freed=freed[..., 0],
    )  # fmt: skip
    row = group * tile + channel  # the published last row stores its remainder, 16 bytes for whole blocks
    length = np.where(row == blocks_m - 1, layer.m - (blocks_m - 1) * size, size * size)
    build.add(
        "ST", place[..., None] + 48 + channel, length=length, channel=channel % rows_a.ports, channels=rows_a.ports,
        bank_address=column % depth_out, address=(row * blocks_n + column) * size * size,
        wait=tokens("ST", **{"MISC" if layer.fused else "MM": channel == 0}),
        release=tokens("ST", MM=freed & (channel == tile - 1) & (not layer.fused)),
    )  # fmt: skip


def _fused(
    build: StreamBuilder, layer: FusedLayer, machine: FlightLlmMachine, *, place: Ints, engine: str, load_bytes: int,
    k_blocks: int, store: bool | np.ndarray, address: Ints, freed: bool | np.ndarray = False,
) -> None:  # fmt: skip
    """The operations behind each tile; each of up to two other operands is loaded over all channels."""
    operands = min(2, len(layer.fused)) if set(layer.fused) <= set(ELEMENTWISE) else 0
    ports = machine.buffers["global"].ports
    channel = np.arange(ports)
    for operand in range(operands):
        build.add(
            "LD", place[..., None] + operand * ports + channel, length=load_bytes, target=5, channel=channel,
            channels=ports, release=tokens("LD", MISC=channel == ports - 1),
        )  # fmt: skip
    for index, operation in enumerate(layer.fused):
        final = index == len(layer.fused) - 1
        release = {"ST": store, engine: freed} if final else {}
        build.add(
            "MISC", place + 2 * ports + index, k_blocks=k_blocks, operation=OPERATIONS.index(operation),
            a_address=address, out_address=address,
            wait=tokens("MISC", LD=index < operands, **{engine: index == 0}), release=tokens("MISC", **release),
        )  # fmt: skip


def _slabs(
    layer: FusedLayer, machine: FlightLlmMachine, blocks_k: int, depth: int, addresses: int, meta_addresses: int,
    rounds: int,
) -> Slabs:  # fmt: skip
    """K cut into the fewest slabs of which weights and indices fit twice.

    ``addresses`` and ``meta_addresses`` of a dense block column, ``rounds`` of which share a slab's count.
    """
    meta = machine.buffers["meta"].depth
    count = ceil_div(blocks_k * addresses, depth // 2)
    while True:
        fit(count <= blocks_k, f"the weight and index buffers must hold two slabs of {machine.block} of K", layer)
        size = blocks_k // count
        held = depth // max(1, size * addresses // rounds), meta // max(1, size * meta_addresses // rounds)
        if min(held) >= 2:
            break
        count += 1
    cuts = np.minimum(np.arange(0, blocks_k + size, size), blocks_k)
    blocks = np.diff(cuts)
    blocks = blocks[blocks > 0].astype(np.int64)
    return Slabs(blocks=blocks, depth=min(*held, meta // ceil_div(blocks_k, len(blocks))))


def _fit_bias(layer: FusedLayer, machine: FlightLlmMachine) -> None:
    room = machine.buffers["bias"].size_bytes
    fit(BIAS_BYTES * layer.n <= room, f"the bias buffer must hold {BIAS_BYTES * layer.n} of {room} bytes", layer)
