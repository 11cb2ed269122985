"""The compiled loops of ``table_engine``: every operator of a table blocked, timed and counted on one array.

``_blocking`` is ``mapping.matrix``'s choice, ``_counts`` the engine's count of actions, both over numbers in place of
records; a test holds them equal on random machines and operators. ``_estimate`` is the closed form that stands in for
``matrix_kernel.matrix_cycles`` where a thousandth of its time must do.
"""

from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.stationary_pipeline import visit_steps
from mixflight.mapping.homes import FP32_BYTES
from mixflight.sim.matrix_kernel import _slab_cycles, matrix_cycles
from mixflight.sim.operator_table import ZEROS

_visit = njit(visit_steps)

FP32_BITS = 8 * FP32_BYTES
ACTIONS = (
    ("pe", "mac"), ("sram.weight", "write_bit"), ("sram.weight", "read_bit"), ("sram.act", "read_bit"),
    ("sram.act", "write_bit"), ("sram.output", "write_bit"), ("sram.output", "read_bit"), ("dram", "read_bit"),
    ("dram", "write_bit"), ("align", "fp16"), ("lanes", "fp32_mul"), ("lanes", "fp32_add"),
    ("accumulator", "read_bit"), ("accumulator", "write_bit"), ("row_sum", "int_add"), ("lanes", "zero_correct"),
    ("sfu", "fp32_mul"), ("sfu", "fp32_add"), ("sfu", "table_read"), ("pe", "mac_4bit"),
)  # fmt: skip
"""What is counted, by place; ``pe`` stands for the array's own kind of PE."""
LIMITS = ("dram", "array", "array edge", "lanes", "sfu", "latency")
_DRAM, _ARRAY, _EDGE, _LANES, _SFU, _LATENCY = range(len(LIMITS))
_NONE, _INT4, _MINIMUM = (ZEROS.index(zero) for zero in ("none", "int4", "f16-min"))
_MAC_4BIT = ACTIONS.index(("pe", "mac_4bit"))
NO_FIT = -1


