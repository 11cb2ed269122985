"""The engine over a whole table of operators at once, and a closed form of it that is some hundred times faster.

    Tables             the phases of one scenario as tables, for both tiers
    evaluate           time, energy and limits of both phases on one array

``engine`` gives the numbers of :func:`mixflight.sim.simulate.simulate`. ``closed-form`` blocks each operator the same
way and takes the longer of array and DRAM in place of their interplay, at ``CONTEXTS`` of the decode's contexts.
"""

import functools
import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.array import Array
from mixflight.arch.array_pipeline import lane_latency, loop_latency
from mixflight.arch.errors import InputError
from mixflight.arch.pe import passes
from mixflight.arch.prices import machine_prices
from mixflight.arch.stationary_pipeline import stationary_select
from mixflight.sim.activity import Activity
from mixflight.sim.array_timing import drain
from mixflight.sim.cost import Energy, total_energy
from mixflight.sim.operator_table import ZEROS, OperatorTable, operator_table, sampled
from mixflight.sim.table_kernel import ACTIONS, LIMITS, NO_FIT, matrix_table, vector_table
from mixflight.workloads.integer_operands import IntegerOperands
from mixflight.workloads.model import Model
from mixflight.workloads.trace import Formats, decode_traces, prefill_trace

Tier = Literal["closed-form", "engine"]
Floats = NDArray[np.float64]

BUFFERS = tuple((component, "leak_kib_ns") for component in ("sram.weight", "sram.act", "sram.output"))
"""What leaks where a source has it; in the order of ``Buffers.kib``."""

CONTEXTS = 16
"""Steps of a decode that the closed form looks at, each for a run of its neighbours."""


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """Prefill, all steps of the decode, and some of them that stand for all."""

    prefill: OperatorTable
    decode: OperatorTable
    decode_sampled: OperatorTable


class PhaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """A phase on a machine: totals as in :class:`mixflight.sim.simulate.Phase`."""

    tokens: int
    time_ms: float
    energy: Energy
    dram_bytes: float
    bound_by: str


def scenario_tables(
    model: Model, formats: Formats, prefill: int, decode: int, batch: int, int8_operands: bool
) -> Tables:
    """Tables of a scenario; ``int8_operands`` as ``--float-operands int8`` has it on integer arrays."""
    operands = IntegerOperands()
    first = prefill_trace(model, formats, prefill, batch, decode)
    steps = list(decode_traces(model, formats, prefill, decode, batch))
    if int8_operands:
        first, steps = operands.of(first), [operands.of(trace) for trace in steps]
    some, weights = sampled(steps, CONTEXTS)
    return Tables(
        prefill=operator_table([first], [1.0], batch * prefill),
        decode=operator_table(steps, [1.0] * len(steps), batch * decode),
        decode_sampled=operator_table(some, weights, batch * decode),
    )


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """What of a machine sets cycles and counts: two machines that agree here share their results."""

    array: Array
    weight_kib: int
    act_kib: int
    output_kib: int
    rate: float
    latency: int
    width: int
    depth: int


