"""One stored weight: packed codes, scales and minima as the file holds them, read without dequantising.

    LAYOUTS        how each format lies in memory, one row per format
    Tensor         a name, a shape, a format and the stored bytes
    pack_tensor    the inverse: codes, scales and minima (or values) to a Tensor

A matrix has shape (N, K) and K is contiguous; blocks run along K. Tensors of more dimensions are read as the
matrix (product of the leading dimensions, K); a tensor of one dimension is the matrix (1, K).

Formats of two levels (the K-quants and IQ4_XS) store an integer scale, and for some an integer minimum, for each group
of codes, and one FP16 scale (and minimum) for a block of groups. ``scales`` and ``minima`` give what is stored in FP16;
``scale_codes`` and ``minimum_codes`` the integers; ``group_scales`` and ``group_minima`` what a code of the group is
multiplied with and what is added, in FP32, for every quantised format.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, Format

Rows = slice | Sequence[int] | NDArray[np.integer[Any]]

ALL = slice(None)
TRITS_PER_BYTE = 5


class Plane(msgspec.Struct, frozen=True):
    """Some bits of every code of a block, little endian: ``size`` bytes at byte ``at``.

    The bytes lie in runs of ``run``. A run holds 8 / ``bits`` times ``run`` codes: first the lowest ``bits`` bits of
    every byte, then the next ones, and so on. They go to the bits of the code from ``shift`` up.
    """

    at: int
    size: int
    bits: int
    run: int
    shift: int = 0


class Trits(msgspec.Struct, frozen=True):
    """Ternary digits: ``size`` bytes at byte ``at`` in runs of ``run``, ``digits`` digits a byte.

    A byte is ceil(v * 256 / 243) for the number v of five digits, the first the most significant. A run holds first the
    first digit of each byte, then the second, and so on.
    """

    at: int
    size: int
    digits: int
    run: int


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one block lies in memory: sizes and offsets in bytes, little endian.

    ``planes`` add up to the codes, or ``trits`` follow one another; a layout with neither holds values.
    ``scale_at`` and ``minimum_at`` are the offsets of the block's scale and minimum, None where there is none.
    ``scale_planes`` add up to the scale codes of the groups and after them the minimum codes, where ``six_bits_at`` is
    not the offset of the 12 bytes in which the Q4_K and Q5_K blocks pack 8 scales and 8 minima of 6 bits.
    """

    codes: int
    block_bytes: int
    planes: tuple[Plane, ...] = ()
    trits: tuple[Trits, ...] = ()
    scale_at: int | None = None
    minimum_at: int | None = None
    scale_planes: tuple[Plane, ...] = ()
    six_bits_at: int | None = None


