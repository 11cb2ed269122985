"""The control registers of a core: the table in ``core_registers.toml``, as a C header and as text."""

import functools
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mixflight.arch.core_errors import MEANINGS
from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

WORD_BYTES = 4
BITS = 32


class RegisterField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bits ``at`` = "high:low" of a register."""

    name: str
    at: str
    meaning: str

    @property
    def low(self) -> int:
        """Lowest bit."""
        return int(self.at.partition(":")[2])

    @property
    def bits(self) -> int:
        """Width."""
        return int(self.at.partition(":")[0]) - self.low + 1


class ControlRegister(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``count`` words from ``address`` on."""

    name: str
    address: int
    access: str
    meaning: str
    count: int = 1
    fields: tuple[RegisterField, ...] = ()


class RegisterMap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"rows": "register"}):
    """All registers by ascending address."""

    address_bits: int
    rows: tuple[ControlRegister, ...]

    def __getitem__(self, name: str) -> ControlRegister:
        return next(row for row in self.rows if row.name == name)


@functools.cache
def core_registers() -> RegisterMap:
    """The map of a core."""
    return load_registers(Path(__file__).with_name("core_registers.toml"))


def load_registers(path: Path) -> RegisterMap:
    """The map in the TOML file ``path``, checked: words, in order, no two in one place, fields inside a word."""
    found = convert(read_toml(path), RegisterMap, path.name)
    end = 0
    for row in found.rows:
        where = f"register {row.name!r}, in {path.name}"
        if row.access not in ("rw", "ro", "wo"):
            raise InputError(f"access must be rw, ro or wo, not {row.access!r}, of {where}")
        if row.address % WORD_BYTES or row.address < end or row.count < 1:
            raise InputError(f"address must be a multiple of {WORD_BYTES} behind the register before, not "
                             f"{row.address:#x}, of {where}")  # fmt: skip
        end = row.address + WORD_BYTES * row.count
        used = 0
        for item in row.fields:
            mask = ((1 << item.bits) - 1) << item.low
            if item.bits < 1 or item.low + item.bits > BITS or used & mask:
                raise InputError(f"at must be high:low inside {BITS} bits of its own, not {item.at!r}, of field "
                                 f"{item.name!r} of {where}")  # fmt: skip
            used |= mask
    if end > 1 << found.address_bits:
        raise InputError(f"registers must lie below {1 << found.address_bits:#x}, not {end:#x}, in {path.name}")
    return found


def c_header(
    machine: str, *, values: Mapping[str, tuple[int, ...]], sequencer: Mapping[str, int], cores: int = 1
) -> str:  # fmt: skip
    """The map as a C header: offsets, shifts and masks of fields, error codes.

    ``values`` that registers of this machine are fixed to; ``sequencer``: what the compiler calls each register of the
    sequencer, with its number. Several ``cores`` on one bus: where each one's window is, and that of all.
    """
    name = "".join(letter if letter.isalnum() else "_" for letter in machine).upper()
    lines = [f"/* Registers of a core of {machine}: offsets in its window of the control bus. */",
             f"#ifndef {name}_REGISTERS_H", f"#define {name}_REGISTERS_H", ""]  # fmt: skip
    if cores > 1:
        size = 1 << core_registers().address_bits
        lines += [f"#define CORE_CORES {cores}u /* on one bus, each with a window */",
                  f"#define CORE_WINDOW(core) (0x{size:x}u * (core)) /* of a core */",
                  f"#define CORE_WINDOW_ALL CORE_WINDOW({cores}u) /* writes to all cores at once; START only here */",
                  ""]  # fmt: skip
    for row in core_registers().rows:
        given = values.get(row.name)
        note = f"{row.access}: {row.meaning}" + (f" ({', '.join(map(str, given))})" if given else "")
        place = f"(0x{row.address:03x}u + 4u * (n))" if row.count > 1 else f"0x{row.address:03x}u"
        lines.append(f"#define CORE_{row.name}{'(n)' if row.count > 1 else ''} {place} /* {note} */")
        for item in row.fields:
            both = f"CORE_{row.name}_{item.name.upper()}"
            lines.append(f"#define {both}_SHIFT {item.low}u /* {item.meaning} */")
            lines.append(f"#define {both}_MASK 0x{((1 << item.bits) - 1) << item.low:x}u")
    lines += ["", *(f"#define CORE_ERROR_{code.name} {int(code)}u /* {text} */" for code, text in MEANINGS.items())]
    lines += ["", *(f"#define R_{item} {number}u" for item, number in sequencer.items()), "", "#endif"]
    return "\n".join(lines) + "\n"


def as_markdown(*, cores: int = 1) -> str:
    """The map as a table, and where the windows of several ``cores`` are."""
    size = 1 << core_registers().address_bits
    lines = [
        f"Core n of {cores} has its window at n x `0x{size:x}`.",
        f"What is written from `0x{cores * size:x}` on is written to all of them in the same cycle, and START must be;",
        "that window cannot be read.", "",
    ] if cores > 1 else []  # fmt: skip
    lines += ["| offset | name | access | meaning |", "|---|---|---|---|"]
    for row in core_registers().rows:
        last = row.address + WORD_BYTES * (row.count - 1)
        place = f"`0x{row.address:03x}`" + (f" … `0x{last:03x}`" if row.count > 1 else "")
        parts = "; ".join(f"`{item.name}` [{item.at}]: {item.meaning}" for item in row.fields)
        lines.append(f"| {place} | `{row.name}` | {row.access} | {row.meaning}{'. ' + parts if parts else ''} |")
    lines += ["", "| error | name | meaning |", "|---|---|---|"]
    lines += [f"| {int(code)} | `{code.name}` | {text} |" for code, text in MEANINGS.items()]
    return "\n".join(lines) + "\n"