@njit(cache=True)
def _ceil(a: int, b: int) -> Any:
    return -(-a // b)


@njit(cache=True)
def _tile(rows: int, cols: int, tokens: int, split: int) -> Any:
    return (tokens, cols) if tokens else (rows // split, cols * split)


@njit(cache=True)
def _array_steps(m: int, n: int, k: int, group: int, passes: int, rows: int, tokens: int, tile: Any) -> Any:
    col_tiles = _ceil(n, tile[1])
    if not tokens:
        return _ceil(m, tile[0]) * col_tiles * passes * k
    full, rest = m // tile[0], m % tile[0]
    steps = full * _visit(group, rows, tile[0], passes)
    if rest:
        steps += _visit(group, rows, rest, passes)
    return col_tiles * _ceil(k, group) * steps


@njit(cache=True)
def _slab(k: int, group: int, longest: int, whole_groups: bool) -> Any:
    if longest >= k:
        return k
    step = group if whole_groups or longest >= group else 1
    longest -= longest % step
    if longest < 1:
        return 0
    even = _ceil(k, _ceil(k, longest))
    return _ceil(even, step) * step


@njit(cache=True)
def _blocking(
    count: int, m: int, n: int, k: int, group: int, passes: int, causal: int, weight_bytes: int, act_bytes: int,
    acts_moved: bool, results_moved: bool, rows: int, cols: int, tokens: int, splits: int, halves: Any, rate: float,
) -> Any:  # fmt: skip
    """(m_block, n_block, k_slab, split) of the least cost as ``mapping.matrix`` ranks them; k_slab 0: none fits."""
    best = (np.inf, 0.0, 0.0, 0.0, 0.0)
    found = (0, 0, 0, 1)
    per_weight = weight_bytes / (n * k)
    per_act = act_bytes / (m * k)
    split = 1
    while True:
        tile = _tile(rows, cols, tokens, split)
        compute = float(count * _array_steps(m, n, k, group, passes, rows, tokens, tile))
        m_block = tile[0]
        while True:
            n_block = tile[1]
            while True:
                high, wide = min(m_block, m), min(n_block, n)
                single = m_block == tile[0] and n_block == tile[1]
                longest = int(halves[0] / (wide * per_weight)) if per_weight else k
                if acts_moved:
                    longest = min(longest, int(halves[1] / (high * per_act)))
                slab = 0
                if longest >= k or single or high * wide * FP32_BYTES <= halves[2]:
                    slab = _slab(k, group, longest, not single)
                if slab >= 1:
                    resident = weight_bytes <= halves[0] and slab == k
                    weights = weight_bytes * (1 if resident else _ceil(m, m_block))
                    acts = act_bytes * (1 if slab == k else _ceil(n, n_block)) if acts_moved else 0
                    results = m * n * FP32_BYTES if results_moved else 0
                    traffic = float(count * (weights + acts + results))
                    cost = (max(compute, traffic / rate), compute, float(split), traffic, -float(slab))
                    if cost < best:
                        best, found = cost, (m_block, n_block, slab, split)
                if n_block >= n or m <= tile[0]:
                    break
                n_block *= 2
            if m_block >= m or causal:
                break
            m_block *= 2
        if split >= splits:
            return found
        split = splits


@njit(cache=True)
def _estimate(
    count: int, m: int, n: int, k: int, m_block: int, n_block: int, k_slab: int, tile: Any, group: int, passes: int,
    depth: int, tokens: int, rest_tokens: int, gap: int, rest_gap: int, tail: int, causal: int, on_n: bool,
    resident: bool, held: bool, weight_bytes: float, act_bytes: float, result_bytes: float, rate: float,
    latency: float,
) -> Any:  # fmt: skip
    """As ``matrix_cycles``, by row blocks in place of steps: busy times and bytes are its own. The total, with latency
    and tail, is the longest of three ways through the steps: a load and then the array; the DRAM and then a step of
    the array; in each row block the DRAM up to its narrow last column block and then the array, which a tile takes as
    long for a few channels as for all."""
    array = weights_moved = acts_moved = results_moved = turns = opening = 0.0
    steps = 0
    queries = m // causal if causal else 0
    blocks = _ceil(m, m_block)
    for block in range(blocks if causal else 1):
        high, times = min(m_block, m - block * m_block), 1
        n_end, k_end = n, k
        if causal:
            last = (block * m_block + high - 1) // causal
            if on_n:
                n_end = n - queries + last + 1
            else:
                k_end = k - queries + last + 1
        else:
            high, times = m, blocks
        codes = min(group, k_end)
        full, rest = high // tile[0], 1 if high % tile[0] else 0
        column = 0.0
        for long, slabs in ((min(k_slab, k_end), k_end // k_slab), (k_end % k_slab, 1)):
            if long and slabs:
                column += slabs * _slab_cycles(
                    full, rest, long, group, codes, passes, depth, tokens, rest_tokens, gap, rest_gap
                )
        array += _ceil(n_end, tile[1]) * column
        steps += times * _ceil(n_end, n_block) * _ceil(k_end, k_slab)
        again = 1 if held else _ceil(n_end, n_block)
        acts = act_bytes * high / m * k_end / k
        acts_moved += again * acts
        if resident:
            weights_moved += weight_bytes if block == 0 else 0.0
        else:
            weights = times * weight_bytes / n * k_end / k
            weights_moved += weights * n_end
            whole, narrow = n_end // n_block, n_end % n_block
            if whole and narrow:
                # Back from the array to the DRAM: a row block's first step is loaded by then. Stores may come later.
                first = (weights * n_block + acts) * min(1.0, k_slab / k_end)
                turns += (weights * whole * n_block + (1 if held else whole) * acts - first) / rate
                turns += _ceil(narrow, tile[1]) * column
                opening = first / rate / times if block == 0 else opening
        results_moved += result_bytes * high / m * n_end / n
    array *= count
    weights_moved *= count
    acts_moved *= count
    results_moved *= count
    turns *= count
    dram = (weights_moved + acts_moved + results_moved) / rate
    first = (weights_moved + acts_moved) / rate / max(1, steps * count) if dram else 0.0
    last = results_moved / rate / max(1, blocks * count * _ceil(n, n_block))
    total = max(array + first + latency + tail + last, dram + latency + array / max(1, steps * count))
    total = max(total, latency + opening + turns + tail)
    return total, array, dram, 0.0, weights_moved, acts_moved, results_moved


@njit(cache=True)
def _count_matrix(
    counts: Any, times: float, op: Any, pair: Any, machine: Any, group: int, blocking: Any, tile: Any,
    loaded: float, acts: float, stored: float,
) -> None:  # fmt: skip
    """Add ``times`` the engine's actions of one matrix operator to ``counts``."""
    count, m, n, k = op[0], op[1], op[2], op[3]
    macs, zero = float(op[10]), op[9]
    passes, digit_groups, scaled = pair[0], pair[2], pair[3]
    computed = macs / (float(count) * m * n * k)
    row_tiles, col_tiles = _ceil(m, tile[0]), _ceil(n, tile[1])
    results = float(count) * m * n * (computed if op[4] and op[5] else 1.0)
    counts[_MAC_4BIT if pair[4] else 0] += times * macs * passes
    counts[1] += times * 8.0 * loaded
    counts[2] += times * 8.0 * count * op[11] * computed * row_tiles
    counts[3] += times * 8.0 * count * op[12] * computed * col_tiles * passes
    counts[4] += times * 8.0 * acts
    counts[5] += times * results * FP32_BITS
    counts[7] += times * 8.0 * (loaded + acts)
    counts[8] += times * 8.0 * stored
    if machine[9]:
        counts[9] += times * count * m * k * col_tiles * passes * computed
    if not scaled:
        return
    groups = results * _ceil(k, group) * digit_groups
    counts[10] += times * groups * (4 if zero == _MINIMUM else 2)
    counts[11] += times * groups * (2 if zero == _MINIMUM else 1)
    sums = groups * FP32_BITS
    if machine[2]:
        tiles = groups * passes * _ceil(group, machine[0])
        largest = group * ((1 << passes * machine[7]) - 1) * (1 << (machine[8] - 1))
        bits = 1
        while largest:
            largest >>= 1
            bits += 1
        sums += tiles * bits
    counts[12] += times * sums
    counts[13] += times * sums
    if zero != _NONE:
        counts[14] += times * count * m * k * col_tiles * computed
    if zero == _INT4:
        counts[15] += times * groups
    slabs = _ceil(k, blocking[2])
    if slabs > 1 and not (blocking[0] == tile[0] and blocking[1] == tile[1]):
        counts[6] += times * results * (slabs - 1) * FP32_BITS
        counts[5] += times * results * (slabs - 1) * FP32_BITS


@njit(cache=True)
def _ends(machine: Any, group: int, passes: int, m: int, zero: int, loops: Any) -> Any:
    """(depth, tokens, rest tokens, gap, rest gap, tail): ``tile_steps``. ``loops`` [zero]: accumulator loop, lane
    latency, the drain of an output-stationary array, the select of a weight-stationary one without tokens."""
    rows, cols, most, lanes = machine[0], machine[1], machine[2], machine[3]
    wide = cols // lanes
    loop, lane, drain, select = loops[zero]
    if not most:
        gap = max(rows * wide, loop)
        tail = rows + cols - 2 + drain - max(0, gap - passes * group)
        return 1, 1, 1, gap, gap, tail
    tokens = min(most, m)
    rest = m % most if m % most else most
    gap = max(tokens * wide, loop)
    first, visit = min(group, rows), _visit(group, rows, tokens, passes)
    first_end = first + visit - max(tokens, first) + tokens - 1
    tail = first_end - max(visit, gap) + select + wide * tokens + lane + 1
    return rows, tokens, rest, gap, max(rest * wide, loop), tail


@njit(cache=True)
def matrix_table(
    table: Any, uses: Any, pairs: Any, machine: Any, loops: Any, halves: Any, rate: float, latency: float,
    exact: bool, counts: Any, limits: Any,
) -> Any:  # fmt: skip
    """Cycles of all matrix operators; actions are added to ``counts``, cycles by limit to ``limits``.

    ``machine``: rows, cols, tokens (0: output-stationary), lanes, split, activation and output buffers in bytes, bits
    of a PE's weights and activations, whether activations are aligned. Returns the cycles and the row of an operator
    that no buffer holds, or -1.
    """
    total = 0.0
    rows, cols, most = machine[0], machine[1], machine[2]
    for place in range(len(table)):
        op = table[place]
        pair = pairs[op[7]]
        count, m, n, k, causal = op[0], op[1], op[2], op[3], op[4]
        passes = pair[0]
        group = min(op[8], pair[1]) if pair[1] else op[8]
        acts_moved = count * op[12] > machine[5]
        results_moved = count * m * n * FP32_BYTES > machine[6]
        blocking = _blocking(
            count, m, n, k, group, passes, causal, op[11], op[12], acts_moved, results_moved, rows, cols, most,
            machine[4], halves, rate,
        )  # fmt: skip
        if not blocking[2]:
            return total, place
        tile = _tile(rows, cols, most, blocking[3])
        ends = _ends(machine, group, passes, m, op[9], loops)
        resident = op[11] <= halves[0] and blocking[2] == k
        held = blocking[2] == k
        act_bytes = float(op[12]) if acts_moved else 0.0
        result_bytes = float(FP32_BYTES * m * n) if results_moved else 0.0
        if exact:
            time, array, dram, _, loaded, acts, stored = matrix_cycles(
                count, m, n, k, blocking[0], blocking[1], blocking[2], tile[0], tile[1], group, passes, ends[0],
                ends[1], ends[2], ends[3], ends[4], ends[5], causal, op[5] == 1, resident, held, float(op[11]),
                act_bytes, result_bytes, rate, latency,
            )  # fmt: skip
        else:
            time, array, dram, _, loaded, acts, stored = _estimate(
                count, m, n, k, blocking[0], blocking[1], blocking[2], tile, group, passes, ends[0], ends[1], ends[2],
                ends[3], ends[4], ends[5], causal, op[5] == 1, resident, held, float(op[11]), act_bytes, result_bytes,
                rate, latency,
            )  # fmt: skip
        cycles = uses[place] * np.ceil(time)
        total += cycles
        limit = _ARRAY if op[10] * passes >= 0.5 * array * rows * cols else _EDGE
        if ends[3] > _visit(group, ends[0], ends[1], passes):
            limit = _LANES
        if ends[5] + latency > array:
            limit = _LATENCY
        if dram >= array:
            limit = _DRAM
        limits[limit] += cycles
        _count_matrix(counts, uses[place], op, pair, machine, group, blocking, tile, loaded, acts, stored)
    return total, NO_FIT


@njit(cache=True)
def vector_table(
    table: Any, uses: Any, width: int, depth: int, act_bytes: int, output_bytes: int, rate: float, latency: float,
    counts: Any, limits: Any,
) -> Any:  # fmt: skip
    """Cycles of all vector operators on an SFU of ``width`` elements a cycle and ``depth`` cycles from in to out."""
    total = 0.0
    for place in range(len(table)):
        op, times = table[place], uses[place]
        vectors, n, causal, passes = op[0], op[1], op[2], op[4]
        if causal:
            tokens = vectors // causal
            issue, elements = 0, 0
            for length in range(n - tokens + 1, n + 1):
                issue += _ceil(length, width)
                elements += length
            issue *= causal
            elements *= causal
        else:
            issue, elements = vectors * _ceil(n, width), vectors * n
        issue *= passes
        busy = float(issue + passes * depth)
        spilled = op[3] if vectors * n * FP32_BYTES > output_bytes else 0
        read = float(op[8] * spilled + op[10])
        written = float(op[9] * spilled + op[11] + (op[13] if op[12] > act_bytes else 0))
        dram = (read + written) / rate
        first = latency if read + written > 0 else 0.0
        cycles = times * np.ceil(max(busy, first + dram))
        total += cycles
        limit = _SFU if issue > passes * depth else _LATENCY
        if first + dram > busy:
            limit = _DRAM
        limits[limit] += cycles
        counts[16] += times * elements * op[5]
        counts[17] += times * elements * op[6]
        counts[18] += times * elements * op[7]
        counts[6] += times * elements * FP32_BITS * (op[8] + passes - 1)
        counts[5] += times * elements * FP32_BITS * op[9]
        counts[7] += times * 8.0 * read
        counts[8] += times * 8.0 * written
        if op[14]:
            counts[4] += times * elements * 8.0
    return total
