"""Where the operands of the compact instructions lie in their words, for the sequencer.

An operand is an immediate plus a register. The classes share seven adders, *places*, of the width of the widest operand
that each adds; ``PLACES`` says which operand of which class goes where.
"""

from amaranth import *

from mixflight.arch.compact import codes, compact
from mixflight.rtl.core_ports import primitive

INSTRUCTION_BITS = 128

PLACES: dict[str, dict[str, tuple[str, str, str]]] = {
    "a": {"LD": ("address", "offset", "base_register"), "MM": ("rows", "rows", "rows_register"),
          "MISC": ("vectors", "vectors", "vectors_register"), "SYS": ("value", "value", "source")},
    "b": {"LD": ("bytes", "bytes", "bytes_register"), "MM": ("columns", "columns", "columns_register"),
          "MISC": ("elements", "elements", "elements_register"), "SYS": ("", "", "other")},
    "c": {"LD": ("line", "buffer_line", "buffer_register"), "MM": ("in_line", "in_line", "in_register"),
          "MISC": ("a_line", "a_line", "a_register")},
    "d": {"LD": ("channel", "channel", "channel_register"), "MM": ("out_line", "out_line", "out_register"),
          "MISC": ("b_line", "b_line", "b_register")},
    "e": {"MM": ("k_blocks", "k_blocks", "k_register"), "MISC": ("out_line", "out_line", "out_register")},
    "f": {"MM": ("weight_bits", "weight_bits", "bits_register")},
    "g": {"LD": ("slot", "", "buffer_register"), "MM": ("slot", "", "slot_register")},
}  # fmt: skip
"""Place -> class -> (evaluated operand, field of the immediate or "", field of the register)."""
for _operands in PLACES.values():
    for _kind, _like in (("ST", "LD"), ("MV", "MM")):
        if _like in _operands:
            _operands[_kind] = _operands[_like]

WIDTHS = {"a": 32, "b": 32, "c": 18, "d": 14, "e": 17, "f": 4, "g": 2}
"""Bits of each place; those of the bytes of a transfer serve ``advance`` too, which adds them to an address."""


def field(word: Value, kind: str, name: str) -> Value:
    """Field ``name`` of the instruction ``word`` of class ``kind``."""
    parts = compact().instructions[kind].fields[name].parts
    return Cat(word[32 * part.word + part.low : 32 * part.word + part.low + part.bits] for part in parts)


def evaluated(kind: str) -> dict[str, str]:
    """Operands of class ``kind`` that have a register, and their places."""
    return {operands[kind][0]: place for place, operands in PLACES.items() if kind in operands and operands[kind][0]}


def unchanged(kind: str) -> dict[str, str]:
    """The other members of an evaluated instruction, and the fields that they come from."""
    names = [name for name in primitive(kind).members if name not in evaluated(kind)]
    return {name: "memory" if name == "ddr" else name for name in names}


def opcode_is(word: Value, kind: str) -> Value:
    """Whether ``word`` is of class ``kind``."""
    return word[28:32] == compact().instructions[kind].opcode


def malformed(word: Value, kind: str) -> Value:
    """Whether ``word``, of class ``kind``, has reserved bits or a code that means nothing."""
    instruction = compact().instructions[kind]
    bad = [
        Cat(word[32 * number + bit] for number, mask in enumerate(instruction.reserved) for bit in range(32)
            if mask >> bit & 1).any()
    ]  # fmt: skip
    limited = [item for item in instruction.fields.values() if item.limit < 1 << item.bits]
    bad += [field(word, kind, item.name) >= item.limit for item in limited]
    return Cat(bad).any()


def operation_is(word: Value, name: str) -> Value:
    """Whether ``word``, of class SYS, has the operation ``name``."""
    return field(word, "SYS", "operation") == codes("SYS", "operation")[name]
