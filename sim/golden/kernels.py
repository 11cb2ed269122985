"""The golden functions that are hot, compiled: the bits of their NumPy references, which the tests prove.

Every operand of a rounded operation is an explicit float32 (an integer times a float32 would widen to
float64), no fastmath and so no contraction into fused multiply-adds, and tables come as arguments because a
cached kernel does not notice that a global array has changed. Conversions through float64 below are exact:
powers of two and floors.
"""

import functools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.errors import InputError
from mixflight.sim.golden.attention import LIFT, LOWER, Int8Cache, inverse_root
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import EXP2, LOG2_E, RECIPROCAL, RSQRT_EVEN, RSQRT_ODD
from mixflight.sim.golden.linear import GroupedWeight, integer_group
from mixflight.sim.golden.linear import linear as reference_linear
from mixflight.sim.golden.quantise import LEVELS, Quantised
from mixflight.sim.golden.reduce import PARTIALS

MOST = np.float32(3.4028234663852886e38)
RUN = 32  # the usual group: its inner loop has a constant length, so that it is unrolled and vectorised
PART_WORK = 200_000  # multiplications that are worth waking a thread for
ELEMENT_WORK = 8  # multiplications that take as long as one element of a quantisation or of a SiLU
_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
NO_ZERO, INTEGER_ZERO, MINIMUM = 0, 1, 2
MAX_CONTEXT = 131_072  # sums of INT8 products over the context stay within 32 bits


@njit(cache=True, error_model="numpy")
def _exp(x: Any, exp2: Any) -> Any:
    if x <= np.float32(-128):
        return np.float32(0)
    t = np.float32(x) * np.float32(LOG2_E)
    fixed = np.int64(math.floor(np.float64(t) * 16777216.0))
    whole = fixed >> 24
    if whole < -126:
        return np.float32(0)
    index = (fixed >> 16) & 255
    low = exp2[index]
    significand = low + (((exp2[index + 1] - low) * (fixed & 65535) + 32768) >> 16)
    return np.int32(((whole + 126) << 23) + significand).view(np.float32)


@njit(cache=True, error_model="numpy")
def _reciprocal(x: Any, table: Any) -> Any:
    """For normal x below 2^126: a softmax sum or 1 + e."""
    bits = np.int64(np.float32(x).view(np.int32))
    index = (bits >> 15) & 255
    low = table[index]
    significand = low + (((table[index + 1] - low) * (bits & 32767) + 16384) >> 15)
    return np.int32(((252 - (bits >> 23)) << 23) + significand).view(np.float32)


@njit(cache=True, error_model="numpy")
def _rsqrt(x: Any, even: Any, odd: Any) -> Any:
    """For normal x."""
    bits = np.int64(np.float32(x).view(np.int32))
    exponent = (bits >> 23) - 127
    table = odd if exponent & 1 else even
    index = (bits >> 15) & 255
    low = table[index]
    significand = low + (((table[index + 1] - low) * (bits & 32767) + 16384) >> 15)
    return np.int32(((125 - (exponent >> 1)) << 23) + significand).view(np.float32)


@njit(cache=True, error_model="numpy")
def _fold(partials: Any) -> Any:
    """The sum of 128 partial sums, folded by halves in place."""
    width = PARTIALS // 2
    while width > 0:
        for i in range(width):
            partials[i] = partials[i] + partials[i + width]
        width //= 2
    return partials[0]


@njit(cache=True, error_model="numpy")
def _rms_norm(x: Any, weight: Any, over_n: Any, epsilon: Any, even: Any, odd: Any, out: Any) -> Any:
    good = True
    for row in range(x.shape[0]):
        partials = np.zeros(PARTIALS, np.float32)
        for i in range(x.shape[1]):
            partials[i % PARTIALS] += x[row, i] * x[row, i]
        total = _fold(partials)
        good = good and total <= MOST
        r = _rsqrt(total * over_n + epsilon, even, odd)
        for i in range(x.shape[1]):
            out[row, i] = (x[row, i] * r) * weight[i]
    return good


@njit(cache=True, nogil=True, error_model="numpy")
def _silu_gate(gate: Any, up: Any, exp2: Any, table: Any, out: Any) -> Any:
    good = True
    for i in range(len(gate)):
        g = gate[i]
        good = good and abs(g) <= MOST
        e = _exp(-np.float32(abs(g)), exp2)
        sigmoid = _reciprocal(np.float32(1) + e, table)
        if not g >= np.float32(0):
            sigmoid = e * sigmoid
        out[i] = (g * sigmoid) * up[i]
    return good


@njit(cache=True, error_model="numpy")
def _to_f16(x: Any) -> Any:
    """FP16(x) for x >= 0, widened back to FP32; too large a value comes out above 65504."""
    mantissa, exponent = math.frexp(np.float64(x))
    unit = math.ldexp(1.0, max(exponent - 1, -14) - 10)
    return np.float32(np.rint(np.float64(x) / unit) * unit)


