"""A compact text unrolled into the primitive instructions that its units carry out, operand by operand.

Every queued instruction of a run in program order, each with its own addresses: what a reference executor computes and
what a core's units are handed. Names of the operands are those of ``arch/isa_compact.toml`` with their registers added;
``slot`` is the slot register, ``k_blocks`` counts blocks of 16, lines are lines.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.arch.isa import CLASSES, Ints, token_classes
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_sequencer import Sequencer

ADDRESS_MASK = 0xFFFFFFFF


class Primitive(NamedTuple):
    """One instruction: its class, its number in the text, the classes it waits for and releases, its operands."""

    kind: str
    number: int
    wait: tuple[str, ...]
    release: tuple[str, ...]
    fields: dict[str, int]

    @property
    def empty(self) -> bool:
        """Whether it only passes tokens on."""
        name = {"LD": "bytes", "ST": "bytes", "MM": "columns", "MV": "columns", "MISC": "vectors"}.get(self.kind)
        return name is not None and self.fields[name] == 0


def primitives(
    sequencer: Sequencer, registers: Mapping[str, int], more: Ints | None = None
) -> list[Primitive]:  # fmt: skip
    """The instructions of a run with ``registers`` (by name, others 0) and ``more`` constants behind the text's own."""
    numbered = {int(Register[name]): value for name, value in registers.items()}
    sources, values = sequencer.unrolled(numbered, more)
    text = sequencer.text
    kinds = text.kinds[sources]
    found: list[Primitive | None] = [None] * len(sources)
    for index, kind in enumerate(CLASSES):
        at = np.flatnonzero(kinds == index)
        local = sequencer.local[sources[at]]
        table = {name: column[local] for name, column in text.tables[kind].items()}
        columns = _OPERANDS[kind](table, values[at], sequencer)
        names = list(columns)
        tokens = [
            {int(mask): token_classes(kind, int(mask)) for mask in np.unique(table[name])}
            for name in ("wait", "release")
        ]
        rows = zip(*(columns[name].tolist() for name in names), strict=True)
        heads = zip(at.tolist(), sources[at].tolist(), table["wait"].tolist(), table["release"].tolist(), strict=True)
        for (place, number, wait, release), row in zip(heads, rows, strict=True):
            found[place] = Primitive(
                kind, number, tokens[0][wait], tokens[1][release], dict(zip(names, row, strict=True))
            )
    return [item for item in found if item is not None]


def _move(table: Mapping[str, Ints], values: Ints, sequencer: Sequencer) -> dict[str, Ints]:
    sizes = np.array(list(sequencer.buffer_slots), np.int64)[table["buffer"]]
    line = table["buffer_line"] * LINE_BYTES
    slot = np.where(table["slotted"] == 1, (values[:, 6] - line) // np.maximum(sizes, 1), 0) % SLOTS
    bits = np.where(table["times"] == 1, values[:, 0] // np.maximum(table["bytes"], 1), table["code_bits"])
    return {
        "buffer": table["buffer"], "ddr": table["memory"], "wide": table["wide"], "channel": values[:, 4],
        "address": values[:, 5] & ADDRESS_MASK, "bytes": values[:, 0], "slotted": table["slotted"], "slot": slot,
        "line": np.where(table["slotted"] == 1, table["buffer_line"], values[:, 6] // LINE_BYTES),
    } | {"code_bits": bits, "signed": table["signed"], "layout": table["layout"]}  # fmt: skip


def _store(table: Mapping[str, Ints], values: Ints, sequencer: Sequencer) -> dict[str, Ints]:
    found = _move(table, values, sequencer)
    return {name: found[name] for name in found if name not in ("code_bits", "signed", "layout")}


def _matrix(table: Mapping[str, Ints], values: Ints, sequencer: Sequencer) -> dict[str, Ints]:
    kept = ("keep", "zero", "accumulate", "last", "transpose", "group")
    return {
        "rows": values[:, 0], "columns": values[:, 1], "k_blocks": values[:, 2] // K_BLOCK,
        "weight_bits": values[:, 3], "slot": values[:, 4] % SLOTS, "in_line": values[:, 5] // LINE_BYTES,
        "out_line": values[:, 6] // LINE_BYTES,
    } | {name: table[name] for name in kept}  # fmt: skip


def _misc(table: Mapping[str, Ints], values: Ints, sequencer: Sequencer) -> dict[str, Ints]:
    kept = ("operation", "group", "causal", "static", "parts", "target")
    return {
        "vectors": values[:, 0], "elements": values[:, 1], "a_line": values[:, 4] // LINE_BYTES,
        "b_line": values[:, 5] // LINE_BYTES, "out_line": values[:, 6] // LINE_BYTES,
    } | {name: table[name] for name in kept}  # fmt: skip


def _sys(table: Mapping[str, Ints], values: Ints, sequencer: Sequencer) -> dict[str, Ints]:
    return {"operation": table["operation"], "value": values[:, 0] & ADDRESS_MASK, "buffer": table["buffer"],
            "line": table["line"], "lines": table["limit"]}  # fmt: skip


_OPERANDS = {"LD": _move, "ST": _store, "MM": _matrix, "MV": _matrix, "MISC": _misc, "SYS": _sys}
