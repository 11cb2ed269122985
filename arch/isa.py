"""The instruction set of a core: fields as data, streams as columns, encoding to words and back, disassembly.

A program of a FlightLLM core is a stream of LD, ST, MM, MV, MISC and SYS instructions. Each class has its own in-order
queue; ``wait`` and ``release`` are masks over the five other classes whose tokens order the queues. Where a field lies
is written once, in ``isa_published.toml``.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

WORD_BITS = 32
CLASSES = ("LD", "ST", "MM", "MV", "MISC", "SYS")
CLASS_INDEX = {name: index for index, name in enumerate(CLASSES)}
TOKEN_BITS = len(CLASSES) - 1

Ints = NDArray[np.int64]
Words = NDArray[np.uint32]

_PART = re.compile(r"(\d+)\[(\d+):(\d+)\]")


class Part(msgspec.Struct, frozen=True):
    """``bits`` bits of a field at bit ``low`` of word ``word``."""

    word: int
    low: int
    bits: int


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One field of an instruction: where it lies, what it means, which codes it may hold."""

    name: str
    at: str
    meaning: str
    tokens: bool = False
    values: tuple[str, ...] = ()
    codes: int = 0

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The pieces of the field, low bits first."""
        return tuple(
            Part(int(word), int(low), int(high) - int(low) + 1) for word, high, low in _PART.findall(self.at)
        )

    @functools.cached_property
    def bits(self) -> int:
        """Width."""
        return sum(part.bits for part in self.parts)

    @property
    def limit(self) -> int:
        """Codes must be below this."""
        return len(self.values) or self.codes or 1 << self.bits


class Instruction(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One class: opcode, length in words, fields behind opcode, wait and release."""

    name: str
    opcode: int
    words: int
    meaning: str
    fields: dict[str, Field]

    @functools.cached_property
    def reserved(self) -> tuple[int, ...]:
        """Mask of the reserved bits of every word."""
        used = [0] * self.words
        for field in self.fields.values():
            for part in field.parts:
                used[part.word] |= ((1 << part.bits) - 1) << part.low
        return tuple(~word & 0xFFFFFFFF for word in used)

    @property
    def reserved_bits(self) -> int:
        """Number of reserved bits."""
        return sum(mask.bit_count() for mask in self.reserved)


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """A named set of instructions in their field widths."""

    name: str
    instructions: dict[str, Instruction]


class _InstructionTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    opcode: int
    words: int
    meaning: str
    fields: list[Field] = []
    same_fields_as: str = ""


class _EncodingTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    common: list[Field]
    instruction: list[_InstructionTable]


@functools.cache
def published() -> Encoding:
    """The published field widths."""
    return load_encoding(Path(__file__).with_name("isa_published.toml"))


def load_encoding(path: Path) -> Encoding:
    """The encoding that the TOML file ``path`` describes, checked: no bit twice, no field outside its words."""
    table = convert(read_toml(path), _EncodingTable, path.name)
    if tuple(item.name for item in table.instruction) != CLASSES:
        raise InputError(f"instructions must be {', '.join(CLASSES)}, in this order, in {path.name}")
    own = {item.name: item.fields for item in table.instruction}
    instructions = {}
    for item in table.instruction:
        fields = [*table.common, *(own[item.same_fields_as] if item.same_fields_as else item.fields)]
        _check_layout(item, fields, path.name)
        instructions[item.name] = Instruction(
            name=item.name, opcode=item.opcode, words=item.words, meaning=item.meaning,
            fields={field.name: field for field in fields},
        )  # fmt: skip
    if len({item.opcode for item in table.instruction}) < len(CLASSES):
        raise InputError(f"opcodes must differ, in {path.name}")
    return Encoding(name=table.name, instructions=instructions)


def _check_layout(item: _InstructionTable, fields: Sequence[Field], where: str) -> None:
    used = [0] * item.words
    for field in fields:
        place = f"field {field.name!r} of {item.name}, in {where}"
        if " ".join(f"{p.word}[{p.low + p.bits - 1}:{p.low}]" for p in field.parts) != field.at or not field.parts:
            raise InputError(f"at must be a list of word[high:low], not {field.at!r}, in {place}")
        if field.tokens and field.bits != TOKEN_BITS:
            raise InputError(f"a token mask must have {TOKEN_BITS} bits, not {field.bits}, in {place}")
        for part in field.parts:
            mask = ((1 << part.bits) - 1) << part.low
            if part.bits < 1 or part.word >= item.words or part.low + part.bits > WORD_BITS:
                raise InputError(f"at must lie inside {item.words} words of {WORD_BITS} bits, in {place}")
            if used[part.word] & mask:
                raise InputError(f"no bit may belong to two fields, in {place}")
            used[part.word] |= mask


