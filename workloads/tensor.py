"""One stored weight: packed codes, scales and minima as the file holds them, read without dequantising.

    LAYOUTS        how each format lies in memory, one row per format
    Tensor         a name, a shape, a format and the stored bytes
    pack_tensor    the inverse: codes, scales and minima (or values) to a Tensor

A matrix has shape (N, K) and K is contiguous; blocks run along K. Tensors of more dimensions are read as the
matrix (product of the leading dimensions, K); a tensor of one dimension is the matrix (1, K).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, Format

Rows = slice | Sequence[int] | NDArray[np.integer[Any]]

ALL = slice(None)


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How one block lies in memory: sizes and offsets in bytes, little endian.

    ``order``  ``plain``: codes lie one a byte, or values one after the other;
               ``halves``: byte j holds element j in its low nibble, element j + codes/2 in its high nibble.
    ``scale_at`` and ``minimum_at`` are the offsets of the FP16 scale and minimum, None where there is none.
    """

    codes: int
    block_bytes: int
    codes_at: int = 0
    code_bytes: int
    order: Literal["plain", "halves"] = "plain"
    scale_at: int | None = None
    minimum_at: int | None = None


# The Q rows are the GGUF block layouts (ggml); bits and offset are the format's own (arch.formats).
LAYOUTS: dict[str, Layout] = {
    "f32": Layout(codes=1, block_bytes=4, code_bytes=4),
    "f16": Layout(codes=1, block_bytes=2, code_bytes=2),
    "q4_0": Layout(codes=32, block_bytes=18, scale_at=0, codes_at=2, code_bytes=16, order="halves"),
    "q4_1": Layout(
        codes=32, block_bytes=20, scale_at=0, minimum_at=2, codes_at=4, code_bytes=16, order="halves"
    ),
    "q8_0": Layout(codes=32, block_bytes=34, scale_at=0, codes_at=2, code_bytes=32),
}

