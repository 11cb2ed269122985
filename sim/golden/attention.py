"""Attention of one query position over a cache of keys and values (``arch/numerics.md``, Attention).

    Int8Cache, attend_int8    integer cache with FP16 scales: integer dot products for q·k and p·v
    attend_fp16               FP16 cache: the reference variant, FP32 products and sums
"""

from dataclasses import dataclass

import numpy as np

from mixflight.arch.control_constants import cap_constants, score_cap
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import exp, reciprocal, softcap
from mixflight.sim.golden.quantise import F16, I8, quantise
from mixflight.sim.golden.reduce import reduce_sum

# Probabilities shrink as 1/context: lifted by this exact power of two, their FP16 scale keeps its precision.
LIFT, LOWER = np.float32(2.0**12), np.float32(2.0**-12)


@dataclass(frozen=True, kw_only=True, eq=False)
class Int8Cache:
    """Keys or values [KV heads, context, head] as integers of at most 8 bits, with one FP16 scale per token and head.

    ``minima`` for codes from 0 to 15 that stand for scale·code + minimum.
    """

    codes: I8
    scales: F16
    minima: F16 | None = None


def softmax(scores: F32) -> F32:
    """e = exp(score - max), r = reciprocal(sum e), p = f32(e·r), over the last axis."""
    e = exp(scores - scores.max(axis=-1, keepdims=True))
    return e * reciprocal(reduce_sum(e))[..., None]


def inverse_root(head: int) -> np.float32:
    """f32(1/sqrt(head)), the factor on every score."""
    return np.float32(1.0 / np.sqrt(np.float64(head)))


def scores_of(products: F32, head: int, cap: float = 0.0) -> F32:
    """Scores of products of queries and keys, with a soft cap at ``cap`` unless that is 0."""
    if cap:
        products = softcap(products, *cap_constants(score_cap(cap, head))).reshape(products.shape)
    return products * inverse_root(head)


def attend_int8(q: F32, keys: Int8Cache, values: Int8Cache, cap: float = 0.0) -> F32:
    """Outputs [heads, head] of the queries [heads, head] of one position, over the whole given cache."""
    heads, head = q.shape
    repeat = heads // len(keys.codes)
    query = quantise(q, head)
    k, v = (np.repeat(part.codes, repeat, 0).astype(np.int64) for part in (keys, values))
    s_k, s_v = (np.repeat(part.scales, repeat, 0).astype(np.float32) for part in (keys, values))
    dots = np.einsum("hd,hjd->hj", query.codes.astype(np.int64), k)
    s_q = query.scales.astype(np.float32)
    products = (s_q * s_k) * dots.astype(np.float32)
    if keys.minima is not None:
        rowsum = query.codes.sum(axis=-1, dtype=np.int64)[:, None].astype(np.float32)
        products = products + (s_q * np.repeat(keys.minima, repeat, 0).astype(np.float32)) * rowsum
    p = softmax(scores_of(products, head, cap))
    weighted = p * (s_v * LIFT)
    u = quantise(weighted, weighted.shape[-1])
    sums = np.einsum("hj,hjd->hd", u.codes.astype(np.int64), v)
    out: F32 = (u.scales.astype(np.float32) * LOWER) * sums.astype(np.float32)
    if values.minima is not None:
        out = out + reduce_sum(p * np.repeat(values.minima, repeat, 0).astype(np.float32))[:, None]
    return out


def attend_fp16(q: F32, keys: F16, values: F16, cap: float = 0.0) -> F32:
    """The reference variant: queries stay FP32, keys and values [KV heads, context, head] are FP16."""
    heads, head = q.shape
    repeat = heads // len(keys)
    k, v = (np.repeat(part, repeat, 0).astype(np.float32) for part in (keys, values))
    p = softmax(scores_of(reduce_sum(q[:, None, :] * k), head, cap))
    return reduce_sum(np.ascontiguousarray((p[:, :, None] * v).transpose(0, 2, 1)))