@njit(cache=True, error_model="numpy")
def _quantise(x: Any, levels: Any, codes: Any) -> Any:
    """Codes of one group; its scale comes back, or -1 if a value is not finite or the scale does not fit."""
    amax = np.float32(0)
    strange = 0
    for i in range(len(x)):
        magnitude = np.float32(abs(x[i]))
        if not magnitude <= MOST:
            strange += 1
        amax = max(amax, magnitude)
    scale = _to_f16(amax / levels)
    if strange > 0 or scale > np.float32(65504):
        return np.float32(-1)
    if scale == np.float32(0):
        codes[:] = 0
        return scale
    inverse = levels / amax
    for i in range(len(x)):
        q = np.rint(x[i] * inverse)
        codes[i] = np.int8(min(max(q, -levels), levels))
    return scale


@njit(cache=True, nogil=True, error_model="numpy")
def _quantise_rows(x: Any, group: int, levels: Any, codes: Any, scales: Any) -> Any:
    good = True
    for row in range(x.shape[0]):
        for g in range(scales.shape[1]):
            part = slice(g * group, (g + 1) * group)
            scales[row, g] = _quantise(x[row, part], levels, codes[row, part])
            good = good and scales[row, g] >= np.float32(0)
    return good


@njit(cache=True, nogil=True, error_model="numpy")
def _linear(
    first: int, end_row: int, codes: Any, d: Any, integer_zero: Any, minimum: Any, kind: int, group: int, a: Any,
    s_a: Any, out: Any,
) -> None:
    """Output rows ``first`` to ``end_row``."""
    groups = d.shape[1]
    tokens = a.shape[0]
    sums = np.zeros((tokens, groups), np.int64)
    for token in range(tokens):
        for g in range(groups):
            for k in range(g * group, (g + 1) * group):
                sums[token, g] += np.int64(a[token, k])
    for row in range(first, end_row):
        for token in range(tokens):
            acc = np.float32(0)
            for g in range(groups):
                at = g * group
                if group == RUN:
                    short = np.int32(0)
                    for j in range(RUN):
                        short += np.int32(codes[row, at + j]) * np.int32(a[token, at + j])
                    total = np.int64(short)
                else:
                    total = np.int64(0)
                    for k in range(at, at + group):
                        total += np.int64(codes[row, k]) * np.int64(a[token, k])
                if kind == INTEGER_ZERO:
                    total -= np.int64(integer_zero[row, g]) * sums[token, g]
                acc = acc + (d[row, g] * s_a[token, g]) * np.float32(total)
                if kind == MINIMUM:
                    acc = acc + (minimum[row, g] * s_a[token, g]) * np.float32(sums[token, g])
            out[token, row] = acc


@njit(cache=True, nogil=True, error_model="numpy")
def _attend(
    first: int, last: int, q: Any, k_codes: Any, k_scales: Any, v_codes: Any, v_scales: Any, before: int,
    root: Any, exp2: Any, table: Any, out: Any, bad: Any,
) -> None:
    """Pairs of token and head, counted through, from ``first`` to ``last``; ``bad`` tells which failed."""
    tokens, heads, head = q.shape
    repeat = heads // k_codes.shape[0]
    for item in range(first, last):
        token = item // heads
        h = item % heads
        kv = h // repeat
        context = before + token + 1
        query = np.empty(head, np.int8)
        s_q = _quantise(q[token, h], np.float32(LEVELS), query)
        scores = np.empty(context, np.float32)
        for j in range(context):
            dot = np.int32(0)
            for i in range(head):
                dot += np.int32(query[i]) * np.int32(k_codes[kv, j, i])
            scores[j] = ((s_q * k_scales[kv, j]) * np.float32(dot)) * root
        highest = scores[0]
        for j in range(context):
            highest = max(highest, scores[j])
        partials = np.zeros(PARTIALS, np.float32)
        for j in range(context):
            scores[j] = _exp(scores[j] - highest, exp2)
            partials[j % PARTIALS] += scores[j]
        r = _reciprocal(_fold(partials), table)
        for j in range(context):
            scores[j] = (scores[j] * r) * (v_scales[kv, j] * LIFT)
        u = np.empty(context, np.int8)
        s_u = _quantise(scores, np.float32(LEVELS), u)
        if s_q < np.float32(0) or s_u < np.float32(0):
            bad[token, h] = 1
        sums = np.zeros(head, np.int32)
        for j in range(context):
            for i in range(head):
                sums[i] += np.int32(u[j]) * np.int32(v_codes[kv, j, i])
        for i in range(head):
            out[token, h, i] = (s_u * LOWER) * np.float32(sums[i])


