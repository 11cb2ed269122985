"""Which instructions of a text a run executes, those of the sequencer among them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mixflight.arch.compact import codes
from mixflight.arch.isa import CLASSES, Stream

_MASK = 0xFFFFFFFF
_SIZE = {"LD": "bytes", "ST": "bytes", "MM": "columns", "MV": "columns", "MISC": "vectors"}
"""The operand that is 0 in an instruction that only passes tokens on."""


class Step(NamedTuple):
    """An instruction that is executed: its place in the text, its class, its fields, whether it only passes tokens on;
    ``depth`` of open loops before it, and of a LOOP its ``iterations``, of a ROTATE whether it ``wraps``."""

    number: int
    kind: str
    fields: dict[str, int]
    empty: bool
    depth: int
    iterations: int = 0
    wraps: bool = False


def executed(text: Stream, registers: Mapping[int, int], words: Sequence[int] = ()) -> Iterator[Step]:
    """Every executed instruction in order, with ``registers`` by number (others 0) and the constants ``words``."""
    rows = list(_rows(text))
    operations = codes("SYS", "operation")
    held = np.zeros(32, np.int64)
    for number, value in registers.items():
        held[number] = value
    loops: list[list[int]] = []
    at = 0
    while at < len(rows):
        kind, fields = rows[at]
        size = fields[_SIZE[kind]] + int(held[fields[f"{_SIZE[kind]}_register"]]) if kind in _SIZE else 1
        step = Step(at, kind, fields, size == 0, len(loops))
        at += 1
        if kind in ("LD", "ST") and fields["advance"]:
            moved = fields["bytes"] * int(held[fields["bytes_register"]]) if fields["times"] else size
            held[fields["base_register"]] = (held[fields["base_register"]] + moved) & _MASK
        elif kind == "SYS":
            value = (int(held[fields["source"]]) + fields["value"]) & _MASK
            if fields["operation"] == operations["loop"]:
                step = step._replace(iterations=value)
                if value:
                    loops.append([value, at])
                else:
                    at = step.number + fields["limit"] + 1
            elif fields["operation"] == operations["end"]:
                loops[-1][0] -= 1
                if loops[-1][0]:
                    at = loops[-1][1]
                else:
                    loops.pop()
            elif fields["operation"] == operations["set"]:
                held[fields["destination"]] = (value + int(held[fields["other"]])) & _MASK
            elif fields["operation"] == operations["fetch"]:
                held[fields["destination"]] = words[value] & _MASK
            elif fields["operation"] == operations["rotate"]:
                turned = int(held[fields["destination"]]) + fields["value"]
                step = step._replace(wraps=turned >= fields["limit"])
                held[fields["destination"]] = turned - fields["limit"] if step.wraps else turned
        yield step


def _rows(text: Stream) -> Iterator[tuple[str, dict[str, int]]]:
    tables = {
        kind: [dict(zip(table, row, strict=True)) for row in zip(*(column.tolist() for column in table.values()),
                                                                strict=True)]
        for kind, table in text.tables.items()
    }  # fmt: skip
    places = dict.fromkeys(tables, 0)
    for index in text.kinds.tolist():
        kind = CLASSES[index]
        yield kind, tables[kind][places[kind]]
        places[kind] += 1
