"""The compact instruction set: registers, loops, and what a well-formed program is.

Fields and units: ``isa_compact.toml``. What a sequencer does with a text, instruction by instruction:

LD, ST, MM, MV, MISC and the SYS operations barrier, exchange and done go to the queue of their class, operands
    evaluated (immediate plus register) at that moment; ``advance`` then adds the bytes to the base register.
SYS loop pushes (iterations, address of the next instruction); 0 iterations skip to behind its END.
SYS end counts the innermost loop down and goes back to its start, or pops it.
SYS set writes R[destination] = R[source] + R[other] + value modulo 2^32.
SYS rotate adds ``value`` to R[destination] and subtracts ``limit`` where that is reached: the pointer of a ring.
SYS fetch writes the constant of number R[source] + value.

Queues, tokens: as in ``isa``. R0 reads 0 and is never written.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, Encoding, Stream, disassemble, from_bytes, load_encoding

REGISTERS = 32
LOOP_DEPTH = 8
SLOTS = 4
LINE_BYTES = 64
K_BLOCK = 16
KEPT = (2, 4, 8)
"""Weights of a block of 16 that N:M weights may keep: a word has the codes of whole blocks."""
CONSTANTS = 8192
"""Words of the memory of constants: what differs from layer to layer, and lists of attention blocks."""
INSTRUCTION_BYTES = 16


@functools.cache
def compact() -> Encoding:
    """The compact field widths."""
    return load_encoding(Path(__file__).with_name("isa_compact.toml"))


@functools.cache
def codes(kind: str, field: str) -> dict[str, int]:
    """Name to code of a field that names its values."""
    return {name: code for code, name in enumerate(compact().instructions[kind].fields[field].values)}


SEQUENCED = ("loop", "end", "set", "rotate", "fetch")
"""SYS operations that the sequencer carries out itself; they neither wait nor release."""


def read_program(data: bytes, where: str = "program") -> Stream:
    """The compact program in ``data``; a damaged one is an InputError."""
    stream = from_bytes(data, where, compact())
    check(stream, where)
    return stream


def check(stream: Stream, where: str = "program") -> None:
    """Loops are whole, at most ``LOOP_DEPTH`` deep and as long as they say; R0 is never written; the end is DONE."""
    table, operation = stream.tables["SYS"], codes("SYS", "operation")
    at = np.flatnonzero(stream.kinds == CLASS_INDEX["SYS"])
    open_loops: list[int] = []
    writes = np.isin(table["operation"], [operation[name] for name in ("set", "rotate", "fetch")])
    _refuse(at, writes & (table["destination"] == 0), "a register that is written must not be R0", where)
    sequenced = np.isin(table["operation"], [operation[name] for name in SEQUENCED])
    _refuse(at, sequenced & ((table["wait"] | table["release"]) != 0), "loops and registers must have no tokens", where)
    for name in ("LD", "ST"):
        places = np.flatnonzero(stream.kinds == CLASS_INDEX[name])
        moved = stream.tables[name]
        bad = (moved["advance"] == 1) & (moved["base_register"] == 0)
        _refuse(places, bad, "a register that is written must not be R0", where)
    for number, name, limit in zip(at.tolist(), table["operation"].tolist(), table["limit"].tolist(), strict=True):
        if name == operation["loop"]:
            open_loops.append(number + limit)
            if len(open_loops) > LOOP_DEPTH:
                raise InputError(f"loops must nest at most {LOOP_DEPTH} deep, at instruction {number} of {where}")
        elif name == operation["end"] and (not open_loops or open_loops.pop() != number):
            raise InputError(f"END must end the loop that says so, at instruction {number} of {where}")
    if open_loops:
        raise InputError(f"every loop must end, but {len(open_loops)} do not, in {where}")
    last = len(stream.kinds) - 1
    if last < 0 or stream.kinds[last] != CLASS_INDEX["SYS"] or table["operation"][-1] != operation["done"]:
        raise InputError(f"a program must end with SYS done, in {where}")


def _refuse(at: np.ndarray, bad: np.ndarray, message: str, where: str) -> None:
    if bad.any():
        raise InputError(f"{message}, at instruction {at[bad.argmax()]} of {where}")


def listing(stream: Stream) -> Iterator[str]:
    """The program as text, loops indented."""
    operations = compact().instructions["SYS"].fields["operation"].values
    names = iter(operations[code] for code in stream.tables["SYS"]["operation"])
    depth = 0
    for kind, line in zip(stream.kinds, disassemble(stream, encoding=compact()), strict=True):
        name = next(names) if kind == CLASS_INDEX["SYS"] else ""
        depth -= name == "end"
        yield line[:9] + "  " * depth + line[9:]
        depth += name == "loop"