# The rows but the first three are the GGUF block layouts (ggml); bits and offset are the format's own (arch.formats).
LAYOUTS: dict[str, Layout] = {
    "f32": Layout(codes=1, block_bytes=4),
    "f16": Layout(codes=1, block_bytes=2),
    "bf16": Layout(codes=1, block_bytes=2),
    "q4_0": Layout(codes=32, block_bytes=18, scale_at=0, planes=(Plane(2, 16, 4, 16),)),
    "q4_1": Layout(codes=32, block_bytes=20, scale_at=0, minimum_at=2, planes=(Plane(4, 16, 4, 16),)),
    "q5_0": Layout(codes=32, block_bytes=22, scale_at=0, planes=(Plane(6, 16, 4, 16), Plane(2, 4, 1, 1, 4))),
    "q5_1": Layout(
        codes=32, block_bytes=24, scale_at=0, minimum_at=2, planes=(Plane(8, 16, 4, 16), Plane(4, 4, 1, 1, 4))
    ),
    "q8_0": Layout(codes=32, block_bytes=34, scale_at=0, planes=(Plane(2, 32, 8, 32),)),
    "q2_k": Layout(
        codes=256, block_bytes=84, scale_at=80, minimum_at=82,
        planes=(Plane(16, 64, 2, 32),), scale_planes=(Plane(0, 16, 4, 16),),
    ),
    "q3_k": Layout(
        codes=256, block_bytes=110, scale_at=108, planes=(Plane(32, 64, 2, 32), Plane(0, 32, 1, 32, 2)),
        scale_planes=(Plane(96, 8, 4, 8), Plane(104, 4, 2, 4, 4)),
    ),
    "q4_k": Layout(
        codes=256, block_bytes=144, scale_at=0, minimum_at=2, planes=(Plane(16, 128, 4, 32),), six_bits_at=4
    ),
    "q5_k": Layout(
        codes=256, block_bytes=176, scale_at=0, minimum_at=2,
        planes=(Plane(48, 128, 4, 32), Plane(16, 32, 1, 32, 4)), six_bits_at=4,
    ),
    "q6_k": Layout(
        codes=256, block_bytes=210, scale_at=208,
        planes=(Plane(0, 128, 4, 64), Plane(128, 64, 2, 32, 4)), scale_planes=(Plane(192, 16, 8, 16),),
    ),
    "iq4_nl": Layout(codes=32, block_bytes=18, scale_at=0, planes=(Plane(2, 16, 4, 16),)),
    "iq4_xs": Layout(
        codes=256, block_bytes=136, scale_at=0, planes=(Plane(8, 128, 4, 16),),
        scale_planes=(Plane(4, 4, 4, 1), Plane(2, 2, 2, 1, 4)),
    ),
    "tq1_0": Layout(
        codes=256, block_bytes=54, scale_at=52, trits=(Trits(0, 32, 5, 32), Trits(32, 16, 5, 16), Trits(48, 4, 4, 4))
    ),
    "tq2_0": Layout(codes=256, block_bytes=66, scale_at=64, planes=(Plane(0, 64, 2, 32),)),
    "mxfp4": Layout(codes=32, block_bytes=17, scale_at=0, planes=(Plane(1, 16, 4, 16),)),
}  # fmt: skip

_HALF = np.dtype("<f2")
_VALUES: dict[str, np.dtype[Any]] = {"f16": np.dtype("<f2"), "bf16": np.dtype("<u2"), "f32": np.dtype("<f4")}
_NO_NUMBER = 255  # of an E8M0 scale


