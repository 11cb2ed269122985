"""Linears and attention of many tokens at once: the bits of the references, an order of magnitude faster.

    linear    INT8 or FP16 activations [tokens, K], TILE tokens side by side in the vector lanes
    attend    queries of several positions over an integer or an FP16 cache

Sums of integers are held in FP32 or FP64 where they are exact, so that their order and a fused multiply-add change
nothing. FP16 activations are summed in the contract's order, and their products with integer weights are exact in
FP32, so there too a fused multiply-add changes nothing. Nothing else is fused.
"""

from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.errors import InputError
from mixflight.sim.golden import kernels
from mixflight.sim.golden.attention import LIFT, LOWER, Int8Cache, inverse_root
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import EXP2, RECIPROCAL
from mixflight.sim.golden.kernels import MAX_CONTEXT, _exp, _fold, _quantise, _reciprocal, in_parts
from mixflight.sim.golden.linear import GroupedWeight, integer_group, linear_f16
from mixflight.sim.golden.quantise import F16, LEVELS, Quantised
from mixflight.sim.golden.reduce import PARTIALS

TILE = 64  # tokens computed side by side
STEP = 4  # products added to a sum at a time
ABREAST = 4  # outputs computed together
ROWS = 16  # outputs that share a tile of activations while it is in the first-level cache
EXACT = 512  # products of an 8-bit weight less its zero point (below 256) and INT8 whose FP32 sum is exact
MAX_HEAD = 1024  # INT8 products whose FP32 sum is exact


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _dots(w: Any, first: int, end: int, a: Any, at: int, total: Any) -> None:
    """Sums of w[i, k]·a[at + k], ``first`` <= k < ``end``, of ABREAST outputs i and every lane, in ascending k from +0.

    Four outputs and four inputs at a time: a vector of activations that has been loaded serves four outputs, and the
    sixteen weights stay in registers.
    """
    for i in range(ABREAST):
        for t in range(TILE):
            total[i, t] = np.float32(0)
    a = a[at:]
    for k in range(first, end, STEP):
        w00, w01, w02, w03 = w[0, k], w[0, k + 1], w[0, k + 2], w[0, k + 3]
        w10, w11, w12, w13 = w[1, k], w[1, k + 1], w[1, k + 2], w[1, k + 3]
        w20, w21, w22, w23 = w[2, k], w[2, k + 1], w[2, k + 2], w[2, k + 3]
        w30, w31, w32, w33 = w[3, k], w[3, k + 1], w[3, k + 2], w[3, k + 3]
        for t in range(TILE):
            a0, a1, a2, a3 = a[k, t], a[k + 1, t], a[k + 2, t], a[k + 3, t]
            total[0, t] = total[0, t] + w00 * a0 + w01 * a1 + w02 * a2 + w03 * a3
            total[1, t] = total[1, t] + w10 * a0 + w11 * a1 + w12 * a2 + w13 * a3
            total[2, t] = total[2, t] + w20 * a0 + w21 * a1 + w22 * a2 + w23 * a3
            total[3, t] = total[3, t] + w30 * a0 + w31 * a1 + w32 * a2 + w33 * a3


@njit(cache=True, nogil=True, error_model="numpy")
def _wide_dots(w: Any, exact: int, a: Any, at: int, total: Any) -> None:
    """``_dots`` of a whole group through FP64, where FP32 would not hold the integers."""
    part, wide = np.empty((ABREAST, TILE), np.float32), np.zeros((ABREAST, TILE), np.float64)
    for first in range(0, w.shape[1], exact):
        _dots(w, first, min(first + exact, w.shape[1]), a, at, part)
        for i in range(ABREAST):
            for t in range(TILE):
                wide[i, t] += np.float64(part[i, t])
    for i in range(ABREAST):
        for t in range(TILE):
            total[i, t] = np.float32(wide[i, t])