def in_parts(count: int, work: int, run: Callable[[int, int], None]) -> None:
    """Call ``run(first, end)`` over parts of ``count``, one a core, if ``work`` (multiplications) is worth it.

    The caller takes a part itself, and waiting threads sleep: a busy machine costs no more than its share.
    """
    parts = max(1, min(_CORES, count, work // PART_WORK))
    edges = [count * part // parts for part in range(parts + 1)]
    others = [_pool().submit(run, edges[part], edges[part + 1]) for part in range(1, parts)]
    run(edges[0], edges[1])
    for other in others:
        other.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, _CORES - 1))


def quantise(x: F32, group: int, levels: int = LEVELS) -> Quantised:
    """As the reference ``quantise``."""
    rows = np.ascontiguousarray(x, np.float32).reshape(-1, x.shape[-1])
    if group < 1 or rows.shape[1] % group:
        raise InputError(f"group must divide K: {group} does not divide {rows.shape[1]}")
    codes = np.empty(rows.shape, np.int8)
    scales = np.empty((len(rows), rows.shape[1] // group), np.float32)
    good = []

    def run(first: int, end: int) -> None:
        part = slice(first, end)
        good.append(_quantise_rows(rows[part], group, np.float32(levels), codes[part], scales[part]))

    in_parts(len(rows), ELEMENT_WORK * rows.size, run)
    if not all(good):
        raise InputError(f"activations must be finite and their scale fit FP16, not up to {np.abs(x).max()}")
    shape = x.shape[:-1]
    return Quantised(
        codes=codes.reshape(x.shape), scales=scales.astype(np.float16).reshape(*shape, -1), group=group
    )


def rms_norm(x: F32, weight: F32, epsilon: np.float32) -> F32:
    """As the reference ``rms_norm``, for rows [tokens, n]."""
    out = np.empty(x.shape, np.float32)
    over_n = np.float32(1.0 / x.shape[-1])
    if not _rms_norm(np.ascontiguousarray(x), weight, over_n, epsilon, RSQRT_EVEN, RSQRT_ODD, out):
        raise InputError("every value and the sum of squares must be finite, in rms_norm")
    return out


def silu_gate(gate: F32, up: F32) -> F32:
    """As the reference ``silu_gate``."""
    out = np.empty(gate.shape, np.float32)
    flat, gates, ups, good = out.reshape(-1), gate.reshape(-1), up.reshape(-1), []

    def run(first: int, end: int) -> None:
        part = slice(first, end)
        good.append(_silu_gate(gates[part], ups[part], EXP2, RECIPROCAL, flat[part]))

    in_parts(len(flat), ELEMENT_WORK * len(flat), run)
    if not all(good):
        raise InputError("every value must be finite, in silu_gate")
    return out


def linear(weight: GroupedWeight, activation: Quantised) -> F32:
    """As the reference ``linear``."""
    if weight.real:
        return reference_linear(weight, activation)
    group = integer_group(weight, activation)
    a = np.ascontiguousarray(activation.codes.reshape(-1, weight.k))
    s_a = activation.scales.astype(np.float32).reshape(len(a), -1)
    d, minimum, integer_zero = weight.wide_d, weight.wide_minimum, weight.integer_zero
    kind = INTEGER_ZERO if integer_zero.size else MINIMUM if minimum.size else NO_ZERO
    if group != activation.group:
        s_a = np.repeat(s_a, activation.group // group, axis=1)
    if group != weight.group:
        times = weight.group // group
        d, minimum = np.repeat(d, times, axis=1), np.repeat(minimum, times, axis=1)
        integer_zero = np.repeat(integer_zero, times, axis=1)
    out = np.empty((len(a), weight.n), np.float32)

    def run(first: int, end: int) -> None:
        _linear(first, end, weight.codes, d, integer_zero, minimum, kind, group, a, s_a, out)

    in_parts(weight.n, weight.codes.size * len(a), run)
    return out


def attend_int8(q: F32, keys: Int8Cache, values: Int8Cache, before: int) -> F32:
    """Reference ``attend_int8`` for queries [tokens, heads, head] at positions ``before``, ``before + 1``, …

    The cache arrays may be longer than the context; their scales may be FP16 or widened.
    """
    used = before + len(q)
    if used > MAX_CONTEXT:
        raise InputError(f"the context must be at most {MAX_CONTEXT} for INT8 attention, not {used}")
    out = np.empty(q.shape, np.float32)
    k_scales, v_scales = (part.scales[:, :used].astype(np.float32) for part in (keys, values))
    query, root, bad = np.ascontiguousarray(q), inverse_root(q.shape[-1]), np.zeros(q.shape[:2], np.uint8)

    def run(first: int, last: int) -> None:
        _attend(
            first, last, query, keys.codes, k_scales, values.codes, v_scales, before, root, EXP2, RECIPROCAL,
            out, bad,
        )

    in_parts(bad.size, 2 * used * q.size, run)
    if bad.any():
        raise InputError(f"queries must be finite and their scales fit FP16, in {bad.sum()} heads of attention")
    return out
