"""The cycle engine: commands in, cycles, activity and the limit that set the time out.

Commands run one after the other, each waiting for the one before. What is approximate, and by how much, is numbered in
``sim/DEVIATIONS.md``.
"""

import math
from typing import Literal

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.array_pipeline import sum_bits
from mixflight.arch.commands import MatrixCommand, VectorCommand
from mixflight.mapping.homes import FP32_BYTES
from mixflight.sim.activity import Activity
from mixflight.sim.matrix_kernel import matrix_cycles
from mixflight.sim.tile_steps import group_steps, tile_steps

Limit = Literal["dram", "array", "array edge", "lanes", "sfu", "latency"]
FP32_BITS = 8 * FP32_BYTES


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One command, timed: its activity, its limit, and how busy array, DRAM and SFU were (cycles of one layer).

    ``utilisation`` is useful MACs over those the array could have done in the command's time.
    """

    operator: str
    kind: str
    layers: int
    activity: Activity
    bound_by: Limit
    array_cycles: float
    dram_cycles: float
    sfu_cycles: float
    utilisation: float


def time_command(command: MatrixCommand | VectorCommand, accelerator: Accelerator) -> Timed:
    """Run one command of one layer on ``accelerator``."""
    if isinstance(command, MatrixCommand):
        return _time_matrix(command, accelerator)
    return _time_vector(command, accelerator)


def _time_matrix(command: MatrixCommand, accelerator: Accelerator) -> Timed:
    array = accelerator.array
    tile_rows, tile_cols = array.tile(command.split)
    steps = tile_steps(command, array)
    total, array_busy, dram_busy, _, *moved = matrix_cycles(
        command.count, command.m, command.n, command.k, command.m_block, command.n_block, command.k_slab,
        tile_rows, tile_cols, command.group, command.passes,
        steps.depth, steps.tokens, steps.rest_tokens, steps.gap, steps.rest_gap, steps.tail,
        command.causal_step, command.causal_on_n, command.weights_resident, command.acts_held,
        float(command.weight_bytes), float(command.act_bytes) if command.acts_from_dram else 0.0,
        float(FP32_BYTES * command.m * command.n) if command.results_to_dram else 0.0,
        accelerator.dram_bytes_per_cycle, float(accelerator.dram_latency_cycles),
    )  # fmt: skip
    cycles = math.ceil(total)
    peak = array.rows * array.cols
    if dram_busy >= array_busy:
        bound: Limit = "dram"
    elif steps.tail + accelerator.dram_latency_cycles > array_busy:
        bound = "latency"
    elif steps.gap > group_steps(command, steps):
        bound = "lanes"
    else:
        bound = "array" if command.macs * command.passes >= 0.5 * array_busy * peak else "array edge"
    counts = _matrix_counts(command, accelerator, *moved)
    return Timed(
        operator=command.operator, kind=command.kind, layers=len(command.layers),
        activity=Activity(cycles, counts), bound_by=bound,
        array_cycles=array_busy, dram_cycles=dram_busy, sfu_cycles=0.0, utilisation=command.macs / (cycles * peak),
    )  # fmt: skip


def _matrix_counts(
    command: MatrixCommand, accelerator: Accelerator, weights_loaded: float, acts_loaded: float, results_stored: float
) -> dict[tuple[str, str], float]:
    """Actions of one layer's command, given the bytes that it moves off-chip: every byte loaded is written to its
    buffer. Masked parts of what stays on chip are left out in proportion to the MACs; ``av`` masks no results."""
    array = accelerator.array
    dense = command.count * command.m * command.n * command.k
    computed = command.macs / dense
    tile_rows, tile_cols = array.tile(command.split)
    row_tiles, col_tiles = -(-command.m // tile_rows), -(-command.n // tile_cols)
    masked_results = command.causal_step and command.causal_on_n
    results = command.count * command.m * command.n * (computed if masked_results else 1.0)
    weight_bits = 8.0 * command.count * command.weight_bytes * computed
    act_bits = 8.0 * command.count * command.act_bytes * computed
    counts = {
        (f"pe.{array.pe}", array.element.mac_action(command.weight)): float(command.macs * command.passes),
        ("sram.weight", "write_bit"): 8.0 * weights_loaded,
        ("sram.weight", "read_bit"): weight_bits * row_tiles,
        ("sram.act", "read_bit"): act_bits * col_tiles * command.passes,
        ("sram.output", "write_bit"): results * FP32_BITS,
        ("dram", "read_bit"): 8.0 * (weights_loaded + acts_loaded),
        ("dram", "write_bit"): 8.0 * results_stored,
    }
    if command.acts_from_dram:
        counts["sram.act", "write_bit"] = 8.0 * acts_loaded
    if array.element.arithmetic == "aligned":
        counts["align", "fp16"] = float(command.count * command.m * command.k * col_tiles * command.passes) * computed
    if not command.scaled:
        return counts
    groups = results * -(-command.k // command.group) * array.element.digit_groups(command.weight)
    minimum = command.zero == "f16-min"
    counts["lanes", "fp32_mul"] = groups * (4 if minimum else 2)
    counts["lanes", "fp32_add"] = groups * (2 if minimum else 1)
    counts["accumulator", "read_bit"] = groups * FP32_BITS
    counts["accumulator", "write_bit"] = groups * FP32_BITS
    if array.dataflow == "weight-stationary":
        # A column's sum joins its group sum once a weight tile: read (at last by a lane) and written each time.
        tiles = groups * command.passes * -(-command.group // array.rows)
        bits = tiles * sum_bits(group_max=command.group, w_bits=array.element.weight_bits,
                                a_bits=array.element.act_bits, passes=command.passes)  # fmt: skip
        counts["accumulator", "read_bit"] += bits
        counts["accumulator", "write_bit"] += bits
    if command.zero != "none":
        counts["row_sum", "int_add"] = float(command.count * command.m * command.k * col_tiles) * computed
    if command.zero == "int4":
        counts["lanes", "zero_correct"] = groups
    slabs = -(-command.k // command.k_slab)
    if slabs > 1 and (command.m_block, command.n_block) != (tile_rows, tile_cols):
        swaps = results * (slabs - 1) * FP32_BITS
        counts["sram.output", "read_bit"] = swaps
        counts["sram.output", "write_bit"] += swaps
    return counts


def _time_vector(command: VectorCommand, accelerator: Accelerator) -> Timed:
    sfu = accelerator.sfu
    issue = command.beats(sfu.elements_per_cycle) * command.passes
    busy = issue + command.passes * sfu.latency_cycles
    moved = command.dram_read_bytes + command.dram_write_bytes
    dram = moved / accelerator.dram_bytes_per_cycle
    latency = accelerator.dram_latency_cycles if moved else 0
    cycles = math.ceil(max(busy, latency + dram))
    elements = float(command.total_elements)
    counts = {
        ("sfu", "fp32_mul"): elements * command.multiplies,
        ("sfu", "fp32_add"): elements * command.adds,
        ("sfu", "table_read"): elements * command.table_reads,
        ("sram.output", "read_bit"): elements * FP32_BITS * (command.inputs + command.passes - 1),
        ("sram.output", "write_bit"): elements * FP32_BITS * command.outputs,
        ("dram", "read_bit"): 8.0 * command.dram_read_bytes,
        ("dram", "write_bit"): 8.0 * command.dram_write_bytes,
    }
    if command.kind == "quantise":
        counts["sram.act", "write_bit"] = elements * 8
    bound: Limit = "sfu" if issue > command.passes * sfu.latency_cycles else "latency"
    if latency + dram > busy:
        bound = "dram"
    return Timed(
        operator=command.operator, kind=command.kind, layers=len(command.layers),
        activity=Activity(cycles, counts), bound_by=bound,
        array_cycles=0.0, dram_cycles=dram, sfu_cycles=float(busy), utilisation=0.0,
    )  # fmt: skip
