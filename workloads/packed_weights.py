"""Weights of safetensors files in the packings of their quantisers, read without loss.

    weight_at      the weight under a name, whatever packing the arrays beside it show
    PackedWeight   codes, scales and zero points of GPTQ, AWQ, compressed-tensors, bitsandbytes and FP8
    SparseWeight   the values and the mask of a 2:4 sparse matrix

All give a matrix (N outputs, K inputs); ``rows`` arguments choose outputs. The layout of each packing stands at its
function. Only shapes, group orders and masks are looked at when a weight is found: what says which products there are.
Its other numbers are read, and checked, when asked for.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, FP4_TABLE, NF4_TABLE, Format, format_named
from mixflight.workloads.bits import e4m3_values, unpack_codes, unpack_nibbles
from mixflight.workloads.safetensors_reader import SafetensorsFile, StoredArray, parse_json
from mixflight.workloads.stored_model import StoredWeight
from mixflight.workloads.tensor import ALL, Rows, Tensor

Index = NDArray[np.intp]
Codes = NDArray[np.uint8] | NDArray[np.int8]
F32 = NDArray[np.float32]

VALUE_FORMATS = {"F16": "f16", "BF16": "bf16", "F32": "f32"}
SCALE_SUFFIXES = {"F16": "", "BF16": "-bf16", "F32": "-f32"}
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the column of a group of eight that lies in nibble 0, 1, ... of a word
WORD_BITS = 32
MASK_BYTES = 1 << 20  # of a mask that are looked at in one go


class Quantiser(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's configuration says of its packing, where the arrays alone do not tell.

    ``method``  ``gptq`` and ``awq`` name their arrays alike. ``bits`` of a code; 0: as the shapes tell.
    ``zero_less_one``: GPTQ files of the first version store zero points less one.
    """

    method: Literal["", "gptq", "awq", "compressed-tensors", "bitsandbytes", "fp8"] = ""
    bits: int = 0
    zero_less_one: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedWeight:
    """Codes with scales and zero points: ``value = scale * (code - zero)``, or ``scale * decode[code]``.

    ``group_of``  the group of each of the K inputs where groups are not runs of K (act-order), else None.
    """

    name: str
    shape: tuple[int, int]
    format: Format
    nbytes: int
    method: str
    read_codes: Callable[[Index], Codes]
    read_scales: Callable[[Index], F32]
    read_zeros: Callable[[Index], Codes] | None = None
    decode: F32 | None = None
    group_of: NDArray[np.integer[Any]] | None = None

    @property
    def n(self) -> int:
        """Rows of the matrix (N, K)."""
        return self.shape[0]

    @property
    def k(self) -> int:
        """Columns of the matrix (N, K)."""
        return self.shape[1]

    def codes(self, rows: Rows = ALL) -> Codes:
        """The codes [N, K], unsigned as stored or signed where the format is."""
        return self.read_codes(self._index(rows))

    def scales(self, rows: Rows = ALL) -> F32:
        """The scales [N, groups], widened to FP32, which is exact."""
        return self.read_scales(self._index(rows))

    def zeros(self, rows: Rows = ALL) -> Codes | None:
        """The integer zero points [N, groups], or None."""
        return None if self.read_zeros is None else self.read_zeros(self._index(rows))

    def dequantise(self, rows: Rows = ALL) -> F32:
        """The chosen rows as FP32 [N, K]."""
        codes, scales, zeros = self.codes(rows), self.scales(rows), self.zeros(rows)
        values = codes.astype(np.float32) if self.decode is None else self.decode[codes]
        if not np.isfinite(values).all():
            raise InputError(f"every value must be finite, in weight {self.name!r}")
        if self.group_of is not None:
            if zeros is not None:
                values -= zeros[:, self.group_of].astype(np.float32)
            with np.errstate(over="ignore"):
                values *= scales[:, self.group_of]
        else:
            groups = values.reshape(*scales.shape, self.k // scales.shape[1])
            if zeros is not None:
                groups -= zeros[..., None].astype(np.float32)
            with np.errstate(over="ignore"):
                groups *= scales[..., None]
        if not np.isfinite(values).all():
            raise InputError(f"every value must be finite, in weight {self.name!r}")
        return values

    def _index(self, rows: Rows) -> Index:
        return np.arange(self.n)[rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseWeight:
    """A matrix of which every run of four inputs has two values: the values [N, K/2] and a mask, one bit an element."""

    name: str
    shape: tuple[int, int]
    format: Format
    nbytes: int
    stored: StoredArray
    bitmask: NDArray[np.uint8]

    def values(self, rows: Rows = ALL) -> NDArray[Any]:
        """The stored values [N, K/2], BF16 widened to FP32; one that is not finite is an InputError."""
        return self.stored.floats()[rows]

    def mask(self, rows: Rows = ALL) -> NDArray[np.bool_]:
        """Which elements have a value [N, K]."""
        return np.unpackbits(self.bitmask[rows], axis=-1, bitorder="little")[:, : self.shape[1]].astype(np.bool_)

    def dequantise(self, rows: Rows = ALL) -> F32:
        """The chosen rows as FP32 [N, K], zeros where there is no value."""
        mask = self.mask(rows)
        values = np.zeros(mask.shape, np.float32)
        values[mask] = self.values(rows).reshape(-1)
        return values


class _Arrays:
    """The arrays whose names start with ``prefix``."""

    def __init__(self, file: SafetensorsFile, prefix: str) -> None:
        self.file, self.prefix = file, prefix
        self.used: list[StoredArray] = []

    def __contains__(self, suffix: str) -> bool:
        return self.prefix + suffix in self.file.arrays

    def wrong(self, message: str) -> InputError:
        return InputError(f"{message}, in weight {self.prefix!r} of {self.file.path}")

    def take(self, suffix: str, dtypes: tuple[str, ...], shape: tuple[int, ...] | None = None) -> StoredArray:
        array = self.file.array(self.prefix + suffix)
        if array.dtype not in dtypes:
            raise self.wrong(f"{suffix.lstrip('.')} must be {' or '.join(dtypes)}, not {array.dtype}")
        if shape is not None and array.shape != shape:
            raise self.wrong(f"{suffix.lstrip('.')} must have shape {shape}, not {array.shape}")
        self.used.append(array)
        return array

    def numbers(self, suffix: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> NDArray[Any]:
        return self.take(suffix, dtypes, shape).numbers()

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.used)


def weight_at(
    file: SafetensorsFile, prefix: str, shape: tuple[int, int], quantiser: Quantiser | None = None
) -> StoredWeight:
    """The weight of shape (N, K) whose arrays are ``prefix.weight``, ``prefix.qweight`` and the like."""
    quantiser = quantiser or Quantiser()
    arrays = _Arrays(file, prefix)
    if ".qweight" in arrays:
        if quantiser.method == "awq":
            return _awq(arrays, shape)
        if quantiser.method == "gptq":
            return _gptq(arrays, shape, quantiser)
        raise arrays.wrong("qweight must come with a quant_method of gptq or awq")
    if ".weight_packed" in arrays:
        return _packed_integers(arrays, shape, quantiser)
    if ".weight.bitmask" in arrays or ".bitmask" in arrays:
        return _sparse(arrays, shape, ".weight" if ".weight.bitmask" in arrays else "")
    if ".weight.absmax" in arrays:
        return _four_bits(arrays, shape)
    dtype = file.array(f"{prefix}.weight").dtype
    if dtype in VALUE_FORMATS:
        array = arrays.take(".weight", (dtype,), shape)
        return Tensor(name=array.name, shape=shape, format=FORMATS[VALUE_FORMATS[dtype]], raw=array.raw)
    if dtype == "I8":
        return _int8(arrays, shape)
    if dtype == "F8_E4M3":
        return _fp8(arrays, shape)
    raise arrays.wrong(f"weight must be {', '.join(VALUE_FORMATS)}, I8 or F8_E4M3, not {dtype}")


def _gptq(arrays: _Arrays, shape: tuple[int, int], quantiser: Quantiser) -> PackedWeight:
    """``qweight`` int32 [K b/32, N], codes along K from the lowest bit up, of 3 bits across words; ``qzeros`` int32
    [K/g, N b/32] along N, less one in the first version; ``scales`` [K/g, N]; ``g_idx`` int32 [K], any order."""
    n, k = shape
    qweight = arrays.take(".qweight", ("I32",))
    words = qweight.shape[0] if len(qweight.shape) == 2 else 0
    bits = _bits([bits for bits in (2, 3, 4, 8) if words * WORD_BITS == k * bits], quantiser)
    if not bits or qweight.shape[1] != n or n * bits % WORD_BITS:
        raise arrays.wrong(f"qweight must hold codes of 2, 3, 4 or 8 bits for {n} x {k}, not {qweight.shape}")
    scales = arrays.take(".scales", tuple(SCALE_SUFFIXES))
    groups = _groups(arrays, scales.shape, k, n)
    qzeros = arrays.numbers(".qzeros", ("I32",), (groups, n * bits // WORD_BITS))
    group_of = _group_order(arrays, ".g_idx", k, groups)
    stored, widened = qweight.numbers(), functools.cache(scales.floats)

    def codes(rows: Index) -> Codes:
        return unpack_codes(stored[:, rows].T, bits, k)

    def zeros(rows: Index) -> Codes:
        unpacked = unpack_codes(qzeros, bits, n)
        if quantiser.zero_less_one:
            unpacked = (unpacked + np.uint8(1)) & np.uint8((1 << bits) - 1)
        return unpacked[:, rows].T

    return PackedWeight(
        name=arrays.prefix, shape=shape, method="gptq", nbytes=arrays.nbytes, group_of=group_of,
        format=_format(f"uint{bits}", k, groups, f"-z{bits}", scales.dtype),
        read_codes=codes, read_scales=lambda rows: widened()[:, rows].T.astype(np.float32), read_zeros=zeros,
    )  # fmt: skip


def _awq(arrays: _Arrays, shape: tuple[int, int]) -> PackedWeight:
    """``qweight`` int32 [K, N/8] and ``qzeros`` int32 [K/g, N/8]: eight columns a word in ``AWQ_ORDER``; ``scales``
    [K/g, N]."""
    n, k = shape
    if n % 8:
        raise arrays.wrong(f"the number of outputs must be a multiple of 8, not {n}")
    qweight = arrays.numbers(".qweight", ("I32",), (k, n // 8))
    scales = arrays.take(".scales", tuple(SCALE_SUFFIXES))
    groups = _groups(arrays, scales.shape, k, n)
    qzeros = arrays.numbers(".qzeros", ("I32",), (groups, n // 8))
    widened = functools.cache(scales.floats)
    nibble_of = np.argsort(AWQ_ORDER).astype(np.uint32)

    def columns(words: NDArray[Any], rows: Index) -> NDArray[np.uint8]:
        shifts = nibble_of[rows % 8] * np.uint32(4)
        return ((words.view(np.uint32)[:, rows // 8] >> shifts) & np.uint32(15)).astype(np.uint8).T

    return PackedWeight(
        name=arrays.prefix, shape=shape, method="awq", nbytes=arrays.nbytes,
        format=_format("uint4", k, groups, "-z4", scales.dtype),
        read_codes=lambda rows: columns(qweight, rows),
        read_scales=lambda rows: widened()[:, rows].T.astype(np.float32),
        read_zeros=lambda rows: columns(qzeros, rows),
    )  # fmt: skip


def _packed_integers(arrays: _Arrays, shape: tuple[int, int], quantiser: Quantiser) -> PackedWeight:
    """compressed-tensors ``weight_packed`` int32 [N, ceil(K b/32)] along K, ``weight_scale`` [N, K/g] and
    ``weight_shape``; ``weight_zero_point`` int32 [ceil(N b/32), K/g] along N; ``weight_g_idx``. Codes and zero points
    are stored plus 2^(b - 1). Widths that do not divide a word are not supported: releases differ in their packing."""
    n, k = shape
    packed = arrays.take(".weight_packed", ("I32",))
    words = packed.shape[1] if len(packed.shape) == 2 else 0
    bits = _bits([bits for bits in (2, 4, 8) if words == -(-k * bits // WORD_BITS)], quantiser)
    if not bits or packed.shape[0] != n:
        raise arrays.wrong(f"weight_packed must hold codes of 2, 4 or 8 bits for {n} x {k}, not {packed.shape}")
    told = arrays.numbers(".weight_shape", ("I64", "I32"), (2,))
    if told.tolist() != [n, k]:
        raise arrays.wrong(f"weight_shape must be {[n, k]}, not {told.tolist()}")
    scales = arrays.take(".weight_scale", tuple(SCALE_SUFFIXES))
    groups = _groups(arrays, scales.shape[::-1], k, n)
    widened, stored = functools.cache(scales.floats), packed.numbers()
    group_of = _group_order(arrays, ".weight_g_idx", k, groups)
    zeros: Callable[[Index], Codes] | None = None
    half = np.uint8(1 << (bits - 1))
    if ".weight_zero_point" in arrays:
        qzeros = arrays.numbers(".weight_zero_point", ("I32",), (-(-n * bits // WORD_BITS), groups))
        code = f"uint{bits}"

        def zeros(rows: Index) -> Codes:
            return unpack_codes(qzeros.T, bits, n).T[rows]

    else:
        code = f"int{bits}"

    def codes(rows: Index) -> Codes:
        unpacked = unpack_codes(stored[rows], bits, k)
        return unpacked if zeros is not None else (unpacked - half).view(np.int8)

    return PackedWeight(
        name=arrays.prefix, shape=shape, method="compressed-tensors", nbytes=arrays.nbytes, group_of=group_of,
        format=_format(code, k, groups, f"-z{bits}" if zeros is not None else "", scales.dtype),
        read_codes=codes, read_scales=lambda rows: widened()[rows].astype(np.float32), read_zeros=zeros,
    )  # fmt: skip


def _sparse(arrays: _Arrays, shape: tuple[int, int], under: str) -> SparseWeight:
    """compressed-tensors ``compressed`` [N, K/2], ``bitmask`` uint8 [N, K/8] from the lowest bit up, ``shape`` [2] or
    [2, 1]; older releases have them ``under`` the name of the weight, later ones in its place."""
    n, k = shape
    if k % 8:
        raise arrays.wrong(f"the number of inputs must be a multiple of 8, not {k}")
    stored = arrays.take(f"{under}.shape", ("I64", "I32"))
    told = stored.numbers().reshape(-1)
    if stored.shape not in ((2,), (2, 1)) or told.tolist() != [n, k]:
        raise arrays.wrong(f"shape must be {[n, k]}, not {told.tolist()}")
    bitmask = arrays.numbers(f"{under}.bitmask", ("U8",), (n, k // 8))
    values = arrays.take(f"{under}.compressed", tuple(VALUE_FORMATS), (n, k // 2))
    _check_mask(bitmask, arrays)
    return SparseWeight(
        name=arrays.prefix, shape=shape, nbytes=arrays.nbytes,
        format=FORMATS[f"{VALUE_FORMATS[values.dtype]}-2of4"], stored=values, bitmask=bitmask,
    )  # fmt: skip


def _check_mask(bitmask: NDArray[np.uint8], arrays: _Arrays) -> None:
    """Each run of four must have two values; read in parts, as a model's masks may be larger than memory."""
    counts = np.array([byte.bit_count() for byte in range(16)])
    fits = (counts[np.arange(256) & 15] == 2) & (counts[np.arange(256) >> 4] == 2)
    each = max(1, MASK_BYTES // bitmask.shape[1])
    for start in range(0, len(bitmask), each):
        part = bitmask[start : start + each]
        if fits[part].all():
            continue
        row, byte = (int(at) for at in np.argwhere(~fits[part])[0])
        halves = counts[int(part[row, byte]) & 15], counts[int(part[row, byte]) >> 4]
        high = int(halves[0] == 2)
        first = 8 * byte + 4 * high
        raise arrays.wrong(
            f"a 2:4 mask must have 2 values in each 4, not {halves[high]} at row {start + row}, "
            f"columns {first} to {first + 3}"
        )


class _QuantState(msgspec.Struct, frozen=True):
    """What is read of the JSON that bitsandbytes stores beside a weight of 4 bits."""

    quant_type: Literal["nf4", "fp4"]
    blocksize: int
    shape: tuple[int, int]
    nested_blocksize: int = 0
    nested_offset: float = 0.0


def _four_bits(arrays: _Arrays, shape: tuple[int, int]) -> PackedWeight:
    """bitsandbytes NF4 and FP4: ``weight`` uint8 [N K/2, 1] flattened, first element in the high nibble; ``absmax``
    FP32 a block of the flattened matrix, or bytes into ``nested_quant_map`` times ``nested_absmax`` plus an offset."""
    n, k = shape
    kind = next((kind for kind in ("nf4", "fp4") if f".weight.quant_state.bitsandbytes__{kind}" in arrays), None)
    if kind is None:
        raise arrays.wrong("absmax must come with quant_state.bitsandbytes__nf4 or quant_state.bitsandbytes__fp4")
    blob = arrays.take(f".weight.quant_state.bitsandbytes__{kind}", ("U8",))
    where = f"quant_state of {arrays.prefix} in {arrays.file.path}"
    try:
        state = msgspec.convert(parse_json(blob.raw.tobytes(), where), _QuantState)
    except msgspec.ValidationError as error:
        raise InputError(f"{error}: {where}") from None
    block = state.blocksize
    if state.shape != shape or state.quant_type != kind:
        raise arrays.wrong(f"quant_state must be {kind} of {shape}, not {state.quant_type} of {state.shape}")
    if block < 1 or k % block or block % 2:
        raise arrays.wrong(f"the block size must be even and divide the {k} inputs, not {block}")
    count = n * (k // block)
    packed = arrays.numbers(".weight", ("U8",), (n * k // 2, 1)).reshape(n, k // 2)
    table = arrays.take(".weight.quant_map", ("F32",), (16,)).floats()
    if not np.allclose(table, NF4_TABLE if kind == "nf4" else FP4_TABLE, rtol=0, atol=1e-6):
        raise arrays.wrong(f"quant_map must be the table of {kind}")
    if state.nested_blocksize:
        codes = arrays.numbers(".weight.absmax", ("U8",), (count,))
        if state.nested_blocksize < 1 or not math.isfinite(state.nested_offset):
            raise arrays.wrong(f"nested_blocksize must be at least 1, not {state.nested_blocksize}")
        outer = arrays.take(".weight.nested_absmax", ("F32",), (-(-count // state.nested_blocksize),)).floats()
        outer_map = arrays.take(".weight.nested_quant_map", ("F32",), (256,)).floats()
        offset = np.float32(state.nested_offset)

        def scales(rows: Index) -> F32:
            at = rows[:, None] * (k // block) + np.arange(k // block)
            with np.errstate(over="ignore"):
                found: F32 = outer_map[codes[at]] * outer[at // state.nested_blocksize] + offset
            return found

    else:
        absmax = functools.cache(arrays.take(".weight.absmax", ("F32",), (count,)).floats)

        def scales(rows: Index) -> F32:
            found: F32 = absmax().reshape(n, k // block)[rows].astype(np.float32)
            return found

    suffix = "-u8" if state.nested_blocksize else "-f32"
    return PackedWeight(
        name=arrays.prefix, shape=shape, method="bitsandbytes", nbytes=arrays.nbytes,
        format=format_named(f"{kind}-g{block}{suffix}", arrays.prefix), decode=table.astype(np.float32),
        read_codes=lambda rows: unpack_nibbles(packed[rows], high_first=True), read_scales=scales,
    )  # fmt: skip


def _int8(arrays: _Arrays, shape: tuple[int, int]) -> PackedWeight:
    """``weight`` int8 [N, K] with ``SCB`` FP32 [N], the largest magnitude of each row (bitsandbytes), or with
    ``weight_scale`` a row or for all (compressed-tensors)."""
    n, _ = shape
    codes = arrays.numbers(".weight", ("I8",), shape)
    if ".SCB" in arrays:
        scales, dtype = arrays.take(".SCB", ("F32",), (n,)).floats() / np.float32(127), "F32"
        method = "bitsandbytes"
    else:
        stored = arrays.take(".weight_scale", tuple(SCALE_SUFFIXES))
        if math.prod(stored.shape) not in (1, n) or ".weight_zero_point" in arrays:
            raise arrays.wrong(f"an int8 weight must have one weight_scale a row and no zero point, not {stored.shape}")
        scales, dtype = np.broadcast_to(stored.floats().reshape(-1), (n,)), stored.dtype
        method = "compressed-tensors"
    return PackedWeight(
        name=arrays.prefix, shape=shape, method=method, nbytes=arrays.nbytes,
        format=format_named(f"int8{SCALE_SUFFIXES[dtype]}", arrays.prefix),
        read_codes=lambda rows: codes[rows], read_scales=lambda rows: scales[rows, None].astype(np.float32),
    )  # fmt: skip


def _fp8(arrays: _Arrays, shape: tuple[int, int]) -> PackedWeight:
    """``weight`` FP8 E4M3 [N, K] with ``weight_scale`` for all or a row, or ``weight_scale_inv`` a square block."""
    n, k = shape
    codes = arrays.numbers(".weight", ("F8_E4M3",), shape)
    suffix = ".weight_scale_inv" if ".weight_scale_inv" in arrays else ".weight_scale"
    stored = arrays.take(suffix, tuple(SCALE_SUFFIXES))
    values, size = stored.floats().astype(np.float32), math.prod(stored.shape)
    name = "f8_e4m3"
    if size == 1:
        grid, tall, wide = values.reshape(1, 1), n, k
        fmt = FORMATS[name]
    elif size == n and stored.shape in ((n,), (n, 1)):
        grid, tall, wide = values.reshape(n, 1), 1, k
        fmt = format_named(name + SCALE_SUFFIXES[stored.dtype], arrays.prefix)
    elif len(stored.shape) == 2 and size and k % stored.shape[1] == 0 and n % stored.shape[0] == 0:
        grid, tall, wide = values, n // stored.shape[0], k // stored.shape[1]
        fmt = FORMATS[name]
    else:
        raise arrays.wrong(f"{suffix.lstrip('.')} must be one, one a row or one a whole block, not {stored.shape}")
    assert grid.shape[1] == k // wide
    return PackedWeight(
        name=arrays.prefix, shape=shape, method="fp8", nbytes=arrays.nbytes, format=fmt, decode=e4m3_values(),
        read_codes=lambda rows: codes[rows], read_scales=lambda rows: grid[rows // tall],
    )  # fmt: skip


def _bits(fitting: list[int], quantiser: Quantiser) -> int:
    """The bits of a code, of those that fit the shapes; 0 where none or several do."""
    if quantiser.bits:
        return quantiser.bits if quantiser.bits in fitting else 0
    return fitting[0] if len(fitting) == 1 else 0


def _groups(arrays: _Arrays, shape: tuple[int, ...], k: int, n: int) -> int:
    """Number of groups, from the shape (groups, N) of the scales."""
    if len(shape) != 2 or shape[1] != n or not shape[0] or k % shape[0]:
        raise arrays.wrong(f"scales must be a whole number of groups of the {k} inputs, for {n} outputs, not {shape}")
    return shape[0]


def _group_order(arrays: _Arrays, suffix: str, k: int, groups: int) -> NDArray[np.integer[Any]] | None:
    """The group of each input, or None where groups are runs."""
    if suffix not in arrays:
        return None
    order = arrays.numbers(suffix, ("I32",), (k,))
    if order.min() < 0 or order.max() >= groups:
        raise arrays.wrong(f"{suffix.lstrip('.')} must lie in 0..{groups - 1}, not {order.min()}..{order.max()}")
    return None if (order == np.arange(k) // (k // groups)).all() else order


def _format(code: str, k: int, groups: int, zero: str, scale: str) -> Format:
    group = f"-g{k // groups}" if groups > 1 else ""
    return format_named(f"{code}{group}{zero}{SCALE_SUFFIXES[scale]}", "a packed weight")