def slice_of(accelerator: Accelerator) -> Slice:
    """The part of ``accelerator`` that times a table."""
    buffers, sfu = accelerator.buffers, accelerator.sfu
    return Slice(
        array=accelerator.array, weight_kib=buffers.weight_kib, act_kib=buffers.act_kib,
        output_kib=buffers.output_kib, rate=accelerator.dram_bytes_per_cycle,
        latency=accelerator.dram_latency_cycles, width=sfu.elements_per_cycle, depth=sfu.latency_cycles,
    )  # fmt: skip


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles, counts of ``ACTIONS`` and cycles by ``LIMITS`` of a phase."""

    cycles: float
    counts: Floats
    limits: Floats


def count_table(part: Slice, table: OperatorTable, tier: Tier) -> Counted:
    """Time and count the table; an operator that cannot be promoted or that no buffer holds is an InputError."""
    array, loops = part.array, _loops(part.array)
    element = array.element
    pairs = _pairs(array, table)
    buffers = np.array([part.weight_kib, part.act_kib, part.output_kib], dtype=np.int64) * 1024
    machine = np.array(
        [array.rows, array.cols, array.tokens or 0, array.lanes, array.split, buffers[1], buffers[2],
         element.weight_bits, element.act_bits, element.arithmetic == "aligned"], dtype=np.int64,
    )  # fmt: skip
    counts, limits = np.zeros(len(ACTIONS)), np.zeros(len(LIMITS))
    cycles, failed = matrix_table(
        table.matrix, table.matrix_uses, pairs, machine, loops, buffers // 2, part.rate, float(part.latency),
        tier == "engine", counts, limits,
    )  # fmt: skip
    if failed != NO_FIT:
        name = table.formats[table.matrix[failed][7]][2]
        raise InputError(f"the buffers must hold one slab of a {array.rows}x{array.cols} tile, in operator {name!r}")
    cycles += vector_table(
        table.vector, table.vector_uses, part.width, part.depth, int(buffers[1]), int(buffers[2]), part.rate,
        float(part.latency), counts, limits,
    )  # fmt: skip
    return Counted(cycles=cycles, counts=counts, limits=limits)


def _pairs(array: Array, table: OperatorTable) -> NDArray[np.int64]:
    element = array.element
    rows = [
        (
            passes(element, weight, act, name), element.group_of(weight, 1 << 40) if element.scales_floats else 0,
            element.digit_groups(weight), weight.kind == "int" or element.scales_floats,
            element.mac_action(weight) == "mac_4bit",
        )
        for weight, act, name in table.formats
    ]  # fmt: skip
    return np.array(rows, dtype=np.int64).reshape(-1, 5)


@functools.lru_cache(maxsize=4096)
def _loops(array: Array) -> NDArray[np.int64]:
    shape = {"rows": array.rows, "cols": array.cols, "lanes": array.lanes}
    rows = [
        (
            loop_latency(zero), lane_latency(zero), drain(**shape, zero=zero), stationary_select(**shape, tokens=0)
        )
        for zero in ZEROS
    ]  # fmt: skip
    return np.array(rows, dtype=np.int64)


def phase_result(accelerator: Accelerator, counted: Counted, tokens: int) -> PhaseResult:
    """Price what was counted."""
    array = accelerator.array
    nanoseconds = counted.cycles * 1e3 / accelerator.clock_mhz
    leaking = [array.rows * array.cols, *accelerator.buffers.kib.values()]
    amounts = np.concatenate([counted.counts, nanoseconds * np.array(leaking)])
    prices = _prices(accelerator.technology, tuple(sorted(accelerator.memories.items())), array.pe)
    pj, low, high = (prices @ amounts).tolist()
    if math.isnan(pj):  # something has no price: nothing of which happened, or a refusal
        _refuse_unpriced(accelerator, amounts[: -len(BUFFERS)])
        pj, low, high = (np.nan_to_num(prices) @ amounts).tolist()
    return PhaseResult(
        tokens=tokens, time_ms=counted.cycles / (accelerator.clock_mhz * 1e3),
        energy=Energy(pj=pj, low_pj=low, high_pj=high),
        dram_bytes=float(counted.counts[7] + counted.counts[8]) / 8, bound_by=LIMITS[int(counted.limits.argmax())],
    )  # fmt: skip


def _actions(pe: str) -> list[tuple[str, str]]:
    return [(f"pe.{pe}" if name == "pe" else name, action) for name, action in (*ACTIONS, ("pe", "leak_ns"), *BUFFERS)]


@functools.lru_cache(maxsize=256)
def _prices(technology: str, memories: tuple[tuple[str, str], ...], pe: str) -> Floats:
    """[value, low, high] x [action]; NaN where the technology has no price, of leaking buffers 0."""
    table = machine_prices(technology, dict(memories))
    found = np.full((3, len(_actions(pe))), np.nan)
    found[:, -len(BUFFERS) :] = 0.0
    known = {(item.component, item.action): item for item in table.price}
    for place, key in enumerate(_actions(pe)):
        if key in known:
            item = known[key]
            found[:, place] = item.value_pj, item.low_pj, item.high_pj
    return found


def _refuse_unpriced(accelerator: Accelerator, amounts: Floats) -> None:
    counts = dict(zip(_actions(accelerator.array.pe)[: len(amounts)], amounts.tolist(), strict=True))
    total_energy(Activity(0.0, counts), machine_prices(accelerator.technology, accelerator.memories))
