"""The compact text of a random program: operands that come partly from registers."""

import numpy as np

from mixflight.arch.compact import REGISTERS, SLOTS, check, compact
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream, stream_of, token_mask
from mixflight.sim.core_values.random_control import Registers
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


def text_of(maker: Maker, *, sequenced: bool = False) -> tuple[Stream, Ints]:
    """The drafts as a compact text, and the constants that it fetches.

    Some operands come partly from registers, as the host sets them; in a ``sequenced`` text as instructions in front
    set them, among loops.
    """
    if sequenced:
        rows, words = _sequenced(maker)
    else:
        rows, words = [(item.kind, _row(maker, item)) for item in maker.drafts], []
    tables: dict[str, dict[str, Ints]] = {}
    for kind in CLASSES:
        held = [row for name, row in rows if name == kind]
        names = {name for row in held for name in row}
        tables[kind] = {name: np.array([row.get(name, 0) for row in held], np.int64) for name in names}
    stream = stream_of(np.array([CLASS_INDEX[kind] for kind, _ in rows], np.uint8), tables, compact())
    check(stream)
    return stream, np.array(words, np.int64)


def _row(maker: Maker, item: Draft) -> dict[str, int]:
    row = _encoded(item.kind, item.fields)
    for name, register in _SPLIT[item.kind]:
        row |= _split(maker, row, name, register)
    return row | _tokens(item)


def _tokens(item: Draft) -> dict[str, int]:
    return {"wait": token_mask(item.kind, item.wait), "release": token_mask(item.kind, item.release)}


def _split(maker: Maker, row: dict[str, int], name: str, register: str) -> dict[str, int]:
    """``name`` less a register's value, by chance."""
    number = maker.whole(1, REGISTERS - 1)
    value = maker.registers[number]
    if register not in row and maker.chance(0.3) and value <= row[name]:
        return {name: row[name] - value, register: number}
    return {}


def _sequenced(maker: Maker) -> tuple[list[tuple[str, dict[str, int]]], list[int]]:
    """Rows of all drafts with what the sequencer does for them."""
    registers, found, at = Registers(maker.rng, maker.registers), list[tuple[str, dict[str, int]]](), 0
    while at < len(maker.drafts):
        item, times = maker.drafts[at], maker.repeats.get(at, 1)
        before, row = _from_registers(maker, registers, item, times)
        body = [(item.kind, row | _tokens(item))]
        if times > 1 or item is not maker.drafts[-1] and maker.chance(0.1):
            body = registers.loops_around(body, times)
        if maker.chance(0.05) and found:
            body = registers.skipped([row_ for row_ in found[-3:] if row_[0] != "SYS"]) + body
        found += [("SYS", item_) for item_ in before] + body
        at += times
    return found, registers.words


def _from_registers(
    maker: Maker, registers: Registers, item: Draft, times: int
) -> tuple[list[dict[str, int]], dict[str, int]]:  # fmt: skip
    """What sets registers for an instruction, and the instruction; its operands are an immediate of any size and what
    is missing."""
    row, before, used = _encoded(item.kind, item.fields), list[dict[str, int]](), set[int]()
    if item.kind in ("LD", "ST") and item.fields["slotted"] or item.kind in ("MM", "MV"):
        name = "slot_register" if item.kind in ("MM", "MV") else "buffer_register"
        if maker.chance(0.4):
            number = registers.free(used)
            before += registers.set_to(number, maker.whole(0, (1 << 20) - 1) * SLOTS + item.fields["slot"])
            used, row = used | {number}, row | {name: number}
        else:
            used.add(row[name])
    moved = times > 1 and item.kind == "LD"
    for name, register in _SPLIT[item.kind]:
        address = name == "offset"
        if register in row or not (maker.chance(0.3) or moved and address):
            continue
        number = registers.free(used)
        used.add(number)
        immediate = _immediate(maker, 0xFFFFFFFF if address else row[name])
        before += registers.set_to(number, (row[name] - immediate) & 0xFFFFFFFF)
        row |= {name: immediate, register: number}
        if address and (moved or maker.chance(0.3)):
            row["advance"] = 1
    bits = item.fields.get("code_bits", 0)
    if bits and row["bytes"] == item.fields["bytes"] and not row["bytes"] % bits and maker.chance(0.4):
        number = registers.free(used)
        before += registers.set_to(number, bits)
        row |= {"bytes": row["bytes"] // bits, "bytes_register": number, "times": 1, "code_bits": 0}
    if row.get("advance"):
        number = row["base_register"]
        registers.values[number] = (registers.values[number] + times * item.fields["bytes"]) & 0xFFFFFFFF
    return before, row


def _immediate(maker: Maker, most: int) -> int:
    """Nothing, all that can be, or any part."""
    way = maker.whole(0, 2)
    return (0, most, maker.whole(0, most))[way]


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
