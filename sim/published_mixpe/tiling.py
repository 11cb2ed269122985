"""Exhaustive search for the schedule of one product: loop orders times power-of-two tilings, output-stationary.

A schedule cuts a product along five loops (batch, output column, output row, input channel, output channel). The bits
of an operand that a loop order moves grow with every loop around the tile, except that as long as the operand's
working set fits into half of its buffer, loops that do not index it cost nothing. Cycles are

    compute + max(0, ceil(rest of the traffic / DRAM width) - compute) + first load + last store

and the schedule with the fewest cycles wins, the energy only breaks ties. Three oddities of the published model are
kept: outputs are never checked against their buffer; the last store is free as soon as any output loop fits; a
weight tile is padded to the array's *rows* along K and an activation tile to its *columns*.
"""

from itertools import permutations
from typing import Any

import numpy as np
from numba import njit

LOOPS = 5
BATCH, COLUMN, ROW, IN, OUT = range(LOOPS)
ORDERS = np.array(list(permutations(range(LOOPS))), dtype=np.int64)  # outermost loop first

# Loops that index an operand.
OF_WEIGHT = np.array([False, False, False, True, True])
OF_ACT = np.array([True, True, True, True, False])
OF_OUTPUT = np.array([True, True, True, False, True])

# What the search returns.
COUNTS = (
    "cycles", "stall_cycles", "weight_read", "weight_write", "act_read", "act_write", "output_read", "output_write",
    "dram_read", "dram_write",
)  # fmt: skip
PRICES = len(COUNTS)  # one price a count; see energy.prices


@njit(cache=True)
def ceil_div(a: Any, b: Any) -> Any:
    """a / b rounded up."""
    return -(-a // b)


@njit(cache=True)
def moved_bits(tile_bits: int, tiles: Any, order: Any, indexed_by: Any, half_buffer: int) -> Any:
    """(bits moved in all, bits of the largest working set that fits, whether any loop around the tile fits)."""
    moved = tile_bits
    held = tile_bits
    fits = True
    grew = False
    for i in range(LOOPS - 1, -1, -1):
        loop = order[i]
        if not fits:
            moved *= tiles[loop]
        elif indexed_by[loop]:
            moved *= tiles[loop]
            if moved > half_buffer:
                fits = False
            else:
                held = moved
                grew = True
    return moved, held, grew


@njit(cache=True)
def search(
    shape: Any, kernel_area: int, act_bits: int, weight_bits: int, output_bits: int, rows: int, cols: int,
    act_factor: int, weight_factor: int, half_buffers: Any, dram_width: int, prices: Any, orders: Any,
) -> Any:  # fmt: skip
    """The best schedule's counts (order of ``COUNTS``), its tile sizes and its loop order.

    ``shape`` has a size a loop; column and row are cut alike. ``half_buffers`` are the bits of weight, activation and
    output half-buffers; ``prices`` are in the order of ``COUNTS``, the second price applying to cycles that do not
    stall. A tiling whose compute cycles alone exceed the best total is skipped, which cannot change the result.
    """
    best = np.zeros(PRICES, dtype=np.int64)
    best[0] = -1
    best_tile = np.zeros(LOOPS, dtype=np.int64)
    best_order = np.zeros(LOOPS, dtype=np.int64)
    best_energy = 0.0
    steps = np.zeros(LOOPS, dtype=np.int64)
    for loop in range(LOOPS):
        while (1 << steps[loop]) < shape[loop]:
            steps[loop] += 1
    tile = np.ones(LOOPS, dtype=np.int64)
    tiles = np.ones(LOOPS, dtype=np.int64)
    counts = np.zeros(PRICES, dtype=np.int64)
    k_of_weight = rows * weight_factor
    k_of_act = cols * act_factor
    for b in range(steps[BATCH] + 1):
        for side in range(steps[ROW] + 1):
            for i in range(steps[IN] + 1):
                for o in range(steps[OUT] + 1):
                    tile[BATCH] = min(1 << b, shape[BATCH])
                    tile[COLUMN] = min(1 << side, shape[COLUMN])
                    tile[ROW] = tile[COLUMN]
                    tile[IN] = min(1 << i, shape[IN])
                    tile[OUT] = min(1 << o, shape[OUT])
                    count = 1
                    for loop in range(LOOPS):
                        tiles[loop] = ceil_div(shape[loop], tile[loop])
                        count *= tiles[loop]
                    k = kernel_area * tile[IN]
                    m = tile[BATCH] * tile[COLUMN] * tile[ROW]
                    n = tile[OUT]
                    weight_tile = ceil_div(k, k_of_weight) * k_of_weight * n * weight_bits
                    act_tile = ceil_div(k, k_of_act) * k_of_act * m * act_bits
                    if weight_tile > half_buffers[0] or act_tile > half_buffers[1]:
                        continue
                    compute = count * ceil_div(m, rows * act_factor) * ceil_div(n, cols * weight_factor) * k
                    if best[0] >= 0 and compute > best[0]:
                        continue
                    output_tile = m * n * output_bits
                    for which in range(orders.shape[0]):
                        order = orders[which]
                        weight, first_weight, _ = moved_bits(weight_tile, tiles, order, OF_WEIGHT, half_buffers[0])
                        act, first_act, _ = moved_bits(act_tile, tiles, order, OF_ACT, half_buffers[1])
                        output, _, grew = moved_bits(output_tile, tiles, order, OF_OUTPUT, half_buffers[2])
                        first = first_weight + first_act
                        last = 0 if grew else output_tile
                        rest = ceil_div(weight + act + output - first - last, dram_width)
                        stall = max(0, rest - compute) + ceil_div(first, dram_width) + ceil_div(last, dram_width)
                        if best[0] >= 0 and compute + stall > best[0]:
                            continue
                        counts[0] = compute + stall
                        counts[1] = stall
                        counts[2] = count * n * m * k * weight_bits
                        counts[3] = weight
                        counts[4] = count * n * m * k * act_bits
                        counts[5] = act
                        counts[6] = output + count * n * m * output_bits
                        counts[7] = count * n * m * output_bits
                        counts[8] = weight + act
                        counts[9] = output
                        energy = counts[0] * prices[0] + (counts[0] - stall) * prices[1]
                        for item in range(2, PRICES):
                            energy += counts[item] * prices[item]
                        if best[0] < 0 or counts[0] < best[0] or energy < best_energy:
                            for item in range(PRICES):
                                best[item] = counts[item]
                            for loop in range(LOOPS):
                                best_tile[loop] = tile[loop]
                                best_order[loop] = order[loop]
                            best_energy = energy
    return best, best_tile, best_order
