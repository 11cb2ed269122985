"""What a core was seen to do in a run, as actions for prices: what its ports moved and what its units ended.

Bytes are those that crossed the ports, in whole beats, the fetch of the text among them. An instruction counts where
its unit was seen to end it, with the operands that it had (``mapping.core_primitives``): the k-th end of a class is its
k-th instruction that is not empty. What one of these operands stands for is said by ``sim.core.activity``, but weights,
keys and values are written to the weight buffer as LD widens them, with what a program loads and no product uses.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from mixflight.arch.compact import K_BLOCK, codes
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.isa import CLASSES, Ints
from mixflight.mapping.core_primitives import Primitive
from mixflight.mapping.core_program import BUFFERS, MEMORIES, OPERATIONS
from mixflight.mapping.vector import WORK
from mixflight.sim.core.activity import counts_of_class
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.units import misc_steps

_TARGETS = tuple(codes("MISC", "target"))
_LOADED = ("weight", "act")
_BYTE_BITS = 8
_EXCHANGE = codes("SYS", "operation")["exchange"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A run as its recorders saw it: ``cycles``; ``executed`` instructions of the sequencer; ``ended`` ones of the
    units, by class; bytes of the ports, by memory (``hbm``, ``ddr``); ``text_bytes`` that were fetched from DDR, of the
    text and its constants."""

    cycles: int
    executed: int
    ended: Mapping[str, int]
    read_bytes: Mapping[str, int]
    written_bytes: Mapping[str, int]
    text_bytes: int


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """``counts`` of (component, action); ``products`` of the matrix engine, a weight with an activation once, and
    ``elements`` of the special-function unit, each vector once."""

    counts: dict[tuple[str, str], float]
    products: int
    elements: int


def recorded_counts(machine: CoreMachine, instructions: Sequence[Primitive], seen: Seen) -> Recorded:
    """Actions of a run of ``instructions``, those of a core in program order, of which ``seen`` ended. One of several
    cores also has the lines that it was sent.

    In RTL an MM takes its operands from where an MV does (``arch/core_execution.md``).
    """
    counts = {("controller", "instruction"): float(seen.executed)} | counts_over_time(machine, seen.cycles)
    products = elements = 0
    for kind in CLASSES:
        mine = [item.fields for item in instructions if item.kind == kind and not item.empty][: seen.ended[kind]]
        if not mine:
            continue
        if kind == "SYS":  # what else there is the sequencer executed
            mine = [item for item in mine if item["operation"] == _EXCHANGE]
            received = float(_BYTE_BITS * sum(item["value"] for item in mine))
            for key in (("exchange", "bit"), ("sram.global", "write_bit")):
                counts[key] = counts.get(key, 0.0) + received
            continue
        table = _columns(machine, kind, {name: np.array([item[name] for item in mine], np.int64) for name in mine[0]})
        found = {key: float(values.sum()) for key, values in counts_of_class(machine, kind, table, shared=True).items()}
        if kind in ("MM", "MV"):
            found.pop(("sram.weight", "write_bit"))
            products += int(_products(machine, table).sum())
        elif kind == "LD":
            found |= _widened(table)
        elif kind == "MISC":
            elements += int(misc_steps(table, 1).sum())
        for key, value in found.items():
            if key[0] not in ("controller", "memory_path", *MEMORIES):
                counts[key] = counts.get(key, 0.0) + value
    return Recorded(counts=counts | _ports(seen), products=products, elements=elements)


def _ports(seen: Seen) -> dict[tuple[str, str], float]:
    found = {}
    for action, moved in (("read_bit", seen.read_bytes), ("write_bit", seen.written_bytes)):
        for memory in MEMORIES:
            found[memory, action] = float(_BYTE_BITS * moved[memory])
    text = float(_BYTE_BITS * seen.text_bytes)
    found["ddr", "read_bit"] += text
    return found | {("memory_path", "bit"): sum(found.values()), ("sram.instruction", "write_bit"): text}


def _columns(machine: CoreMachine, kind: str, fields: dict[str, Ints]) -> dict[str, Ints]:
    """Operands of primitive instructions as the columns of ``mapping.core_program``."""
    some = {"operator": np.zeros(len(next(iter(fields.values()))), np.int64)}
    if kind in ("LD", "ST"):
        channels = np.where(fields["wide"] == 1, machine.hbm.channels_per_core, 1)
        side = "target" if kind == "LD" else "source"
        return fields | some | {"memory": fields["ddr"], "channels": channels, side: fields["buffer"]}
    group = np.where(fields["group"] > 0, 1 << fields["group"], 0)
    if kind in ("MM", "MV"):
        return fields | some | {"k": fields["k_blocks"] * K_BLOCK, "keep_n": fields["keep"], "group": group}
    rotates = fields["operation"] == OPERATIONS.index("rope")
    passes = np.array([WORK[name].passes for name in OPERATIONS], np.int64)[fields["operation"]]
    return fields | some | {
        "group": group, "causal": np.where(rotates, 0, fields["causal"]),
        "passes": np.where(fields["static"] == 1, 1, passes),
        "target": np.array([BUFFERS.index(name) for name in _TARGETS], np.int64)[fields["target"]],
    }  # fmt: skip


def _widened(table: Mapping[str, Ints]) -> dict[tuple[str, str], float]:
    """Bits written as codes are widened to a byte each; those that are bytes stay as they are."""
    bits = np.where(table["code_bits"] > 0, table["code_bits"], _BYTE_BITS)
    written = _BYTE_BITS * (_BYTE_BITS * table["bytes"] * table["channels"] // bits)
    return {
        (f"sram.{name}", "write_bit"): float(written[table["target"] == BUFFERS.index(name)].sum()) for name in _LOADED
    }


def _products(machine: CoreMachine, table: Mapping[str, Ints]) -> Ints:
    kept = table["keep_n"] if isinstance(machine.mpe, Chains) else np.full(len(table["k"]), K_BLOCK)
    return table["rows"] * table["columns"] * table["k"] * kept // K_BLOCK
