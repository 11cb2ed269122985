"""Causal attention of a whole window in FP32, over a rounded cache and the keys that a pattern lets a query see."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation.compression import Blocks, Cached, TopKeys, Window
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.quantise import to_f16

Mask = NDArray[np.bool_]
Pattern = Window | TopKeys | Blocks | None


def attend(
    q: F32, k: F32, v: F32, keys: Cached | None = None, values: Cached | None = None, pattern: Pattern = None,
    observe: Callable[[int, F32], None] | None = None,
) -> F32:  # fmt: skip
    """Outputs [tokens, heads, head] of queries [tokens, heads, head] over keys and values [tokens, KV heads, head].

    ``observe(head, probabilities)`` is told what each head attends to.
    """
    tokens, heads, head = q.shape
    past = np.tril(np.ones((tokens, tokens), np.bool_))
    late_keys, late_values = unsettled(keys, tokens), unsettled(values, tokens)
    stored_k, stored_v = round_cache(k, keys), round_cache(v, values)
    allowed = past & window_mask(pattern, tokens) if isinstance(pattern, Window) else past
    out = np.empty_like(q)
    for h in range(heads):
        kv = h * k.shape[1] // heads
        scores = q[:, h] @ stored_k[:, kv].T
        if late_keys is not None:
            scores = np.where(late_keys, q[:, h] @ k[:, kv].T, scores)
        p = _softmax(scores / np.float32(np.sqrt(head)), allowed)
        if isinstance(pattern, TopKeys | Blocks):
            seen = top_keys(p, pattern.budget) if isinstance(pattern, TopKeys) else top_blocks(p, pattern)
            p = np.where(seen & past, p, np.float32(0))
            p /= p.sum(axis=1, keepdims=True)
        if observe is not None:
            observe(h, p)
        if late_values is None:
            out[:, h] = p @ stored_v[:, kv]
        else:
            late = np.where(late_values, p, np.float32(0))
            out[:, h] = (p - late) @ stored_v[:, kv] + late @ v[:, kv]
    return out


def _softmax(scores: F32, allowed: Mask) -> F32:
    scores[~allowed] = -np.inf
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: F32 = p / p.sum(axis=1, keepdims=True)
    return found


def window_mask(window: Window, tokens: int) -> Mask:
    """[query, key]: the latest keys, the query's own among them, and the first."""
    distance = np.arange(tokens)[:, None] - np.arange(tokens)
    found: Mask = (distance < window.tokens) | (np.arange(tokens) < window.sink)
    return found


def top_keys(p: F32, budget: int) -> Mask:
    """[query, key]: the ``budget`` likeliest keys of each query."""
    if budget >= p.shape[1]:
        return np.ones(p.shape, np.bool_)
    found = np.zeros(p.shape, np.bool_)
    np.put_along_axis(found, np.argpartition(-p, budget, axis=1)[:, :budget], True, axis=1)
    return found


def top_blocks(p: F32, blocks: Blocks) -> Mask:
    """[query, key]: in each row of blocks the share ``density``, rounded up, of most mass; the diagonal always."""
    tokens, size = len(p), blocks.size
    count = -(-tokens // size)
    padded = np.zeros((count * size, count * size), np.float32)
    padded[:tokens, :tokens] = p
    mass = padded.reshape(count, size, count, size).sum(axis=(1, 3))
    seen = np.zeros((count, count), np.bool_)
    for row in range(count):
        mass[row, row] = np.inf
        wanted = max(1, int(np.ceil(blocks.density * (row + 1))))
        seen[row, np.argsort(-mass[row, : row + 1], kind="stable")[:wanted]] = True
    return np.repeat(np.repeat(seen, size, 0), size, 1)[:tokens, :tokens]


def unsettled(cached: Cached | None, tokens: int) -> Mask | None:
    """[query, key]: keys that are still unrounded when the query sees them; None if there are none."""
    if cached is None or not (cached.per_channel or cached.residual):
        return None
    seen = np.arange(1, tokens + 1) - cached.residual
    if cached.per_channel and cached.group:
        seen = seen // cached.group * cached.group
    found: Mask = np.arange(tokens) >= np.maximum(seen, 0)[:, None]
    return found


def round_cache(x: F32, cached: Cached | None) -> F32:
    """Keys or values [tokens, KV heads, head] as their codes stand for them; FP16 scales, and minima if asymmetric."""
    if cached is None:
        return x
    tokens, heads, head = x.shape
    if not cached.per_channel:
        group = cached.group or head
        if head % group:
            raise InputError(f"group must divide the head: {group} does not divide {head}, in the cache")
        return _round(x.reshape(-1, group), cached).reshape(x.shape)
    group = cached.group or tokens
    padded = np.concatenate([x, np.repeat(x[-1:], -tokens % group, axis=0)])
    turned = padded.reshape(-1, group, heads * head).transpose(0, 2, 1)
    rounded = _round(np.ascontiguousarray(turned).reshape(-1, group), cached)
    return rounded.reshape(turned.shape).transpose(0, 2, 1).reshape(padded.shape)[:tokens]


def _round(rows: F32, cached: Cached) -> F32:
    if cached.symmetric:
        most, low = np.float32(2 ** (cached.bits - 1) - 1), np.float32(0)
        scale = to_f16(np.abs(rows).max(axis=1) / most, "a cached scale").astype(np.float32)
        least, zero = -most, np.zeros(len(rows), np.float32)
    else:
        most, least = np.float32(2**cached.bits - 1), np.float32(0)
        low = rows.min(axis=1)
        scale = to_f16((rows.max(axis=1) - low) / most, "a cached scale").astype(np.float32)
        zero = to_f16(low, "a cached minimum").astype(np.float32)
    live = np.where(scale > 0, scale, np.float32(1))[:, None]
    codes = np.clip(np.rint((rows - zero[:, None]) / live), least, most)
    found: F32 = codes * scale[:, None] + zero[:, None]
    return found
