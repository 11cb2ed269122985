"""What a program does, counted by operator: actions of each component, for prices.

Every bit that moves on or off chip passes the memory path and is written to, or read from, its buffer; weights, keys
and values are widened to a byte on the way in, into the weight buffer for MV and the act buffer for MM, whose other
operand MISC writes as codes. The matrix engine reads a weight once an instruction, an activation once for each step
of columns (MV) or rows (MM), scales and indices as stored; it reads and writes an FP32 accumulator a group sum and
writes FP32 results. Vectors are read ``inputs`` times plus once for each further pass, and written ``outputs`` times
(``mapping.vector.WORK``). ``shared``: MM takes its operands from where MV does, as in blocks of a prompt.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.isa import Ints
from mixflight.mapping.core_program import BUFFERS, MEMORIES, OPERATIONS, SYS_OPERATIONS, Pieces
from mixflight.mapping.core_tiles import index_bits
from mixflight.mapping.vector import WORK
from mixflight.sim.core.distinct import distinct
from mixflight.sim.core.units import Floats, misc_steps

Counts = dict[tuple[str, str], Floats]
"""(Component, action) -> counts by operator."""

_BLOCK = 16
_FP32 = 32


def program_counts(
    machine: CoreMachine, streams: Sequence[Pieces], core_of: Sequence[int], operators: int, *, shared: bool = False
) -> Counts:  # fmt: skip
    """Counts of all cores together."""
    found: Counts = {}
    for index, stream in enumerate(streams):
        times = sum(core == index for core in core_of)
        uses = times * np.bincount(stream.order, minlength=len(stream.pieces)).astype(np.float64)
        for kind in ("LD", "ST", "MM", "MV", "MISC", "SYS"):
            tables = [piece.tables[kind] for piece in stream.pieces]
            weight = np.repeat(uses, [len(table["wait"]) for table in tables])
            if len(weight):
                columns = [np.concatenate([item[name] for item in tables]) for name in ("operator", *_COLUMNS[kind])]
                first, which = distinct(tuple(columns))
                times_run = np.bincount(which, weight, len(first))
                table = dict(zip(("operator", *_COLUMNS[kind]), (item[first] for item in columns), strict=True))
                for key, values in counts_of_class(machine, kind, table, shared=shared).items():
                    counted = np.bincount(table["operator"], values * times_run, operators)
                    found[key] = found.get(key, np.zeros(operators)) + counted
    return found


_MATRIX = ("rows", "columns", "k", "keep_n", "weight_bits", "group", "zero", "accumulate", "last")
_COLUMNS = {
    "LD": ("memory", "target", "channels", "bytes"),
    "ST": ("memory", "source", "channels", "bytes"),
    "MM": _MATRIX,
    "MV": _MATRIX,
    "MISC": ("operation", "vectors", "elements", "passes", "causal", "target"),
    "SYS": ("operation", "bytes", "controls"),
}


def counts_of_class(machine: CoreMachine, kind: str, table: Mapping[str, Ints], *, shared: bool = False) -> Counts:
    """Counts of single instructions, a row each."""
    if kind in ("LD", "ST"):
        found = _moved(kind, table)
    elif kind in ("MM", "MV"):
        found = _matrix(machine, "MV" if shared else kind, table)
    elif kind == "MISC":
        found = _misc(table)
    else:
        received = 8.0 * table["bytes"] * (table["operation"] == SYS_OPERATIONS.index("exchange"))
        found = {("exchange", "bit"): received, ("sram.global", "write_bit"): received}
    instructions = np.ones(len(table["operator"]))
    if kind == "SYS":
        instructions = np.maximum(table["controls"], 1).astype(np.float64)
    found["controller", "instruction"] = instructions
    return found


def _moved(kind: str, table: Mapping[str, Ints]) -> Counts:
    bits = 8.0 * table["bytes"] * table["channels"]
    side, action = ("target", "read_bit") if kind == "LD" else ("source", "write_bit")
    found: Counts = {("memory_path", "bit"): np.asarray(bits, np.float64)}
    for index, memory in enumerate(MEMORIES):
        found[memory, action] = bits * (table["memory"] == index)
    for index, buffer in enumerate(BUFFERS):
        if buffer not in ("weight", "act") or kind == "ST":  # loaded there are only codes, counted as they are widened
            name = "write_bit" if kind == "LD" else "read_bit"
            found[f"sram.{buffer}", name] = bits * (table[side] == index)
    return found


def _matrix(machine: CoreMachine, kind: str, table: Mapping[str, Ints]) -> Counts:
    engine = machine.mpe
    rows, columns, k = table["rows"], table["columns"], table["k"]
    if isinstance(engine, Chains):
        kept, passes = table["keep_n"] / _BLOCK, np.ones(len(k), np.int64)
        component = f"pe.{engine.dsp_kind}"
        steps = -(-columns // engine.column_step) if kind == "MV" else -(-columns // engine.chains_per_mpu)
    else:
        kept, passes = np.ones(len(k)), -(-table["weight_bits"] // engine.element.weight_bits)
        component = f"pe.{engine.pe}"
        steps = -(-columns // engine.cols)
    stored = columns * k * table["keep_n"] / _BLOCK
    groups = np.where(table["group"] > 0, -(-k // np.maximum(table["group"], 1)), table["last"])
    sums = rows * columns * groups.astype(np.float64)
    minimum, integer = table["zero"] == 2, table["zero"] == 1
    place = np.array([index_bits(int(keep), machine.memory_unit.index_coding) for keep in range(_BLOCK + 1)])
    scales = columns * groups * np.where(minimum, 32.0, 16.0)
    accumulated = sums * _FP32
    weights, acts = ("weight", "act") if kind == "MV" else ("act", "weight")
    return {
        (component, "mac"): rows * columns * k * kept * passes,
        (f"sram.{weights}", "write_bit"): 8.0 * stored,
        (f"sram.{weights}", "read_bit"): 8.0 * stored * passes,
        (f"sram.{acts}", "read_bit"): 8.0 * rows * k * steps * passes,
        ("sram.scale", "read_bit"): scales,
        ("sram.index", "read_bit"): place[np.minimum(table["keep_n"], _BLOCK)] * columns * k,
        ("lanes", "fp32_mul"): sums * np.where(minimum, 4, 2),
        ("lanes", "fp32_add"): sums * np.where(minimum, 2, 1),
        ("lanes", "zero_correct"): sums * integer,
        ("accumulator", "read_bit"): accumulated,
        ("accumulator", "write_bit"): accumulated,
        ("sram.global", "write_bit"): _FP32 * rows * columns * table["last"].astype(np.float64),
    }


def _misc(table: Mapping[str, Ints]) -> Counts:
    work = {
        field: np.array([getattr(WORK[name], field) for name in OPERATIONS], np.float64)[table["operation"]]
        for field in ("multiplies", "adds", "table_reads", "inputs", "outputs")
    }
    elements = misc_steps(table, 1).astype(np.float64)
    return {
        ("sfu", "fp32_mul"): elements * work["multiplies"],
        ("sfu", "fp32_add"): elements * work["adds"],
        ("sfu", "table_read"): elements * work["table_reads"],
        ("sram.global", "read_bit"): elements * _FP32 * (work["inputs"] + table["passes"] - 1),
        ("sram.global", "write_bit"): elements * _FP32 * work["outputs"],
        **{(f"sram.{name}", "write_bit"): 8.0 * (table["target"] == BUFFERS.index(name)) * elements
           for name in ("act", "weight")},
    }  # fmt: skip
