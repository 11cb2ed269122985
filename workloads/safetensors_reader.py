"""safetensors files and sharded folders: named arrays, memory-mapped, nothing converted.

    open_safetensors   a file, or a folder with one file or with an index of shards, to a SafetensorsFile
    SafetensorsFile    .arrays (name to StoredArray) and .metadata
    StoredArray        data type, shape and bytes of one array

No number in a file is trusted: what breaks the format is an InputError that says what must hold, what came and where.
Layout: the length of the header (8 bytes, little endian), the header as JSON (name to data type, shape and the two ends
of its bytes), then the data, row-major and without gaps. Why an own reader:
arch/decisions/0004-own-safetensors-reader.md.
"""

import json
import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_HEADER_BYTES = 100_000_000
MAX_JSON_BYTES = 100_000_000
_LENGTH = struct.Struct("<Q")

# The format's data types: bytes of an element, and what NumPy reads them as; FP8 and BF16 as the bits of integers.
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("u1"), "U8": np.dtype("u1"), "I8": np.dtype("i1"),
    "F8_E4M3": np.dtype("u1"), "F8_E5M2": np.dtype("u1"), "I16": np.dtype("<i2"), "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"), "I32": np.dtype("<i4"), "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"), "I64": np.dtype("<i8"), "U64": np.dtype("<u8"), "F64": np.dtype("<f8"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredArray:
    """One array of a file; ``raw`` is a view of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    raw: NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """Stored bytes."""
        return int(self.raw.size)

    def numbers(self) -> NDArray[Any]:
        """The array as stored; BF16 and FP8 are the integers of their bits."""
        return self.raw.view(DTYPES[self.dtype]).reshape(self.shape)

    def floats(self) -> NDArray[Any]:
        """The finite values of an F16, BF16, F32 or F64 array, BF16 widened to FP32."""
        if self.dtype not in ("F16", "BF16", "F32", "F64"):
            raise InputError(f"array {self.name!r} must hold floats, not {self.dtype}")
        values: NDArray[Any] = self.numbers()
        if self.dtype == "BF16":
            values = (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"every value must be finite, in array {self.name!r}")
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class SafetensorsFile:
    """The arrays of one file or of all shards. Files stay mapped as long as one of their arrays lives."""

    path: Path
    arrays: dict[str, StoredArray]
    metadata: dict[str, str]

    def array(self, name: str) -> StoredArray:
        """The array ``name``; an InputError where there is none."""
        if name not in self.arrays:
            raise InputError(f"the file must hold array {name!r}, which is missing, in {self.path}")
        return self.arrays[name]


def open_safetensors(path: Path | str) -> SafetensorsFile:
    """Map a file, or the files of a folder, and read the headers.

    A folder holds ``model.safetensors.index.json`` and the shards that it names, or ``model.safetensors``.
    """
    path = Path(path)
    if not path.is_dir():
        return _open_file(path)
    if not (path / INDEX).exists():
        if not (path / SINGLE).exists():
            raise InputError(f"a model folder must hold {SINGLE} or {INDEX}: {path}")
        return _open_file(path / SINGLE)
    index = read_json(path / INDEX)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(shard, str) for shard in names.values()):
        raise InputError(f"weight_map must be a table of file names: {path / INDEX}")
    arrays: dict[str, StoredArray] = {}
    metadata: dict[str, str] = {}
    present = {file.name for file in path.iterdir()}
    for shard in dict.fromkeys(names.values()):
        if shard not in present:
            raise InputError(f"the folder must hold the shard {shard!r:.100}, which is missing: {path}")
        part = _open_file(path / shard)
        for name, array in part.arrays.items():
            if names.get(name) != shard:
                raise InputError(f"array {name!r} must be in {names.get(name)!r:.100}, but {shard!r} holds it: {path}")
            arrays[name] = array
        metadata |= part.metadata
    for name, shard in names.items():
        if name not in arrays:
            raise InputError(f"the shard {shard!r} must hold array {name!r:.100}, which is missing: {path}")
    return SafetensorsFile(path=path, arrays=arrays, metadata=metadata)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"a JSON file must have at most {MAX_JSON_BYTES} bytes: {path}")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"the file must be readable: {error.strerror or error}: {path}") from None


def parse_json(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object in ``raw``; keys must be unique."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InputError(f"keys must be unique in JSON: {where}")
        return found

    def constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is no number")

    try:
        value = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=constant)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"JSON must not be nested so deeply: {where}") from None
    except ValueError as error:
        reason = str(error).splitlines()[0][:100]
        raise InputError(f"what should be JSON is not ({reason}): {where}") from None
    if not isinstance(value, dict):
        raise InputError(f"the JSON must be an object, not a {type(value).__name__}: {where}")
    return value


def _open_file(path: Path) -> SafetensorsFile:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < _LENGTH.size:
                raise InputError(f"a safetensors file must have at least 8 bytes, not {size}: {path}")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the file must be readable: {getattr(error, 'strerror', None) or error}: {path}") from None
    (length,) = _LENGTH.unpack_from(data)
    if length > min(size - _LENGTH.size, MAX_HEADER_BYTES):
        raise InputError(
            f"the header must have at most {min(size - _LENGTH.size, MAX_HEADER_BYTES)} bytes, not {length}: {path}"
        )
    start = _LENGTH.size + length
    header = parse_json(data[_LENGTH.size : start], f"the header of {path}")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"__metadata__ must be a table of strings: {path}")
    arrays: dict[str, StoredArray] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(name, entry, size - start, path)
        raw = np.frombuffer(data, np.uint8, end - begin, start + begin)
        arrays[name] = StoredArray(name=name, dtype=dtype, shape=shape, raw=raw)
        spans.append((begin, end, name))
    _covered(spans, size - start, path)
    return SafetensorsFile(path=path, arrays=arrays, metadata=metadata)


def _entry(name: str, entry: Any, room: int, path: Path) -> tuple[str, tuple[int, ...], int, int]:
    """Data type, shape and ends of an array, checked."""
    where = f"array {name!r}: {path}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise InputError(f"an array must have dtype, shape and data_offsets and nothing else, {where}")
    dtype, shape, ends = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r:.40}, {where}")
    if not _counts(shape) or math.prod(shape) >= 2**63:
        raise InputError(f"shape must be a list of sizes with a product below 2^63, not {shape!r:.60}, {where}")
    if not _counts(ends) or len(ends) != 2 or not ends[0] <= ends[1] <= room:
        raise InputError(f"data_offsets must be two ascending offsets of at most {room}, not {ends!r:.60}, {where}")
    expected = math.prod(shape) * DTYPES[dtype].itemsize
    if ends[1] - ends[0] != expected:
        raise InputError(
            f"{dtype} of shape {shape} must have {expected} bytes, not {ends[1] - ends[0]}, {where}"
        )
    return dtype, tuple(shape), ends[0], ends[1]


def _counts(value: Any) -> bool:
    """Whether ``value`` is a list of integers of 0 or more."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _covered(spans: list[tuple[int, int, str]], room: int, path: Path) -> None:
    """Arrays lie one after the other, without overlap or gap, up to the end of the file."""
    at, before = 0, ""
    for begin, end, name in sorted(spans):
        if begin < at:
            raise InputError(f"arrays must not overlap, but {before!r} and {name!r} do: {path}")
        if begin > at:
            raise InputError(f"array {name!r} must start where the last one ended, at {at}, not {begin}: {path}")
        at, before = end, name
    if at != room:
        raise InputError(f"the arrays must fill the data, {room} bytes, but end at {at}: {path}")
