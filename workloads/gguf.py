"""GGUF files, versions 2 and 3: metadata and packed tensors, memory-mapped, nothing dequantised.

    open_gguf   a file to a GgufFile
    GgufFile    .metadata (a mapping with typed getters) and .tensors (name to Tensor)

No number in the file is trusted: each offset and count is checked against the file's size before it is used,
and a file that breaks the format is an InputError that says what must hold, what came and where. Layout:
magic, version, counts; metadata as (key, type, value); per tensor name, dimensions (fastest first), type and
offset; then the data, each tensor aligned to ``general.alignment``. Why an own reader:
arch/decisions/0001-own-gguf-reader.md.
"""

import math
import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.tensor import LAYOUTS, Tensor, stored_bytes

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

# ggml's type numbers, the removed ones included, so that an error can name what the file holds.
GGML_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 4: "Q4_2", 5: "Q4_3", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0",
    9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS",
    17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS",
    24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M", 30: "BF16", 31: "Q4_0_4_4",
    32: "Q4_0_4_8", 33: "Q4_0_8_8", 34: "TQ1_0", 35: "TQ2_0", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}
SUPPORTED = {number: name for number, name in GGML_TYPES.items() if name.lower() in LAYOUTS}

# Metadata value types: the fixed-size ones by NumPy type, then the two that are not.
_SCALARS = {
    number: np.dtype(code)
    for number, code in {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
                         10: "<u8", 11: "<i8", 12: "<f8"}.items()
}
_BOOL, _STRING, _ARRAY = 7, 8, 9

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")
_LEAST_ENTRY_BYTES = 8 + 4 + 1  # an empty key, a type and a one-byte value
_LEAST_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8  # an empty name and one dimension