def token_mask(kind: str, others: Iterable[str]) -> int:
    """The wait or release mask of an instruction of class ``kind`` that names the classes ``others``."""
    mask = 0
    for other in others:
        if other == kind or other not in CLASS_INDEX:
            raise InputError(f"{kind} must exchange tokens with one of the other classes, not {other!r}")
        mask |= 1 << (TOKEN_BITS - 1 - _place(kind, other))
    return mask


def token_classes(kind: str, mask: int) -> tuple[str, ...]:
    """The classes that ``mask`` of an instruction of class ``kind`` names."""
    others = [name for name in CLASSES if name != kind]
    return tuple(name for place, name in enumerate(others) if mask >> (TOKEN_BITS - 1 - place) & 1)


def _place(kind: str, other: str) -> int:
    index = CLASS_INDEX[other]
    return index - (index > CLASS_INDEX[kind])


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """Instructions as columns.

    ``kinds`` is the class of every instruction in program order (an index into ``CLASSES``). ``tables`` has, for each
    class, every field but the opcode as a column over the instructions of that class in program order, which is the
    order of the class's queue.
    """

    kinds: NDArray[np.uint8]
    tables: Mapping[str, Mapping[str, Ints]]

    def __len__(self) -> int:
        return len(self.kinds)

    def count(self, kind: str) -> int:
        """Number of instructions of one class."""
        return len(self.tables[kind]["wait"])

    def byte_size(self, encoding: Encoding | None = None) -> int:
        """Bytes of the encoded stream."""
        instructions = (encoding or published()).instructions
        return sum(self.count(kind) * instructions[kind].words * WORD_BITS // 8 for kind in CLASSES)


def stream_of(
    kinds: NDArray[np.uint8], tables: Mapping[str, Mapping[str, Ints]], encoding: Encoding | None = None
) -> Stream:
    """A stream of ``tables``; fields that a table leaves out are 0, classes that ``tables`` leaves out are empty."""
    encoding = encoding or published()
    counts = np.bincount(kinds, minlength=len(CLASSES))
    full: dict[str, dict[str, Ints]] = {}
    for kind, count in zip(CLASSES, counts, strict=True):
        given = tables.get(kind, {})
        names = [name for name in encoding.instructions[kind].fields if name != "opcode"]
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise InputError(f"fields of {kind} must be among {', '.join(names)}, not {unknown[0]!r}")
        zeros = np.zeros(int(count), np.int64)
        zeros.flags.writeable = False
        full[kind] = {name: _column(given[name], int(count)) if name in given else zeros for name in names}
    return Stream(kinds=kinds, tables=full)


def _column(values: ArrayLike, count: int) -> Ints:
    """``values`` as a column of ``count`` rows; one value stands for all."""
    column = np.asarray(values, dtype=np.int64)
    return column if column.shape == (count,) else np.broadcast_to(column, (count,))


def join(streams: Sequence[Stream]) -> Stream:
    """``streams`` one after the other."""
    return Stream(
        kinds=np.concatenate([item.kinds for item in streams]) if streams else np.zeros(0, np.uint8),
        tables={
            kind: {
                name: np.concatenate([item.tables[kind][name] for item in streams] or [np.zeros(0, np.int64)])
                for name in published().instructions[kind].fields
                if name != "opcode"
            }
            for kind in CLASSES
        },
    )


def encode(stream: Stream, encoding: Encoding | None = None) -> Words:
    """The words of ``stream``; a value that its field cannot hold is an InputError."""
    encoding = encoding or published()
    instructions = [encoding.instructions[kind] for kind in CLASSES]
    sizes = np.array([item.words for item in instructions])[stream.kinds]
    starts = np.cumsum(sizes) - sizes
    words = np.zeros(int(sizes.sum()), np.uint32)
    for index, item in enumerate(instructions):
        rows = starts[stream.kinds == index]
        block = np.zeros((item.words, len(rows)), np.uint32)
        block[0] = item.opcode << item.fields["opcode"].parts[0].low
        for field in item.fields.values():
            if field.name == "opcode":
                continue
            column = stream.tables[item.name][field.name]
            _check_values(column, field, item.name)
            shift = 0
            for part in field.parts:
                piece = column >> shift & (1 << part.bits) - 1
                block[part.word] |= (piece << part.low).astype(np.uint32)
                shift += part.bits
        for word in range(item.words):
            words[rows + word] = block[word]
    return words


def _check_values(column: Ints, field: Field, kind: str) -> None:
    bad = (column < 0) | (column >= field.limit)
    if bad.any():
        row = int(bad.argmax())
        raise InputError(
            f"{field.name} must be 0 ... {field.limit - 1} ({field.bits} bits), not {column[row]}, "
            f"in {kind} number {row}"
        )


def decode(words: Words, where: str = "program", encoding: Encoding | None = None) -> Stream:
    """The stream that ``words`` encode; unknown opcodes or codes, reserved bits and a cut end are an InputError."""
    encoding = encoding or published()
    starts, kinds = _walk(words, where, encoding)
    tables: dict[str, dict[str, Ints]] = {}
    for index, kind in enumerate(CLASSES):
        item = encoding.instructions[kind]
        rows = starts[kinds == index]
        block = [words[rows + word] for word in range(item.words)]
        for word, mask in enumerate(item.reserved):
            bad = (block[word] & np.uint32(mask)) != 0
            if bad.any():
                at = int(rows[bad.argmax()]) + word
                found = int(words[at]) & mask
                raise InputError(f"reserved bits must be 0, not {found:#x}, in word {at} ({kind}) of {where}")
        table = tables[kind] = {}
        for field in item.fields.values():
            if field.name == "opcode":
                continue
            column = np.zeros(len(rows), np.int64)
            shift = 0
            for part in field.parts:
                piece = (block[part.word].astype(np.int64) >> part.low) & ((1 << part.bits) - 1)
                column |= piece << shift
                shift += part.bits
            bad = column >= field.limit
            if bad.any():
                row = int(bad.argmax())
                raise InputError(
                    f"{field.name} must be 0 ... {field.limit - 1}, not {column[row]}, "
                    f"in word {rows[row]} ({kind}) of {where}"
                )
            table[field.name] = column
    return Stream(kinds=kinds, tables=tables)


def _walk(words: Words, where: str, encoding: Encoding) -> tuple[Ints, NDArray[np.uint8]]:
    """First word and class of every instruction."""
    by_opcode = {item.opcode: (index, item.words) for index, item in enumerate(encoding.instructions.values())}
    opcodes = (words >> np.uint32(WORD_BITS - 4)).tolist()
    starts, kinds = [], bytearray()
    at, end = 0, len(opcodes)
    while at < end:
        found = by_opcode.get(opcodes[at])
        if found is None:
            known = ", ".join(str(opcode) for opcode in by_opcode)
            raise InputError(f"opcode must be one of {known}, not {opcodes[at]}, in word {at} of {where}")
        starts.append(at)
        kinds.append(found[0])
        at += found[1]
    if at > end:
        kind = CLASSES[kinds[-1]]
        raise InputError(
            f"a program must end with a whole instruction: {kind} at word {starts[-1]} needs "
            f"{encoding.instructions[kind].words} words, {end - starts[-1]} are left, in {where}"
        )
    return np.array(starts, np.int64), np.frombuffer(bytes(kinds), np.uint8)


def to_bytes(stream: Stream, encoding: Encoding | None = None) -> bytes:
    """The encoded stream as little-endian bytes."""
    return encode(stream, encoding).astype("<u4").tobytes()


def from_bytes(data: bytes, where: str = "program", encoding: Encoding | None = None) -> Stream:
    """The stream in the little-endian bytes ``data``."""
    if len(data) % (WORD_BITS // 8):
        raise InputError(f"a program must be whole words of {WORD_BITS // 8} bytes, not {len(data)} bytes, in {where}")
    return decode(np.frombuffer(data, "<u4").astype(np.uint32), where, encoding)


def disassemble(
    stream: Stream, first: int = 0, last: int | None = None, encoding: Encoding | None = None
) -> Iterator[str]:
    """Instructions ``first`` to before ``last`` as text, one a line; fields that are 0 are left out."""
    encoding = encoding or published()
    last = len(stream) if last is None else min(last, len(stream))
    rows = np.bincount(stream.kinds[:first], minlength=len(CLASSES)).tolist()
    for number in range(first, last):
        index = int(stream.kinds[number])
        kind = CLASSES[index]
        table = stream.tables[kind]
        texts = []
        for field in encoding.instructions[kind].fields.values():
            if field.name == "opcode":
                continue
            value = int(table[field.name][rows[index]])
            if field.tokens and value:
                texts.append(f"{field.name}={'+'.join(token_classes(kind, value))}")
            elif field.values:
                texts.append(f"{field.name}={field.values[value]}")
            elif value:
                texts.append(f"{field.name}={value}")
        rows[index] += 1
        yield f"{number:>8} {kind:<4} {' '.join(texts)}".rstrip()
