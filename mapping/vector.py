"""Vector operators on the SFU: passes, operations an element, and what moves off-chip."""

from typing import NamedTuple

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.commands import VectorCommand
from mixflight.arch.errors import InputError
from mixflight.mapping.homes import FP32_BYTES, operand_in_dram, vector_in_dram
from mixflight.workloads.operators import Operator


class Work(NamedTuple):
    """Passes over the vector; FP32 multiplies, adds (comparisons and roundings too) and table reads an element; FP32
    vectors read and written."""

    passes: int
    multiplies: int
    adds: int
    table_reads: int
    inputs: int
    outputs: int


# Derived from the formulas of arch/numerics.md: e.g. softmax visits the vector for the maximum, for exp and sum, and
# for the scaling; exp is one multiply by log2 e, one table read and one interpolating multiply, a reciprocal a table
# read and an interpolating multiply, a sigmoid both of them (its product for x < 0 left out) and an add. GELU is three
# multiplies, an add and a clamp before a sigmoid, and the product with x behind it; a soft cap is an exp and a
# reciprocal, 1 - v and 1 + v, their product, and multiplies by two constants. LayerNorm subtracts the mean in its
# second pass and again in its third. A scale known beforehand saves quantise the pass for the maximum. What a lookup
# fetches goes straight to the weight buffer. Operators that say their own multiplies, adds and table reads an element
# take those in addition.
WORK: dict[str, Work] = {
    "embed": Work(1, 1, 0, 0, 0, 1),
    "norm": Work(2, 3, 1, 0, 1, 1),
    "layernorm": Work(3, 3, 4, 0, 1, 1),
    "rope": Work(1, 2, 1, 1, 1, 1),
    "quantise": Work(2, 1, 2, 0, 1, 0),
    "quantise:static": Work(1, 1, 1, 0, 1, 0),
    "probability_quantise": Work(2, 1, 2, 0, 1, 0),
    "kv_append": Work(2, 1, 2, 0, 1, 0),
    "softmax": Work(3, 3, 3, 1, 1, 1),
    "residual": Work(1, 0, 1, 0, 2, 1),
    "bias": Work(1, 0, 1, 0, 1, 1),
    "softcap": Work(1, 6, 2, 2, 1, 1),
    "lookup": Work(1, 0, 0, 1, 0, 0),
    "elementwise": Work(1, 0, 0, 0, 1, 1),
    "activation:silu:gated": Work(1, 5, 1, 2, 2, 1),
    "activation:silu:plain": Work(1, 4, 1, 2, 1, 1),
    "activation:gelu:gated": Work(1, 8, 3, 2, 2, 1),
    "activation:gelu:plain": Work(1, 7, 3, 2, 1, 1),
    "activation:relu:gated": Work(1, 1, 1, 0, 2, 1),
    "activation:relu:plain": Work(1, 0, 1, 0, 1, 1),
}


def work_of(operator: Operator) -> Work:
    """What an element of a vector operator takes, its own multiplies, adds and table reads left out."""
    key = f"{operator.kind}:{operator.variant}" if operator.variant else operator.kind
    if key not in WORK:
        raise InputError(f"a vector operator must be one of {', '.join(WORK)}, not {key!r}, in {operator.name!r}")
    return WORK[key]


def vector_command(operator: Operator, accelerator: Accelerator) -> VectorCommand:
    """The SFU command of a vector operator."""
    work = work_of(operator)
    vectors = operator.count * operator.m
    elements = operator.vector_elements
    masked = vectors * operator.n - elements
    spilled = FP32_BYTES * elements if vector_in_dram(vectors * operator.n, accelerator) else 0
    quantised = 0
    if operator.kind == "quantise" and operator.act is not None:
        stored = vectors * operator.act.row_bits(operator.n) // 8
        quantised = stored - masked * operator.act.bits // 8 if operand_in_dram(stored, accelerator) else 0
    return VectorCommand(
        operator=operator.name, kind=operator.kind, layers=operator.layers, vectors=vectors, elements=operator.n,
        causal_step=operator.causal_step,
        passes=work.passes, multiplies=work.multiplies + operator.multiplies, adds=work.adds + operator.adds,
        table_reads=work.table_reads + operator.table_reads,
        inputs=work.inputs, outputs=work.outputs,
        dram_read_bytes=work.inputs * spilled + operator.parameter_bytes + operator.kv_read_bytes,
        dram_write_bytes=work.outputs * spilled + quantised + operator.kv_write_bytes,
    )  # fmt: skip
