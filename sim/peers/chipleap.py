"""chipleap (chipleap 0.3.0): its GEMV, output- and weight-stationary engines, tile by tile as their controller runs.

A tile is at most 8 tokens (the array's rows where output-stationary) by the array's outputs, as long in K as half of
the weight buffer allows. A load of b bytes takes b over the port's rate and some fixed cycles; then the core computes
and, after the last tile along K, stores 32-bit results. Two slots let the next load overlap. A block of activations
that fits is loaded once for all outputs and waits for the core to drain. The fixed cycles were found by running the
tool: with them ``exact`` equals its exact schedule and ``averaged`` its closed form in each of 300 random jobs. The
tool prints the first up to 256 tiles and the second above, and so does ``chipleap``.

Limits of its machine: 16 read ports of 4 bytes a cycle, one result port of 4 bytes a cycle, buffers of at most 256 KiB.
"""

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from mixflight.sim.peers.workload import NO_TILE, Estimate, Gemm, Machine, array_limit, ceil_div

Dataflow = Literal["gemv", "os", "ws"]

PORT_BYTES = 4
READ_PORTS = 16
MOST_BUFFER_KIB = 256
MOST_TOKENS = 8  # a tile's, where the array's rows do not hold tokens
EXACT_TILES = 256  # above, the tool averages

# Cycles beside the transfers themselves.
JOB, LOAD, CORE = 1, 3, 2
WEIGHT_DMA, ACT_DMA, STORE_DMA = 24 + 3, 1 + 4, 4  # latency of external and on-chip memory, and the controller's


class _Tile(msgspec.Struct, frozen=True):
    """Cycles of one tile: its load without a resident block of activations, the core, and the store among it."""

    load: int
    core: int
    store: int


class _Block(msgspec.Struct, frozen=True):
    """The tiles that share tokens, their sums, and the cycles that load resident activations first (0: none)."""

    acts: int
    tiles: list[_Tile]
    load: int
    core: int
    store: int


def _block(acts: int, tiles: list[_Tile]) -> _Block:
    load, core, store = (sum(getattr(tile, name) for tile in tiles) for name in ("load", "core", "store"))
    return _Block(acts, tiles, acts + load, core, store)


def _sizes(extent: int, step: int) -> Iterator[int]:
    return (min(step, extent - start) for start in range(0, extent, step))


def _compute(dataflow: Dataflow, machine: Machine, m: int, k: int) -> int:
    if dataflow == "gemv":
        return m * (k // machine.cols) + 3
    if dataflow == "os":
        return k + machine.rows + machine.cols
    return k // machine.rows * (m + 2 * machine.rows + machine.cols) + 1


def _blocks(gemm: Gemm, machine: Machine, dataflow: Dataflow, weight_bits: int) -> list[_Block]:
    rate = min(machine.dram_bytes_per_cycle, READ_PORTS * PORT_BYTES)
    ports = READ_PORTS * PORT_BYTES
    buffer = min(machine.buffer_kib, MOST_BUFFER_KIB) * 1024
    align = {"gemv": machine.cols, "ws": machine.rows, "os": 4}[dataflow]
    k = ceil_div(gemm.k, align) * align
    m_tile = min(machine.rows if dataflow == "os" else MOST_TOKENS, gemm.m)
    n_tile = min(machine.rows if dataflow == "gemv" else machine.cols, gemm.n)
    resident = m_tile * k <= buffer
    longest = buffer // 2 * 8 // weight_bits // n_tile
    if not resident:
        longest = min(longest, buffer // 2 // m_tile)
    k_tile = min(longest // align * align, k)
    if k_tile < 1:
        return []
    known: dict[int, _Block] = {}
    blocks = []
    for m in _sizes(gemm.m, m_tile):
        if m not in known:
            tiles = []
            for n in _sizes(gemm.n, n_tile):
                done = 0
                for part in _sizes(k, k_tile):
                    done += part
                    load = LOAD + ceil_div(n * part * weight_bits, 8 * rate) + WEIGHT_DMA
                    load += 0 if resident else ceil_div(m * part, ports) + ACT_DMA
                    store = m * n * 4 // PORT_BYTES + STORE_DMA if done == k else 0
                    tiles.append(_Tile(load, CORE + _compute(dataflow, machine, m, part) + store, store))
            known[m] = _block(ceil_div(m * k, ports) + ACT_DMA if resident else 0, tiles)
        blocks.append(known[m])
    return blocks


def exact(blocks: list[_Block]) -> int:
    """Cycles of the schedule: a load waits for its slot, the core for its load, a resident block for the core."""
    loaded = core = core_before = 0
    for block in blocks:
        extra = block.acts
        for tile in block.tiles:
            start = max(loaded, core if extra else core_before)
            loaded = start + tile.load + extra
            core_before, core = core, max(loaded, core) + tile.core
            extra = 0
    return JOB + core


def averaged(blocks: list[_Block]) -> float:
    """Cycles with all tiles of a block alike: a first load, the slower of load and core a tile, a last core."""
    resident = blocks[0].acts > 0
    streams = [[block] for block in blocks] if resident else [blocks]
    total = float(JOB)
    for stream in streams:
        count = sum(len(block.tiles) for block in stream)
        load = sum(block.load for block in stream) / count
        core = sum(block.core for block in stream) / count
        total += load + (count - 1) * max(load, core) + core
    return total + (len(blocks) - 1) * sum(block.acts for block in blocks) / len(blocks)


def chipleap(gemm: Gemm, machine: Machine, dataflow: Dataflow, weight_bits: int = 8) -> Estimate:
    """What the tool prints for ``dataflow``."""
    blocks = _blocks(gemm, machine, dataflow, weight_bits)
    if not blocks:
        return Estimate(cycles=math.nan, limit=NO_TILE)
    tiles = sum(len(block.tiles) for block in blocks)
    cycles = exact(blocks) if tiles <= EXACT_TILES else averaged(blocks)
    load, store = (sum(getattr(block, name) for block in blocks) for name in ("load", "store"))
    compute = sum(block.core for block in blocks) - store
    if load >= compute + store:
        limit = "DRAM" if machine.dram_bytes_per_cycle <= READ_PORTS * PORT_BYTES else "read ports"
    elif store > compute:
        limit = "result port"
    elif dataflow == "ws":
        limit = "tile fill and drain"
    else:
        limit = array_limit(gemm, machine.rows) if dataflow == "os" else "MACs"
    return Estimate(cycles=cycles, limit=limit)
