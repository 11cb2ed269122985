"""The operators of a phase as columns of numbers: what the compiled loops of ``table_engine`` read.

A table depends on the model, its formats and the lengths, not on the machine; each distinct operator is one row,
with how often it runs.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.formats import Format, Zero
from mixflight.mapping.homes import FP32_BYTES
from mixflight.mapping.matrix import on_dense_array, zero_of
from mixflight.mapping.vector import work_of
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace

ZEROS: tuple[Zero, ...] = get_args(Zero)
"""Zero points by the number that stands for them in a table."""

MATRIX_COLUMNS = (
    "count", "m", "n", "k", "causal_step", "is_qk", "is_av", "formats", "group", "zero", "macs", "weight_bytes",
    "act_bytes",
)  # fmt: skip
VECTOR_COLUMNS = (
    "vectors", "n", "causal_step", "elements", "passes", "multiplies", "adds", "table_reads", "inputs", "outputs",
    "read_bytes", "write_bytes", "stored_bytes", "kept_bytes", "is_quantise",
)  # fmt: skip


class OperatorTable(msgspec.Struct, frozen=True, kw_only=True):
    """A phase: ``matrix`` and ``vector`` [operators, columns above] with ``matrix_uses`` and ``vector_uses``.

    ``formats`` are the pairs (weight, activation) that the matrix operators name by number, each with the first
    operator that has it. ``tokens`` and ``macs`` are totals of the phase, ``weight_bytes`` of its first pass.
    """

    matrix: NDArray[np.int64]
    matrix_uses: NDArray[np.float64]
    vector: NDArray[np.int64]
    vector_uses: NDArray[np.float64]
    formats: tuple[tuple[Format, Format, str], ...]
    tokens: int
    macs: float
    weight_bytes: int


def operator_table(traces: Sequence[Trace], weights: Iterable[float], tokens: int) -> OperatorTable:
    """The table of ``traces``, each of which happens ``weights`` times."""
    uses: dict[Operator, float] = defaultdict(float)
    macs = 0.0
    for trace, weight in zip(traces, weights, strict=True):
        macs += weight * trace.macs
        for operator in trace.operators:
            uses[operator] += weight * len(operator.layers) * operator.probability
    pairs: dict[tuple[Format, Format], tuple[int, str]] = {}
    matrix = [_matrix_row(item, pairs) for item in uses if item.is_matrix]
    vector = [_vector_row(item) for item in uses if not item.is_matrix]
    return OperatorTable(
        matrix=np.array(matrix, dtype=np.int64).reshape(-1, len(MATRIX_COLUMNS)),
        matrix_uses=np.array([times for item, times in uses.items() if item.is_matrix]),
        vector=np.array(vector, dtype=np.int64).reshape(-1, len(VECTOR_COLUMNS)),
        vector_uses=np.array([times for item, times in uses.items() if not item.is_matrix]),
        formats=tuple((*pair, name) for pair, (_, name) in pairs.items()),
        tokens=tokens, macs=macs, weight_bytes=traces[0].weight_bytes,
    )  # fmt: skip


def sampled(traces: Sequence[Trace], most: int) -> tuple[list[Trace], list[float]]:
    """At most ``most`` of the steps, each standing for a run of equal length around it, and the runs' lengths."""
    if len(traces) <= most:
        return list(traces), [1.0] * len(traces)
    edges = [len(traces) * place // most for place in range(most + 1)]
    runs = list(zip(edges, edges[1:], strict=False))
    return [traces[(start + end) // 2] for start, end in runs], [float(end - start) for start, end in runs]


def _matrix_row(operator: Operator, pairs: dict[tuple[Format, Format], tuple[int, str]]) -> tuple[int, ...]:
    operator = on_dense_array(operator)
    weight, act = operator.weight, operator.act
    assert weight is not None
    assert act is not None
    pair, _ = pairs.setdefault((weight, act), (len(pairs), operator.name))
    return (
        operator.count, operator.m, operator.n, operator.k, operator.causal_step, operator.kind == "qk",
        operator.kind == "av", pair, weight.group or operator.k, ZEROS.index(zero_of(operator)), operator.macs,
        (operator.weight_bytes + operator.kv_read_bytes) // operator.count,
        operator.m * -(-act.row_bits(operator.k) // 8),
    )  # fmt: skip


def _vector_row(operator: Operator) -> tuple[int, ...]:
    work = work_of(operator)
    vectors, elements = operator.count * operator.m, operator.vector_elements
    stored = kept = 0
    if operator.kind == "quantise" and operator.act is not None:
        stored = vectors * operator.act.row_bits(operator.n) // 8
        kept = stored - (vectors * operator.n - elements) * operator.act.bits // 8
    return (
        vectors, operator.n, operator.causal_step, FP32_BYTES * elements, work.passes,
        work.multiplies + operator.multiplies, work.adds + operator.adds, work.table_reads + operator.table_reads,
        work.inputs, work.outputs, operator.parameter_bytes + operator.kv_read_bytes, operator.kv_write_bytes,
        stored, kept, operator.kind == "quantise",
    )  # fmt: skip
