"""The compact text of a random program: operands that come partly from registers."""

import numpy as np

from mixflight.arch.compact import REGISTERS, check, compact
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream, stream_of, token_mask
from mixflight.sim.core_values.random_maker import Draft, Maker

_MOVES = (("offset", "base_register"), ("bytes", "bytes_register"), ("buffer_line", "buffer_register"),
          ("channel", "channel_register"))  # fmt: skip
_PRODUCT = (("rows", "rows_register"), ("columns", "columns_register"), ("k_blocks", "k_register"),
            ("in_line", "in_register"), ("out_line", "out_register"), ("weight_bits", "bits_register"))  # fmt: skip
_SPLIT: dict[str, tuple[tuple[str, str], ...]] = {
    "LD": _MOVES, "ST": _MOVES, "MM": _PRODUCT, "MV": _PRODUCT, "SYS": (),
    "MISC": (("vectors", "vectors_register"), ("elements", "elements_register"), ("a_line", "a_register"),
             ("b_line", "b_register"), ("out_line", "out_register")),
}  # fmt: skip
"""Operands that are an immediate plus a register."""

_RENAMED = {"ddr": "memory", "address": "offset", "line": "buffer_line"}
"""Fields of LD and ST that are named otherwise in the text."""


def text_of(maker: Maker) -> Stream:
    """The drafts as a compact text; some operands come partly from registers."""
    rows: dict[str, list[dict[str, int]]] = {kind: [] for kind in CLASSES}
    for item in maker.drafts:
        rows[item.kind].append(_row(maker, item))
    tables: dict[str, dict[str, Ints]] = {
        kind: {name: np.array([row.get(name, 0) for row in held], np.int64) for name in {*sum(map(list, held), [])}}
        for kind, held in rows.items()
    }
    stream = stream_of(np.array([CLASS_INDEX[item.kind] for item in maker.drafts], np.uint8), tables, compact())
    check(stream)
    return stream


def _row(maker: Maker, item: Draft) -> dict[str, int]:
    row = _encoded(item.kind, item.fields)
    for name, register in _SPLIT[item.kind]:
        row |= _split(maker, row, name, register)
    return row | {"wait": token_mask(item.kind, item.wait), "release": token_mask(item.kind, item.release)}


def _split(maker: Maker, row: dict[str, int], name: str, register: str) -> dict[str, int]:
    """``name`` less a register's value, by chance."""
    number = maker.whole(1, REGISTERS - 1)
    value = maker.registers[number]
    if register not in row and maker.chance(0.3) and value <= row[name]:
        return {name: row[name] - value, register: number}
    return {}


def _encoded(kind: str, fields: dict[str, int]) -> dict[str, int]:
    """Fields of the compact encoding; slots come from the registers of their number."""
    if kind in ("LD", "ST"):
        found = {_RENAMED.get(name, name): value for name, value in fields.items() if name != "slot"}
        return found | ({"buffer_register": fields["slot"]} if fields["slotted"] else {})
    if kind in ("MM", "MV"):
        return {name: value for name, value in fields.items() if name != "slot"} | {"slot_register": fields["slot"]}
    if kind == "SYS":
        return {name: value for name, value in fields.items() if name != "lines"} | {"limit": fields["lines"]}
    return dict(fields)