_HALF = np.dtype("<f2")
_VALUES: dict[str, np.dtype[Any]] = {"f16": np.dtype("<f2"), "f32": np.dtype("<f4")}


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
        """The code bytes as stored, without scales and minima: [N, K/group, bytes]."""
        return self._field(rows, self.layout.codes_at, self.layout.code_bytes)

    def codes(self, rows: Rows = ALL) -> NDArray[np.uint8] | NDArray[np.int8]:
        """The stored codes [N, K], no offset subtracted: uint8 for unsigned formats, int8 for signed ones."""
        if self.format.kind != "int":
            raise InputError(f"codes need an integer format, not {self.format.name}, in tensor {self.name!r}")
        packed = self.packed_codes(rows)
        if self.layout.order == "plain":
            flat = packed.reshape(len(packed), self.k)
            return flat.view(np.int8) if self.format.signed else flat
        codes = np.empty((*packed.shape[:2], self.layout.codes), np.uint8)
        half = self.layout.codes // 2
        np.bitwise_and(packed, 15, out=codes[..., :half])
        np.right_shift(packed, 4, out=codes[..., half:])
        return codes.reshape(len(packed), self.k)

    def scales(self, rows: Rows = ALL) -> NDArray[np.float16]:
        """The scales [N, K/group]; a scale that is not finite is an InputError."""
        if self.layout.scale_at is None:
            raise InputError(f"scales need a quantised format, not {self.format.name}: tensor {self.name!r}")
        return self._halves(rows, self.layout.scale_at, "scale")

    def minima(self, rows: Rows = ALL) -> NDArray[np.float16] | None:
        """The minima [N, K/group], or None for a format without; one that is not finite is an InputError."""
        at = self.layout.minimum_at
        return None if at is None else self._halves(rows, at, "minimum")

    def values(self) -> NDArray[np.float16] | NDArray[np.float32]:
        """The values of an f16 or f32 tensor in its own shape; one that is not finite is an InputError."""
        if self.format.name not in _VALUES:
            raise InputError(f"values need f16 or f32, not {self.format.name}, in tensor {self.name!r}")
        values: NDArray[Any] = self.raw.view(_VALUES[self.format.name]).reshape(self.shape)
        self._finite(values, "value")
        return values

    def dequantise(self, rows: Rows = ALL) -> NDArray[np.float32]:
        """The chosen rows as FP32 [N, K]: the embedding look-up, and the reference of tests."""
        if self.format.kind == "float":
            values = self.values().reshape(self.n, self.k)[rows]
            return values.astype(np.float32)
        codes = self.codes(rows).astype(np.float32) - np.float32(self.format.offset)
        scales = self.scales(rows).astype(np.float32)
        blocks = codes.reshape(*scales.shape, self.layout.codes)
        blocks *= scales[..., None]
        minima = self.minima(rows)
        if minima is not None:
            blocks += minima.astype(np.float32)[..., None]
        return codes

    def _field(self, rows: Rows, at: int, size: int) -> NDArray[np.uint8]:
        blocks = self.raw.reshape(self.n, self.k // self.layout.codes, self.layout.block_bytes)
        return np.ascontiguousarray(blocks[rows, :, at : at + size])

    def _halves(self, rows: Rows, at: int, what: str) -> NDArray[np.float16]:
        halves: NDArray[np.float16] = self._field(rows, at, 2).view(_HALF)[..., 0]
        self._finite(halves, what)
        return halves

    def _finite(self, values: NDArray[Any], what: str) -> None:
        finite = np.isfinite(values)
        if not finite.all():
            at = tuple(int(i) for i in np.argwhere(~finite)[0])
            raise InputError(
                f"every {what} must be finite, not {values[at]} at {at}, in tensor {self.name!r}"
            )


def pack_tensor(
    name: str,
    format_name: str,
    *,
    codes: NDArray[Any] | None = None,
    scales: NDArray[Any] | None = None,
    minima: NDArray[Any] | None = None,
    values: NDArray[Any] | None = None,
) -> Tensor:
    """A Tensor in memory from stored codes [N, K], scales and minima [N, K/group], or from ``values``."""
    fmt, layout = FORMATS[format_name], LAYOUTS[format_name]
    if fmt.kind == "float":
        if values is None:
            raise InputError(f"format {format_name} must come with values, in tensor {name!r}")
        stored: NDArray[Any] = np.ascontiguousarray(values, dtype=_VALUES[format_name])
        return Tensor(name=name, shape=values.shape, format=fmt, raw=stored.reshape(-1).view(np.uint8))
    if codes is None or scales is None or (minima is None) != (layout.minimum_at is None):
        wanted = "codes and scales" if layout.minimum_at is None else "codes, scales and minima"
        raise InputError(f"format {format_name} must come with {wanted}, in tensor {name!r}")
    stored_bytes(name, codes.shape, fmt)
    low, high = (value + fmt.offset for value in fmt.code_range())
    if codes.size and (codes.min() < low or codes.max() > high):
        raise InputError(
            f"codes must lie in {low}..{high}, not {codes.min()}..{codes.max()}, in tensor {name!r}"
        )
    n, groups = math.prod(codes.shape[:-1]), codes.shape[-1] // layout.codes
    blocks = np.zeros((n, groups, layout.block_bytes), np.uint8)
    for at, part in ((layout.scale_at, scales), (layout.minimum_at, minima)):
        if at is not None:
            halves: NDArray[Any] = np.ascontiguousarray(part, dtype=_HALF)
            if halves.shape != (n, groups):
                raise InputError(
                    f"scales and minima must be {(n, groups)}, not {halves.shape}, in tensor {name!r}"
                )
            blocks[..., at : at + 2] = halves[..., None].view(np.uint8)
    grid: NDArray[np.uint8] = codes.astype(np.int16).astype(np.uint8).reshape(n, groups, layout.codes)
    if layout.order == "halves":
        half = layout.codes // 2
        grid = grid[..., :half] | np.left_shift(grid[..., half:], np.uint8(4))
    blocks[..., layout.codes_at : layout.codes_at + layout.code_bytes] = grid
    return Tensor(name=name, shape=codes.shape, format=fmt, raw=blocks.reshape(-1))
