"""MV and MM: a tile of a matrix times rows of activations, in the steps of ``arch/numerics.md``, Linear.

N:M weights are put back to their places first: their sums are those of the matrix with zeros.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, KEPT, LINE_BYTES, codes
from mixflight.arch.errors import InputError
from mixflight.sim.core_values.state import LINE_BLOCKS, LINE_WORDS, CoreState
from mixflight.sim.golden.attention import LOWER

BURST = 32
"""Scales of a step of columns are padded to so many bytes."""
_ZERO = codes("MV", "zero")


def multiply(state: CoreState, fields: dict[str, int]) -> None:
    """Carry out an MV or MM."""
    if fields["zero"] == _ZERO["integer"]:
        raise InputError("a product must be of weights without integer zero points")
    rows, columns, k = fields["rows"], fields["columns"], fields["k_blocks"] * K_BLOCK
    layout = state.layouts[fields["slot"]]
    _check_kept(fields, layout, k)
    if (layout == "values") != bool(fields["transpose"]):
        raise InputError(f"a product must take a slot of values with transpose, and only that, not one of {layout}")
    a, s_a = _activations(state, fields["in_line"], rows, k)
    group = 1 << fields["group"] if fields["group"] else 0
    if group:
        if layout != "linear" or k % group:
            raise InputError(f"a product of groups must be on linear weights in whole groups, not K = {k} of {layout}")
        results = state.sums = _grouped(state, fields, a, s_a, columns, k, group)
    else:
        exact = state.sums = _integers(state, fields, layout, a, columns, k)
        if not fields["last"]:
            return
        results = _one_group(state, fields, layout, exact, s_a)
    if fields["last"]:
        write_rows(state, fields["out_line"], results, apart=bool(fields["transpose"]))


def _check_kept(fields: dict[str, int], layout: str, k: int) -> None:
    """Refuse N:M weights that no words hold."""
    keep = fields["keep"]
    if keep == K_BLOCK:
        return
    if keep not in KEPT or layout != "linear" or fields["zero"] != _ZERO["none"]:
        raise InputError("a product of N:M weights must keep 2, 4 or 8 of 16 of a slot of linear, without zero points "
                         f"or minima, not {keep} of one of {layout}")  # fmt: skip
    stretch = K_BLOCK * K_BLOCK // keep
    group = 1 << fields["group"] if fields["group"] else k
    if k % stretch or group % stretch:
        raise InputError(f"K and groups of weights that keep {keep} of 16 must be whole {stretch}, not {k} and {group}")


def _words(state: CoreState, fields: dict[str, int], steps: int, blocks: int) -> NDArray[Any]:
    """A slot's words [channels, at least steps blocks, lanes, 16]; those of N:M weights with zeros between them."""
    shape, slot, keep = state.shape, fields["slot"], fields["keep"]
    words = steps * blocks * keep // K_BLOCK
    if words > shape.words:
        raise InputError(f"a tile must fit a bank of {shape.words:,} words of a slot, not {words:,}")
    weight: NDArray[Any] = state.weight[slot]
    if keep == K_BLOCK:
        return weight
    size = words * shape.lanes * K_BLOCK // 2
    if size > shape.index_bytes:
        raise InputError(f"places must fit a bank of {shape.index_bytes:,} bytes, not {size:,}")
    nibbles = state.index[slot, :, :size, None] >> np.array([0, 4], np.uint8) & 15
    places = nibbles.reshape(shape.channels, words, shape.lanes, K_BLOCK // keep, keep)
    wide = np.zeros((*places.shape[:-1], K_BLOCK), np.int16)
    _scatter(weight[:, :words].reshape(-1, keep), places.reshape(-1, keep), wide.reshape(-1, K_BLOCK))
    return np.ascontiguousarray(wide.swapaxes(2, 3)).reshape(shape.channels, steps * blocks, shape.lanes, K_BLOCK)


def _activations(
    state: CoreState, line: int, rows: int, k: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:  # fmt: skip
    """Codes [rows, K] and the scale of each block [rows, K / 16] of interleaved rows."""
    lines = -(-k // LINE_BYTES)
    end = line + lines * rows
    if end > len(state.act):
        raise InputError(f"activations must end inside the act buffer of {len(state.act):,} lines, not at {end:,}")
    held = state.act[line:end].view(np.int8).reshape(lines, rows, LINE_BYTES).transpose(1, 0, 2).reshape(rows, -1)
    scales = state.act_scales[line:end].astype(np.float32).reshape(lines, rows, LINE_BLOCKS)
    return np.ascontiguousarray(held[:, :k]), np.ascontiguousarray(
        scales.transpose(1, 0, 2).reshape(rows, -1)[:, : k // K_BLOCK]
    )


def _before(state: CoreState, fields: dict[str, int], kind: type[np.generic]) -> NDArray[Any]:
    """The sums that a slab goes on with."""
    shape = (fields["rows"], fields["columns"])
    if not fields["accumulate"]:
        return np.zeros(shape, kind)
    if state.sums.shape != shape or state.sums.dtype != kind:
        raise InputError(f"a slab must go on with sums of its tile, {shape}, not {state.sums.shape}")
    return state.sums.copy()


def _scales(state: CoreState, slot: int, steps: int, groups: int, parts: int) -> NDArray[np.float32]:
    """FP16 scales (and minima) of a linear's slab [channels, steps, groups, lanes, parts], widened."""
    shape = state.shape
    size = groups * shape.lanes * parts * 2
    stride = -(-size // BURST) * BURST
    if steps * stride > shape.scale_bytes:
        raise InputError(f"scales must fit a bank of {shape.scale_bytes:,} bytes, not {steps * stride:,}")
    held = state.scale[slot, :, : steps * stride].reshape(shape.channels, steps, stride)[..., :size]
    return np.ascontiguousarray(held).view(np.float16).astype(np.float32).reshape(
        shape.channels, steps, groups, shape.lanes, parts
    )  # fmt: skip


def _grouped(
    state: CoreState, fields: dict[str, int], a: NDArray[np.int8], s_a: NDArray[np.float32], columns: int, k: int,
    group: int,
) -> NDArray[np.float32]:  # fmt: skip
    sums = _before(state, fields, np.float32)
    steps = -(-columns // state.shape.step)
    minimum = fields["zero"] == _ZERO["minimum"]
    scales = _scales(state, fields["slot"], steps, k // group, 2 if minimum else 1)
    _linear(_words(state, fields, steps, k // K_BLOCK), scales, minimum, a, s_a, group, columns, sums)
    return sums


def _integers(
    state: CoreState, fields: dict[str, int], layout: str, a: NDArray[np.int8], columns: int, k: int
) -> NDArray[np.int64]:  # fmt: skip
    """The exact sums of a slab on top of those before; columns of keys at their token's place."""
    shape, steps = state.shape, -(-columns // state.shape.step)
    blocks = k // K_BLOCK
    used = _words(state, fields, steps, blocks)[:, : steps * blocks]
    if layout == "values":  # [C, blocks, steps, L, 16] to [steps, C, L, blocks, 16]
        w = used.reshape(shape.channels, blocks, steps, shape.lanes, K_BLOCK).transpose(2, 0, 3, 1, 4)
    else:
        w = used.reshape(shape.channels, steps, blocks, shape.lanes, K_BLOCK)
        # keys: column (s, c, l) is token (s L + l) C + c
        w = w.transpose(1, 3, 0, 2, 4) if layout == "keys" else w.transpose(1, 0, 3, 2, 4)
    matrix = np.ascontiguousarray(w).reshape(steps * shape.step, k)[:columns]
    before: NDArray[np.int64] = _before(state, fields, np.int64)
    found: NDArray[np.int64] = before + _dots(a, matrix)
    return found


def _one_group(
    state: CoreState, fields: dict[str, int], layout: str, sums: NDArray[np.int64], s_a: NDArray[np.float32]
) -> NDArray[np.float32]:  # fmt: skip
    """f32(0 + f32(f32(d s_a) f32(I))) with one scale a column and the row's own."""
    shape, columns = state.shape, sums.shape[1]
    steps = -(-columns // shape.step)
    if layout == "values":
        d = np.full(columns, LOWER, np.float32)
    elif layout == "keys":
        tokens = -(-columns // shape.channels)
        held = state.scale[fields["slot"], :, : 4 * tokens].reshape(shape.channels, tokens, 4)
        d = np.ascontiguousarray(held).view(np.float16)[..., 0].astype(np.float32).T.reshape(-1)[:columns]
    else:
        d = _scales(state, fields["slot"], steps, 1, 1)[:, :, 0, :, 0].transpose(1, 0, 2).reshape(-1)[:columns]
    return np.float32(0) + (d * s_a[:, :1]) * sums.astype(np.float32)


def write_rows(state: CoreState, line: int, values: NDArray[np.float32], *, apart: bool) -> None:
    """FP32 rows to the global buffer; words behind the end of a row stay as they are."""
    rows, n = values.shape
    lines = -(-n // LINE_WORDS)
    end = line + lines * rows
    if end > len(state.vector):
        raise InputError(f"results must end inside the global buffer of {len(state.vector):,} lines, not at {end:,}")
    held = state.words()[line:end]
    shaped = held.reshape(rows, lines, LINE_WORDS) if apart else held.reshape(lines, rows, LINE_WORDS).swapaxes(0, 1)
    whole = n // LINE_WORDS
    shaped[:, :whole] = values[:, : whole * LINE_WORDS].reshape(rows, whole, LINE_WORDS)
    if whole < lines:
        shaped[:, whole, : n - whole * LINE_WORDS] = values[:, whole * LINE_WORDS :]


def read_rows(state: CoreState, line: int, rows: int, n: int, *, apart: bool) -> NDArray[np.float32]:
    """FP32 rows [rows, n] from the global buffer."""
    lines = -(-n // LINE_WORDS)
    end = line + lines * rows
    if end > len(state.vector):
        raise InputError(f"operands must end inside the global buffer of {len(state.vector):,} lines, not at {end:,}")
    held = state.words()[line:end]
    shaped = held.reshape(rows, lines, LINE_WORDS) if apart else held.reshape(lines, rows, LINE_WORDS).swapaxes(0, 1)
    return np.ascontiguousarray(shaped).reshape(rows, -1)[:, :n]


@njit(cache=True, nogil=True, error_model="numpy")
def _scatter(codes: Any, places: Any, wide: Any) -> None:
    """Codes to their places of each block; those of one place are added."""
    for block in range(codes.shape[0]):
        for i in range(codes.shape[1]):
            wide[block, places[block, i]] += codes[block, i]


@njit(cache=True, nogil=True, error_model="numpy")
def _dots(a: Any, matrix: Any) -> Any:
    found = np.empty((a.shape[0], matrix.shape[0]), np.int64)
    for row in range(a.shape[0]):
        for column in range(matrix.shape[0]):
            total = np.int32(0)
            for i in range(a.shape[1]):
                total += np.int32(a[row, i]) * np.int32(matrix[column, i])
            found[row, column] = total
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    weight: Any, scales: Any, minimum: bool, a: Any, s_a: Any, group: int, columns: int, sums: Any
) -> None:
    """Groups ascending into ``sums``: the products' step, then the minimum's."""
    channels, _, lanes, _ = weight.shape
    blocks = a.shape[1] // 16
    per_group = group // 16
    step = channels * lanes
    for row in range(a.shape[0]):
        for column in range(columns):
            s, rest = column // step, column % step
            c, lane = rest // lanes, rest % lanes
            acc = sums[row, column]
            for g in range(blocks // per_group):
                total, ones = np.int32(0), np.int32(0)
                for b in range(g * per_group, (g + 1) * per_group):
                    for i in range(16):
                        q = np.int32(a[row, b * 16 + i])
                        total += np.int32(weight[c, s * blocks + b, lane, i]) * q
                        ones += q
                scale = s_a[row, g * per_group]
                acc = acc + (scales[c, s, g, lane, 0] * scale) * np.float32(total)
                if minimum:
                    acc = acc + (scales[c, s, g, lane, 1] * scale) * np.float32(ones)
            sums[row, column] = acc