class Metadata(Mapping[str, Any]):
    """The file's metadata, decoded when it is asked for.

    String arrays come as lists of str, other arrays as NumPy arrays. The named getters check the type and
    raise an InputError where a key is missing.
    """

    def __init__(self, where: str, entries: dict[str, Callable[[], Any]]) -> None:
        self._where = where
        self._entries = entries
        self._decoded: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._decoded:
            self._decoded[key] = self._entries[key]()
        return self._decoded[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def text(self, key: str) -> str:
        """The string under ``key``."""
        value = self._required(key)
        return value if isinstance(value, str) else self._wrong(key, "a string", value)

    def integer(self, key: str, low: int = 0, high: int = 2**31 - 1) -> int:
        """The integer under ``key``, which must lie in low..high."""
        value = self._required(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self._wrong(key, f"an integer in {low}..{high}", value)
        return value

    def number(self, key: str) -> float:
        """The finite number under ``key``."""
        value = self._required(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            self._wrong(key, "a finite number", value)
        return float(value)

    def flag(self, key: str) -> bool:
        """The boolean under ``key``."""
        value = self._required(key)
        return value if isinstance(value, bool) else self._wrong(key, "a boolean", value)

    def strings(self, key: str) -> list[str]:
        """The string array under ``key``."""
        value = self._required(key)
        return value if isinstance(value, list) else self._wrong(key, "an array of strings", value)

    def integers(self, key: str) -> NDArray[np.integer[Any]]:
        """The integer array under ``key``."""
        value = self._required(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "iu":
            self._wrong(key, "an array of integers", value)
        return value

    def _required(self, key: str) -> Any:
        if key not in self._entries:
            raise InputError(f"the metadata must hold key {key!r}, which is missing, in {self._where}")
        return self[key]

    def _wrong(self, key: str, wanted: str, value: object) -> NoReturn:
        is_array = isinstance(value, list | np.ndarray)
        shown = "an array" if is_array else f"{type(value).__name__} {repr(value):.40}"
        raise InputError(f"metadata key {key!r} must be {wanted}, not {shown}, in {self._where}")


@dataclass(frozen=True, kw_only=True, eq=False)
class GgufFile:
    """An open GGUF file. The file stays mapped as long as one of its tensors lives."""

    path: Path
    version: int
    size: int
    alignment: int
    data_offset: int
    metadata: Metadata
    tensors: dict[str, Tensor]

    def tensor(self, name: str) -> Tensor:
        """The tensor ``name``; an InputError where the file has none."""
        if name not in self.tensors:
            raise InputError(f"the file must hold tensor {name!r}, which is missing, in {self.path}")
        return self.tensors[name]


def open_gguf(path: Path | str) -> GgufFile:
    """Map the file and read its header; tensors and string arrays are read when asked for."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # opening a pipe would wait for a writer
            raise InputError(f"a GGUF file must be a regular file: {path}")
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < len(MAGIC):
                raise InputError(f"a GGUF file must start with {MAGIC!r}, but it has {size} bytes: {path}")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"a GGUF file must be readable: {error.strerror or error}: {path}") from error
    return _read(path, mapped)


class _Cursor:
    """A position in the mapped file that cannot leave it."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.size = len(data)
        self.at = 0

    def need(self, count: int, what: str) -> int:
        """Claim ``count`` bytes and return where they start."""
        start = self.at
        if count > self.size - start:
            raise InputError(
                f"{what} needs {count} bytes at byte {start}, but the file ends at {self.size}: {self.path}"
            )
        self.at = start + count
        return start

    def u32(self, what: str) -> int:
        value: int = _U32.unpack_from(self.data, self.need(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        value: int = _U64.unpack_from(self.data, self.need(8, what))[0]
        return value

    def count(self, least: int, what: str) -> int:
        """A number of entries that take at least ``least`` bytes each."""
        value = self.u64(f"the number of {what}")
        if value > (self.size - self.at) // least:
            raise InputError(
                f"the number of {what} must fit the file: {value} came with {self.size - self.at} bytes left"
                f": {self.path}"
            )
        return value

    def string(self, what: str) -> str:
        length = self.u64(what)
        start = self.need(length, what)
        return self.decode(start, length, what)

    def decode(self, start: int, length: int, what: str) -> str:
        try:
            return self.data[start : start + length].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            raise InputError(f"{what} must be UTF-8: {error.reason} at byte {at}: {self.path}") from None


def _read(path: Path, data: mmap.mmap) -> GgufFile:
    cursor = _Cursor(path, data)
    magic = data[cursor.need(4, "the magic") : 4]
    if magic != MAGIC:
        raise InputError(f"a GGUF file must start with {MAGIC!r}, not {magic!r}: {path}")
    version = cursor.u32("the version")
    if version not in VERSIONS:
        hint = " (big-endian files are not supported)" if version and version & 0xFFFF == 0 else ""
        raise InputError(f"the GGUF version must be 2 or 3, not {version}{hint}: {path}")
    tensor_count = cursor.count(_LEAST_TENSOR_BYTES, "tensors")
    entries: dict[str, Callable[[], Any]] = {}
    for _ in range(cursor.count(_LEAST_ENTRY_BYTES, "metadata entries")):
        key = cursor.string("a metadata key")
        if key in entries:
            raise InputError(f"metadata keys must be unique, but {key!r} came twice: {path}")
        entries[key] = _value(cursor, f"metadata key {key!r}")
    metadata = Metadata(str(path), entries)
    alignment = DEFAULT_ALIGNMENT
    if "general.alignment" in metadata:
        alignment = metadata.integer("general.alignment")
    if alignment < 1 or alignment & (alignment - 1):
        raise InputError(f"general.alignment must be a power of two, not {alignment}: {path}")
    infos = _tensor_infos(cursor, tensor_count)
    data_offset = -(-cursor.at // alignment) * alignment
    tensors = _tensors(cursor, infos, alignment, data_offset)
    return GgufFile(
        path=path, version=version, size=cursor.size, alignment=alignment, data_offset=data_offset,
        metadata=metadata, tensors=tensors,
    )


def _value(cursor: _Cursor, what: str) -> Callable[[], Any]:
    """Step over one metadata value and return what decodes it."""
    kind = cursor.u32(what)
    if kind == _STRING:
        length = cursor.u64(what)
        start = cursor.need(length, what)
        return lambda: cursor.decode(start, length, what)
    if kind == _ARRAY:
        return _array(cursor, what)
    if kind not in _SCALARS:
        raise InputError(f"{what} must have a known value type (0 to 12), not {kind}: {cursor.path}")
    values = _scalars(cursor, kind, 1, what)
    return lambda: values[0].item()


def _array(cursor: _Cursor, what: str) -> Callable[[], Any]:
    kind = cursor.u32(what)
    if kind == _STRING:
        count = cursor.count(8, f"strings of {what}")
        start = cursor.at
        unpack, at, size, data = _U64.unpack_from, start, cursor.size, cursor.data
        last = size - 8
        for _ in range(count):
            if at > last:
                break
            at += 8 + unpack(data, at)[0]
        else:
            if at <= size:
                cursor.at = at
                return lambda: _strings(cursor, start, count, what)
        raise InputError(f"the strings of {what} must fit the file, which ends at {size}: {cursor.path}")
    if kind not in _SCALARS:
        named = "arrays of arrays are not supported" if kind == _ARRAY else f"not {kind}"
        raise InputError(f"the elements of {what} must have a known value type, {named}: {cursor.path}")
    count = cursor.count(_SCALARS[kind].itemsize, f"elements of {what}")
    values = _scalars(cursor, kind, count, what)
    return lambda: values


def _scalars(cursor: _Cursor, kind: int, count: int, what: str) -> NDArray[Any]:
    dtype = _SCALARS[kind]
    start = cursor.need(count * dtype.itemsize, what)
    values: NDArray[Any] = np.frombuffer(cursor.data, dtype, count, start)
    if kind == _BOOL and count and (worst := values.view(np.uint8).max()) > 1:
        raise InputError(f"{what} must hold booleans 0 or 1, not {worst}: {cursor.path}")
    return values


def _strings(cursor: _Cursor, at: int, count: int, what: str) -> list[str]:
    unpack, data = _U64.unpack_from, cursor.data
    found = []
    for _ in range(count):
        length = unpack(data, at)[0]
        at += 8
        found.append(cursor.decode(at, length, what))
        at += length
    return found


@dataclass(frozen=True, kw_only=True)
class _Info:
    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


def _tensor_infos(cursor: _Cursor, count: int) -> list[_Info]:
    infos: dict[str, _Info] = {}
    for _ in range(count):
        name = cursor.string("a tensor name")
        what = f"tensor {name!r}"
        if name in infos:
            raise InputError(f"tensor names must be unique, but {name!r} came twice: {cursor.path}")
        dimensions = cursor.u32(what)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise InputError(
                f"{what} must have 1 to {MAX_DIMENSIONS} dimensions, not {dimensions}: {cursor.path}"
            )
        fastest_first = [cursor.u64(what) for _ in range(dimensions)]
        if math.prod(fastest_first) >= 2**63:
            raise InputError(f"{what} must have less than 2^63 elements, not {fastest_first}: {cursor.path}")
        kind = cursor.u32(what)
        if kind not in SUPPORTED:
            raise InputError(
                f"{what} has type {GGML_TYPES.get(kind, f'number {kind}')}, supported: "
                f"{', '.join(SUPPORTED.values())}: {cursor.path}"
            )
        shape = tuple(reversed(fastest_first))
        infos[name] = _Info(name=name, shape=shape, kind=kind, offset=cursor.u64(what))
    return list(infos.values())


def _tensors(cursor: _Cursor, infos: list[_Info], alignment: int, data_offset: int) -> dict[str, Tensor]:
    room = cursor.size - data_offset
    sizes = {info.name: _stored(cursor, info) for info in infos}
    for info in infos:
        if info.offset % alignment:
            raise InputError(
                f"tensor {info.name!r} must start at a multiple of {alignment}, not {info.offset}"
                f": {cursor.path}"
            )
        if info.offset + sizes[info.name] > room:
            raise InputError(
                f"tensor {info.name!r} needs {sizes[info.name]} bytes at byte {data_offset + info.offset}, "
                f"but the file ends at {cursor.size}: {cursor.path}"
            )
    in_order = sorted(infos, key=lambda info: info.offset)
    for before, after in zip(in_order, in_order[1:], strict=False):
        if before.offset + sizes[before.name] > after.offset:
            raise InputError(
                f"tensors must not overlap, but {before.name!r} and {after.name!r} do: {cursor.path}"
            )
    return {
        info.name: Tensor(
            name=info.name,
            shape=info.shape,
            format=FORMATS[SUPPORTED[info.kind].lower()],
            raw=np.frombuffer(cursor.data, np.uint8, sizes[info.name], data_offset + info.offset),
        )
        for info in infos
    }


def _stored(cursor: _Cursor, info: _Info) -> int:
    try:
        return stored_bytes(info.name, info.shape, FORMATS[SUPPORTED[info.kind].lower()])
    except InputError as error:
        raise InputError(f"{error}: {cursor.path}") from None
