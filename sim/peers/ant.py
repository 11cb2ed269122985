"""The simulator of ANT (clevercool/ANT-Quantization bc84067): the schedule with the fewest cycles.

MixPE's published model comes from the same family, and its tiling engine (``sim.published_mixpe.tiling``) supplies how
loop orders move operands; ANT's settings are outputs of 16 bits and three equal buffers. Output-stationary, a tile
computes for ceil(M / R) ceil(N / C) K cycles, weight-stationary for ceil(K / R) ceil(N / C) M. Operands of 4 bits
widen the array's side by two.
"""

import functools
from typing import Any

import numpy as np
from numba import njit

from mixflight.sim.peers.workload import NO_TILE, Estimate, Gemm, Machine, array_limit
from mixflight.sim.published_mixpe.tiling import BATCH as TOKENS
from mixflight.sim.published_mixpe.tiling import IN as INNER
from mixflight.sim.published_mixpe.tiling import LOOPS, OF_ACT, OF_OUTPUT, OF_WEIGHT, ORDERS, ceil_div, moved_bits
from mixflight.sim.published_mixpe.tiling import OUT as OUTPUTS

OUTPUT_BITS = 16
HIGH_BITS = 8

# A product has no image loops: their place in the order does not matter.
_IMAGE_LOOPS = (1, 2)
_ORDERS = ORDERS[(ORDERS[:, 0] == _IMAGE_LOOPS[0]) & (ORDERS[:, 1] == _IMAGE_LOOPS[1])]


@njit(cache=True)
def fewest_cycles(
    m: int, n: int, k: int, act_bits: int, weight_bits: int, act_factor: int, weight_factor: int,
    rows: int, cols: int, half_buffer: int, dram_bits: int, weight_stationary: bool, orders: Any,
) -> Any:  # fmt: skip
    """Cycles of the best schedule; -1 where no tile fits."""
    best = -1
    tile = np.ones(LOOPS, dtype=np.int64)
    tiles = np.ones(LOOPS, dtype=np.int64)
    b = 1
    while b < 2 * m:
        i = 1
        while i < 2 * k:
            o = 1
            while o < 2 * n:
                tile[TOKENS], tile[INNER], tile[OUTPUTS] = min(b, m), min(i, k), min(o, n)
                tiles[TOKENS], tiles[INNER] = ceil_div(m, tile[TOKENS]), ceil_div(k, tile[INNER])
                tiles[OUTPUTS] = ceil_div(n, tile[OUTPUTS])
                o *= 2
                weight_rows, act_cols = rows * weight_factor, cols * act_factor
                weight_tile = ceil_div(tile[INNER], weight_rows) * weight_rows * tile[OUTPUTS] * weight_bits
                act_tile = ceil_div(tile[INNER], act_cols) * act_cols * tile[TOKENS] * act_bits
                if weight_tile > half_buffer or act_tile > half_buffer:
                    continue
                if weight_stationary:
                    steps = ceil_div(tile[INNER], rows * act_factor) * tile[TOKENS]
                else:
                    steps = ceil_div(tile[TOKENS], rows * act_factor) * tile[INNER]
                steps *= ceil_div(tile[OUTPUTS], cols * weight_factor)
                compute = tiles[TOKENS] * tiles[INNER] * tiles[OUTPUTS] * steps
                if 0 <= best < compute:
                    continue
                output_tile = tile[TOKENS] * tile[OUTPUTS] * OUTPUT_BITS
                for which in range(orders.shape[0]):
                    order = orders[which]
                    weight, first_weight, _ = moved_bits(weight_tile, tiles, order, OF_WEIGHT, half_buffer)
                    act, first_act, _ = moved_bits(act_tile, tiles, order, OF_ACT, half_buffer)
                    output, _, grew = moved_bits(output_tile, tiles, order, OF_OUTPUT, half_buffer)
                    first = first_weight + first_act
                    last = 0 if grew else output_tile
                    rest = ceil_div(weight + act + output - first - last, dram_bits)
                    cycles = max(compute, rest) + ceil_div(first, dram_bits) + ceil_div(last, dram_bits)
                    if best < 0 or cycles < best:
                        best = cycles
            i *= 2
        b *= 2
    return best


@functools.cache
def _estimate(gemm: Gemm, machine: Machine, weight_stationary: bool, act_bits: int, weight_bits: int) -> Estimate:
    cycles = fewest_cycles(
        gemm.m, gemm.n, gemm.k, act_bits, weight_bits, HIGH_BITS // act_bits, HIGH_BITS // weight_bits,
        machine.rows, machine.cols, machine.buffer_kib * 1024 * 8 // 2, 8 * machine.dram_bytes_per_cycle,
        weight_stationary, _ORDERS,
    )  # fmt: skip
    if cycles < 0:
        return Estimate(cycles=float("nan"), limit=NO_TILE)
    inner, outer = (gemm.k, gemm.m) if weight_stationary else (gemm.m, gemm.k)
    compute = ceil_div(inner, machine.rows * (HIGH_BITS // act_bits)) * outer
    compute *= ceil_div(gemm.n, machine.cols * (HIGH_BITS // weight_bits))
    limit = "MACs" if weight_stationary else array_limit(gemm, machine.rows)
    if gemm.bytes_moved / machine.dram_bytes_per_cycle > compute:
        limit = "DRAM"
    return Estimate(cycles=cycles, limit=limit)


def output_stationary(gemm: Gemm, machine: Machine, act_bits: int = 8, weight_bits: int = 8) -> Estimate:
    """The best schedule with results held in the array."""
    return _estimate(gemm, machine, False, act_bits, weight_bits)


def weight_stationary(gemm: Gemm, machine: Machine, act_bits: int = 8, weight_bits: int = 8) -> Estimate:
    """The best schedule with weights held in the array."""
    return _estimate(gemm, machine, True, act_bits, weight_bits)