@njit(cache=True, nogil=True, error_model="numpy")
def _accumulate(acc: Any, factor: Any, scales: Any, sums: Any) -> None:
    for t in range(TILE):
        acc[t] = acc[t] + (factor * scales[t]) * sums[t]


@njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    first: int, last: int, codes: Any, d: Any, zero: Any, minimum: Any, group: int, exact: int, a: Any, s_a: Any,
    rowsums: Any, out: Any,
) -> None:  # fmt: skip
    """Outputs ``first`` to ``last`` of activations [tiles, K, TILE]."""
    acc = np.empty((ROWS, TILE), np.float32)
    total = np.empty((ABREAST, TILE), np.float32)
    w = np.zeros((ABREAST, group), np.float32)
    for tile in range(a.shape[0]):
        for start in range(first, last, ROWS):
            rows = min(ROWS, last - start)
            acc[:] = np.float32(0)
            for g in range(d.shape[1]):
                at = g * group
                for i in range(0, rows, ABREAST):
                    abreast = min(ABREAST, rows - i)
                    for j in range(abreast):
                        z = zero[start + i + j, g] if zero.size else np.float32(0)
                        for k in range(group):
                            w[j, k] = np.float32(codes[start + i + j, at + k]) - z
                    if group <= exact:
                        _dots(w, 0, group, a[tile], at, total)
                    else:
                        _wide_dots(w, exact, a[tile], at, total)
                    for j in range(abreast):
                        row = start + i + j
                        _accumulate(acc[i + j], d[row, g], s_a[tile, g], total[j])
                        if minimum.size:
                            _accumulate(acc[i + j], minimum[row, g], s_a[tile, g], rowsums[tile, g])
            for i in range(rows):
                for t in range(min(TILE, len(out) - tile * TILE)):
                    out[tile * TILE + t, start + i] = acc[i, t]