def stored_bytes(name: str, shape: tuple[int, ...], fmt: Format) -> int:
    """Bytes that a tensor of this shape takes; an InputError where the format cannot hold the shape."""
    if fmt.name not in LAYOUTS:
        raise InputError(f"format must be one of {', '.join(LAYOUTS)}, not {fmt.name}, in tensor {name!r}")
    if not shape or min(shape) < 1:
        raise InputError(f"every dimension must be at least 1, not {shape}, in tensor {name!r}")
    layout = LAYOUTS[fmt.name]
    if shape[-1] % layout.codes:
        raise InputError(
            f"K must be a multiple of {layout.codes} for {fmt.name}, not {shape[-1]}, in tensor {name!r}"
        )
    return math.prod(shape) // layout.codes * layout.block_bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """One stored weight. ``raw`` is a view of the file's bytes; everything else is worked out when asked for.

    ``rows`` arguments choose rows of the matrix (N, K): a slice, or a list or array of row numbers.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    raw: NDArray[np.uint8]

    def __post_init__(self) -> None:
        expected = stored_bytes(self.name, self.shape, self.format)
        if self.raw.dtype != np.uint8 or self.raw.ndim != 1 or self.raw.size != expected:
            raise InputError(
                f"raw must be {expected} bytes for shape {self.shape} and format {self.format.name}, "
                f"not {self.raw.size} {self.raw.dtype}, in tensor {self.name!r}"
            )

    @property
    def nbytes(self) -> int:
        """Stored bytes, scales and minima included."""
        return int(self.raw.size)

    @property
    def n(self) -> int:
        """Rows of the matrix (N, K)."""
        return math.prod(self.shape[:-1])

    @property
    def k(self) -> int:
        """Columns of the matrix (N, K): the contiguous dimension."""
        return self.shape[-1]

    @property
    def layout(self) -> Layout:
        """How this tensor's blocks lie in memory."""
        return LAYOUTS[self.format.name]

    def packed_codes(self, rows: Rows = ALL) -> NDArray[np.uint8]:
        """The code bytes as stored, without scales and minima, part after part: [N, blocks, bytes]."""
        layout, blocks = self.layout, self._blocks(rows)
        places = [(part.at, part.size) for part in layout.planes] + [(part.at, part.size) for part in layout.trits]
        parts = [blocks[:, :, at : at + size] for at, size in places]
        return np.concatenate(parts, axis=-1) if parts else np.ascontiguousarray(blocks)

    def codes(self, rows: Rows = ALL) -> NDArray[np.uint8] | NDArray[np.int8]:
        """The stored codes [N, K], no offset subtracted: uint8 for unsigned formats, int8 for signed ones."""
        if self.format.kind != "int":
            raise InputError(f"codes need an integer format, not {self.format.name}, in tensor {self.name!r}")
        blocks, layout = self._blocks(rows), self.layout
        codes = _unpack(blocks, layout.planes) if layout.planes else _unpack_trits(blocks, layout.trits)
        codes = codes.reshape(len(codes), self.k)
        return codes.view(np.int8) if self.format.signed else codes

    def operands(self, rows: Rows = ALL) -> NDArray[np.int8]:
        """The integers that the codes stand for [N, K]: the offset subtracted, or looked up in the table."""
        codes = self.codes(rows)
        if self.format.table:
            values: NDArray[np.int8] = np.array(self.format.table, np.int8)[codes]
            return values
        if not self.format.offset:
            return codes.view(np.int8)  # unsigned codes have at most 7 bits
        return codes.view(np.int8) - np.int8(self.format.offset)

    def scales(self, rows: Rows = ALL) -> NDArray[np.float16]:
        """The stored FP16 scales, one a group [N, K/group], or one a block [N, K/block] of a format of two levels.

        A scale that is not finite is an InputError.
        """
        if self.layout.scale_at is None or self.format.scale != "f16":
            raise InputError(f"scales need a format with FP16 scales, not {self.format.name}: tensor {self.name!r}")
        return self._halves(rows, self.layout.scale_at, "scale")

    def minima(self, rows: Rows = ALL) -> NDArray[np.float16] | None:
        """The stored FP16 minima, as ``scales``, or None for a format without; one not finite is an InputError."""
        at = self.layout.minimum_at
        return None if at is None else self._halves(rows, at, "minimum")

    def scale_codes(self, rows: Rows = ALL) -> NDArray[np.uint8] | NDArray[np.int8]:
        """The integer scales [N, K/group] as stored, no offset subtracted: two levels, or the exponents of E8M0."""
        if self.format.scale == "e8m0-half" and self.layout.scale_at is not None:
            exponents: NDArray[np.uint8] = self._blocks(rows)[..., self.layout.scale_at]
            if (exponents == _NO_NUMBER).any():
                raise InputError(f"every scale must be finite, not the E8M0 code 255, in tensor {self.name!r}")
            return exponents
        codes = self._level_codes(rows)[0]
        return codes.view(np.int8) if self.format.two_level and self.format.two_level.signed else codes

    def minimum_codes(self, rows: Rows = ALL) -> NDArray[np.uint8] | None:
        """The integer minima [N, K/group] of a format of two levels, or None for one without."""
        return self._level_codes(rows)[1]

    def group_scales(self, rows: Rows = ALL) -> NDArray[np.float32]:
        """What a code of each group is multiplied with [N, K/group], in FP32."""
        if self.format.scale == "e8m0-half":
            return np.ldexp(np.float32(1), self.scale_codes(rows).astype(np.int32) - 128)
        scales = self.scales(rows).astype(np.float32)
        level = self.format.two_level
        if level is None:
            return scales
        integers = self.scale_codes(rows).astype(np.float32) - np.float32(level.scale_offset)
        per_block = level.block // self.format.group
        return (scales[..., None] * integers.reshape(*scales.shape, per_block)).reshape(integers.shape)

    def group_minima(self, rows: Rows = ALL) -> NDArray[np.float32] | None:
        """What is added to each value of a group [N, K/group], in FP32, or None for a format without minima."""
        stored = self.minima(rows)
        if stored is None:
            return None
        minima, level = stored.astype(np.float32), self.format.two_level
        codes = self.minimum_codes(rows) if level else None
        if level is None or codes is None:
            return minima
        integers = codes.astype(np.float32).reshape(*minima.shape, level.block // self.format.group)
        return -(minima[..., None] * integers).reshape(codes.shape)

    def values(self) -> NDArray[np.float16] | NDArray[np.float32]:
        """The values of a float tensor in its own shape, BF16 widened to FP32; one not finite is an InputError."""
        if self.format.name not in _VALUES:
            raise InputError(f"values need {', '.join(_VALUES)}, not {self.format.name}, in tensor {self.name!r}")
        return self._values().reshape(self.shape)

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.float32]:
        """The chosen rows as FP32 [N, K]: the embedding look-up, and the reference of tests."""
        if self.format.kind == "float":
            return self._values(rows).astype(np.float32)
        values = self.operands(rows).astype(np.float32)
        scales = self.group_scales(rows)
        groups = values.reshape(*scales.shape, self.format.group)
        with np.errstate(over="ignore"):
            groups *= scales[..., None]
        minima = self.group_minima(rows)
        if minima is not None:
            groups += minima[..., None]
        if self.format.scale == "e8m0-half":
            self._finite(values, "value")
        return values

    def _blocks(self, rows: Rows) -> NDArray[np.uint8]:
        layout = self.layout
        return self.raw.reshape(self.n, self.k // layout.codes, layout.block_bytes)[rows]

    def _values(self, rows: Rows = ALL) -> NDArray[np.float16] | NDArray[np.float32]:
        stored = self.raw.view(_VALUES[self.format.name]).reshape(self.n, self.k)[rows]
        if self.format.name == "bf16":
            stored = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        self._finite(stored, "value")
        return stored

    def _level_codes(self, rows: Rows) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Scale codes and minimum codes [N, K/group] of a format of two levels."""
        level, layout = self.format.two_level, self.layout
        if level is None:
            raise InputError(f"scale codes need a format of two levels, not {self.format.name}: tensor {self.name!r}")
        blocks, groups = self._blocks(rows), level.block // self.format.group
        at = layout.six_bits_at
        codes = _unpack(blocks, layout.scale_planes) if at is None else _unpack_six_bits(blocks[..., at : at + 12])
        flat = len(codes), self.k // self.format.group
        return codes[..., :groups].reshape(flat), codes[..., groups:].reshape(flat) if level.minimum_bits else None

    def _halves(self, rows: Rows, at: int, what: str) -> NDArray[np.float16]:
        stored = np.ascontiguousarray(self._blocks(rows)[..., at : at + 2])
        halves: NDArray[np.float16] = stored.view(_HALF)[..., 0]
        self._finite(halves, what)
        return halves

    def _finite(self, values: NDArray[Any], what: str) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise InputError(
                f"every {what} must be finite, not {values[at]} at {at}, in tensor {self.name!r}"
            )


def _unpack(blocks: NDArray[np.uint8], planes: tuple[Plane, ...]) -> NDArray[np.uint8]:
    """The codes [..., codes] of blocks [..., bytes]."""
    found: NDArray[np.uint8] | None = None
    for plane in planes:
        field = blocks[..., plane.at : plane.at + plane.size]
        runs = field.reshape(*field.shape[:-1], plane.size // plane.run, 1, plane.run)
        if plane.bits == 8:
            part = runs.copy()
        else:
            shifts = np.arange(0, 8, plane.bits, dtype=np.uint8)[:, None]
            part = np.right_shift(runs, shifts)
            part &= np.uint8((1 << plane.bits) - 1)
        if plane.shift:
            part <<= np.uint8(plane.shift)
        part = part.reshape(*field.shape[:-1], plane.size * (8 // plane.bits))
        if found is None:
            found = part
        else:
            found |= part
    assert found is not None
    return found


def _pack(blocks: NDArray[np.uint8], planes: tuple[Plane, ...], codes: NDArray[np.uint8]) -> None:
    """The inverse of ``_unpack``: write the planes of ``codes`` into ``blocks``."""
    for plane in planes:
        shape = (*codes.shape[:-1], plane.size // plane.run, 8 // plane.bits, plane.run)
        part = ((codes >> np.uint8(plane.shift)) & np.uint8((1 << plane.bits) - 1)).reshape(shape)
        shifts = np.arange(0, 8, plane.bits, dtype=np.uint8)[:, None]
        packed = np.bitwise_or.reduce(part << shifts, axis=-2)
        blocks[..., plane.at : plane.at + plane.size] = packed.reshape(*codes.shape[:-1], plane.size)


def _unpack_trits(blocks: NDArray[np.uint8], parts: tuple[Trits, ...]) -> NDArray[np.uint8]:
    """The digits [..., codes], 0 to 2: digit n of a byte b is the integer part of 3 ((b 3^n mod 256) / 256)."""
    found = []
    for part in parts:
        field = blocks[..., part.at : part.at + part.size]
        runs = field.reshape(*field.shape[:-1], part.size // part.run, 1, part.run)
        fractions = runs * (3 ** np.arange(part.digits)).astype(np.uint8)[:, None]
        digits = (fractions.astype(np.uint16) * 3 >> 8).astype(np.uint8)
        found.append(digits.reshape(*field.shape[:-1], part.size * part.digits))
    return np.concatenate(found, axis=-1)


def _pack_trits(blocks: NDArray[np.uint8], parts: tuple[Trits, ...], codes: NDArray[np.uint8]) -> None:
    """The inverse of ``_unpack_trits``."""
    start = 0
    for part in parts:
        count = part.size * part.digits
        digits = codes[..., start : start + count].astype(np.uint32)
        runs = digits.reshape(*codes.shape[:-1], part.size // part.run, part.digits, part.run)
        weights = (3 ** np.arange(TRITS_PER_BYTE - 1, TRITS_PER_BYTE - 1 - part.digits, -1)).astype(np.uint32)
        numbers = (runs * weights[:, None]).sum(axis=-2)
        largest = 3**TRITS_PER_BYTE
        packed = (numbers * 256 + largest - 1) // largest
        blocks[..., part.at : part.at + part.size] = packed.reshape(*codes.shape[:-1], part.size)
        start += count


def _unpack_six_bits(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """8 scales and 8 minima [..., 16] of 6 bits from 12 bytes.

    Bytes 0 to 3 and 4 to 7 hold the first four scales and minima in their low six bits, and in their high two bits
    those of the last four, whose low four bits are the nibbles of bytes 8 to 11: scales low, minima high.
    """
    first, last = packed[..., :8], packed[..., 8:]
    high = (first >> 6) << 4
    low = np.concatenate([last & 15, last >> 4], axis=-1)
    both = high | low
    return np.concatenate(
        [first[..., :4] & 63, both[..., :4], first[..., 4:] & 63, both[..., 4:]], axis=-1
    )


def _pack_six_bits(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of ``_unpack_six_bits``."""
    first = np.concatenate([codes[..., 0:4], codes[..., 8:12]], axis=-1)
    last = np.concatenate([codes[..., 4:8], codes[..., 12:16]], axis=-1)
    nibbles = (last[..., :4] & 15) | (last[..., 4:] & 15) << 4
    return np.concatenate([first | (last >> 4) << 6, nibbles], axis=-1)


def pack_tensor(
    name: str,
    format_name: str,
    *,
    codes: NDArray[Any] | None = None,
    scales: NDArray[Any] | None = None,
    minima: NDArray[Any] | None = None,
    scale_codes: NDArray[Any] | None = None,
    minimum_codes: NDArray[Any] | None = None,
    values: NDArray[Any] | None = None,
) -> Tensor:
    """A Tensor in memory from its parts as ``Tensor`` gives them, or from ``values``.

    Codes [N, K]; scales and minima one a group, or one a block in formats of two levels, which come with scale codes
    and where they have them minimum codes, one a group; MXFP4 comes with scale codes alone. BF16 values are rounded to
    nearest, ties to even.
    """
    fmt, layout = FORMATS[format_name], LAYOUTS[format_name]
    if fmt.kind == "float":
        if values is None:
            raise InputError(f"format {format_name} must come with values, in tensor {name!r}")
        return Tensor(name=name, shape=values.shape, format=fmt, raw=_stored_values(format_name, values))
    parts = {
        "codes": codes, "scales": scales, "minima": minima, "scale_codes": scale_codes, "minimum_codes": minimum_codes
    }  # fmt: skip
    level = fmt.two_level
    bits = 8 if fmt.scale == "e8m0-half" else level.scale_bits if level else 0
    wanted = {
        "codes": True, "scales": fmt.scale == "f16", "minima": layout.minimum_at is not None, "scale_codes": bits > 0,
        "minimum_codes": level is not None and level.minimum_bits > 0,
    }  # fmt: skip
    if codes is None or any((parts[part] is None) == needed for part, needed in wanted.items()):
        needed = [part.replace("_", " ") for part in wanted if wanted[part]]
        listed = f"{', '.join(needed[:-1])} and {needed[-1]}"
        raise InputError(f"format {format_name} must come with {listed}, in tensor {name!r}")
    stored_bytes(name, codes.shape, fmt)
    low, high = (0, len(fmt.table) - 1) if fmt.table else (value + fmt.offset for value in fmt.code_range())
    if fmt.packed_bits:
        high = 2
    _within("codes", codes, low, high, name)
    n, count = math.prod(codes.shape[:-1]), codes.shape[-1] // layout.codes
    blocks = np.zeros((n, count, layout.block_bytes), np.uint8)
    for at, part in ((layout.scale_at, scales), (layout.minimum_at, minima)):
        if at is not None and part is not None:
            halves: NDArray[Any] = np.ascontiguousarray(part, dtype=_HALF)
            if halves.shape != (n, count):
                raise InputError(
                    f"scales and minima must be {(n, count)}, not {halves.shape}, in tensor {name!r}"
                )
            blocks[..., at : at + 2] = halves[..., None].view(np.uint8)
    if scale_codes is not None:
        signed = level is not None and level.signed
        span = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        grids = [_groups("scale codes", scale_codes, span, (n, count, layout.codes // fmt.group), name)]
        if minimum_codes is not None and level is not None:
            span = (0, (1 << level.minimum_bits) - 1)
            grids.append(_groups("minimum codes", minimum_codes, span, (n, count, layout.codes // fmt.group), name))
        joined = np.concatenate(grids, axis=-1)
        if level is None:
            blocks[..., 0 if layout.scale_at is None else layout.scale_at] = joined[..., 0]
        elif layout.six_bits_at is None:
            _pack(blocks, layout.scale_planes, joined)
        else:
            blocks[..., layout.six_bits_at : layout.six_bits_at + 12] = _pack_six_bits(joined)
    grid: NDArray[np.uint8] = codes.astype(np.int16).astype(np.uint8).reshape(n, count, layout.codes)
    if layout.trits:
        _pack_trits(blocks, layout.trits, grid)
    else:
        _pack(blocks, layout.planes, grid)
    return Tensor(name=name, shape=codes.shape, format=fmt, raw=blocks.reshape(-1))


def _stored_values(format_name: str, values: NDArray[Any]) -> NDArray[np.uint8]:
    if format_name == "bf16":
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
        kept = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1))) >> np.uint64(16)
        values = np.where(np.isnan(values), 0x7FC0, kept)
    stored: NDArray[Any] = np.ascontiguousarray(values, dtype=_VALUES[format_name])
    return stored.reshape(-1).view(np.uint8)


def _within(what: str, codes: NDArray[Any], low: int, high: int, name: str) -> None:
    if codes.size and (codes.min() < low or codes.max() > high):
        raise InputError(
            f"{what} must lie in {low}..{high}, not {codes.min()}..{codes.max()}, in tensor {name!r}"
        )


def _groups(
    what: str, codes: NDArray[Any], span: tuple[int, int], shape: tuple[int, int, int], name: str
) -> NDArray[np.uint8]:
    """Scale or minimum codes [N, K/group] as bytes [N, blocks, groups]."""
    expected = (shape[0], shape[1] * shape[2])
    if codes.shape != expected:
        raise InputError(f"{what} must be {expected}, not {codes.shape}, in tensor {name!r}")
    _within(what, codes, *span, name)
    return codes.astype(np.int16).astype(np.uint8).reshape(shape)