def linear(weight: GroupedWeight, activation: Quantised | F16) -> F32:
    """As the references ``linear`` (INT8 activations) and ``linear_f16`` (FP16 activations)."""
    if isinstance(activation, Quantised):
        group = integer_group(weight, activation)
        exact = group if weight.real else EXACT  # a sum of reals is one sum in order
        values = activation.codes.reshape(-1, weight.k).astype(np.float32)
        scales = activation.scales.astype(np.float32).reshape(len(values), -1)
        scales = np.repeat(scales, activation.group // group, axis=1)
        sums = values.reshape(len(values), -1, group).sum(axis=2, dtype=np.float64).astype(np.float32)
    else:
        if activation.shape[-1] != weight.k:
            raise InputError(f"K must agree: weights have {weight.k}, activations {activation.shape[-1]}")
        group = exact = weight.group
        values = activation.astype(np.float32)
        scales = np.ones((len(values), weight.k // group), np.float32)
        sums = _ascending_sums(values.reshape(len(values), -1, group))
    if group % STEP:
        if isinstance(activation, Quantised):
            return kernels.linear(weight, activation)
        return linear_f16(weight, activation)
    times = weight.group // group
    d, zero, minimum = (
        np.repeat(part, times, axis=1) if times > 1 else part
        for part in (weight.wide_d, weight.integer_zero.astype(np.float32), weight.wide_minimum)
    )
    out = np.empty((len(values), weight.n), np.float32)
    a, s_a, rowsums = _tiles(values), _tiles(scales), _tiles(sums)

    def run(first: int, last: int) -> None:
        _linear(first, last, weight.codes, d, zero, minimum, group, exact, a, s_a, rowsums, out)

    in_parts(-(-weight.n // ROWS), weight.codes.size * len(out), lambda i, j: run(i * ROWS, min(j * ROWS, weight.n)))
    return out


def _tiles(x: F32) -> F32:
    """Rows [tokens, n] as [tiles, n, TILE]; lanes without a token are zero."""
    padded = np.zeros((-(-len(x) // TILE) * TILE, x.shape[1]), np.float32)
    padded[: len(x)] = x
    return np.ascontiguousarray(padded.reshape(-1, TILE, x.shape[1]).transpose(0, 2, 1))


def _ascending_sums(x: F32) -> F32:
    total = np.zeros(x.shape[:-1], np.float32)
    for k in range(x.shape[-1]):
        total = total + x[..., k]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _softmax(scores: Any, exp2: Any, table: Any) -> None:
    """Probabilities in place of scores."""
    highest = scores[0]
    for j in range(len(scores)):
        highest = max(highest, scores[j])
    partials = np.zeros(PARTIALS, np.float32)
    for j in range(len(scores)):
        scores[j] = _exp(scores[j] - highest, exp2)
        partials[j % PARTIALS] += scores[j]
    r = _reciprocal(_fold(partials), table)
    for j in range(len(scores)):
        scores[j] = scores[j] * r


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _exact_scores(query: Any, keys: Any, out: Any) -> None:
    """Integer dot products of one query with keys [head, context]."""
    out[:] = np.float32(0)
    head = len(query) // 4 * 4
    for i in range(0, head, 4):
        q0, q1, q2, q3 = query[i], query[i + 1], query[i + 2], query[i + 3]
        for j in range(len(out)):
            out[j] = out[j] + q0 * keys[i, j] + q1 * keys[i + 1, j] + q2 * keys[i + 2, j] + q3 * keys[i + 3, j]
    for i in range(head, len(query)):
        for j in range(len(out)):
            out[j] = out[j] + query[i] * keys[i, j]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _exact_mix(weights: Any, values: Any, out: Any) -> None:
    """Integer sums of values [context, head], weighted; FP64 out."""
    part = np.empty(len(out), np.float32)
    for first in range(0, len(weights), MAX_HEAD):
        part[:] = np.float32(0)
        for j in range(first, min(first + MAX_HEAD, len(weights))):
            w = np.float32(weights[j])
            for i in range(len(out)):
                part[i] = part[i] + w * values[j, i]
        for i in range(len(out)):
            out[i] += np.float64(part[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _attend_integer(
    first: int, last: int, q: Any, keys: Any, k_scales: Any, k_minima: Any, values: Any, v_scales: Any, v_minima: Any,
    before: int, root: Any, exp2: Any, table: Any, out: Any, bad: Any,
) -> None:  # fmt: skip
    """Pairs of token and head, counted through, from ``first`` to ``last``; ``bad`` tells which failed."""
    tokens, heads, head = q.shape
    repeat = heads // keys.shape[0]
    codes = np.empty(head, np.int8)
    query = np.empty(head, np.float32)
    for item in range(first, last):
        token, h = item // heads, item % heads
        kv, context = h // repeat, before + token + 1
        s_q = _quantise(q[token, h], np.float32(LEVELS), codes)
        rowsum = np.float32(0)
        for i in range(head):
            query[i] = np.float32(codes[i])
            rowsum += query[i]
        scores = np.empty(context, np.float32)
        _exact_scores(query, keys[kv], scores)
        for j in range(context):
            product = (s_q * k_scales[kv, j]) * scores[j]
            if k_minima.size:
                product = product + (s_q * k_minima[kv, j]) * rowsum
            scores[j] = product * root
        _softmax(scores, exp2, table)
        least = np.float32(0)
        if v_minima.size:
            partials = np.zeros(PARTIALS, np.float32)
            for j in range(context):
                partials[j % PARTIALS] += scores[j] * v_minima[kv, j]
            least = _fold(partials)
        for j in range(context):
            scores[j] = scores[j] * (v_scales[kv, j] * LIFT)
        u = np.empty(context, np.int8)
        s_u = _quantise(scores, np.float32(LEVELS), u)
        if s_q < np.float32(0) or s_u < np.float32(0):
            bad[token, h] = 1
        sums = np.zeros(head, np.float64)
        _exact_mix(u, values[kv], sums)
        for i in range(head):
            out[token, h, i] = (s_u * LOWER) * np.float32(sums[i])
            if v_minima.size:
                out[token, h, i] = out[token, h, i] + least


@njit(cache=True, nogil=True, error_model="numpy")
def _attend_float(
    first: int, last: int, q: Any, keys: Any, values: Any, before: int, root: Any, exp2: Any, table: Any, out: Any
) -> None:
    """The same over FP16 keys [KV heads, head, context] and values [KV heads, context, head], widened."""
    tokens, heads, head = q.shape
    repeat = heads // keys.shape[0]
    for item in range(first, last):
        token, h = item // heads, item % heads
        kv, context = h // repeat, before + token + 1
        products = np.zeros((PARTIALS, context), np.float32)
        for i in range(head):
            row = products[i % PARTIALS]
            for j in range(context):
                row[j] = row[j] + q[token, h, i] * keys[kv, i, j]
        width = PARTIALS // 2
        while width > 0:
            for i in range(width):
                for j in range(context):
                    products[i, j] = products[i, j] + products[i + width, j]
            width //= 2
        scores = products[0]
        for j in range(context):
            scores[j] = scores[j] * root
        _softmax(scores, exp2, table)
        sums = np.zeros((PARTIALS, head), np.float32)
        for j in range(context):
            row = sums[j % PARTIALS]
            for i in range(head):
                row[i] = row[i] + scores[j] * values[kv, j, i]
        width = PARTIALS // 2
        while width > 0:
            for j in range(width):
                for i in range(head):
                    sums[j, i] = sums[j, i] + sums[j + width, i]
            width //= 2
        out[token, h] = sums[0]


def attend(q: F32, keys: Int8Cache | F16, values: Int8Cache | F16, before: int) -> F32:
    """As ``attend_int8`` or ``attend_fp16`` for queries [tokens, heads, head] at positions ``before``, ``before + 1``…

    The cache arrays may be longer than the context.
    """
    used, query = before + len(q), np.ascontiguousarray(q)
    if used > MAX_CONTEXT or q.shape[-1] > MAX_HEAD:
        raise InputError(f"context and head must be at most {MAX_CONTEXT} and {MAX_HEAD}, not {used} and {q.shape[-1]}")
    out, root = np.empty(q.shape, np.float32), inverse_root(q.shape[-1])
    items, work = len(q) * q.shape[1], 2 * used * q.size
    if isinstance(keys, Int8Cache) and isinstance(values, Int8Cache):
        k, v = _wide(keys.codes, used, turned=True), _wide(values.codes, used)
        parts = [_scales(part, used) for cache in (keys, values) for part in (cache.scales, cache.minima)]
        s_k, m_k, s_v, m_v = parts
        bad = np.zeros(q.shape[:2], np.uint8)
        in_parts(items, work, lambda i, j: _attend_integer(
            i, j, query, k, s_k, m_k, v, s_v, m_v, before, root, EXP2, RECIPROCAL, out, bad
        ))  # fmt: skip
        if bad.any():
            raise InputError(f"queries must be finite and their scales fit FP16, in {bad.sum()} heads of attention")
    elif isinstance(keys, np.ndarray) and isinstance(values, np.ndarray):
        k, v = _wide(keys, used, turned=True), _wide(values, used)
        in_parts(items, work, lambda i, j: _attend_float(
            i, j, query, k, v, before, root, EXP2, RECIPROCAL, out
        ))  # fmt: skip
    else:
        raise InputError("keys and values must both be integers or both be FP16")
    return out


def _wide(part: Any, used: int, turned: bool = False) -> F32:
    found = part[:, :used].astype(np.float32)
    return np.ascontiguousarray(found.transpose(0, 2, 1)) if turned else found


def _scales(part: F16 | None, used: int) -> F32:
    return np.empty((0, 0), np.float32) if part is None else part[:, :used].astype(np.float32)
