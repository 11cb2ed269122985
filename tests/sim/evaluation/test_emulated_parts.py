"""Rotations, pruning, rounded caches and attention patterns, each against what it must keep."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation.compression import Blocks, Cached, Pruning, TopKeys, Window
from mixflight.sim.evaluation.prune import kept
from mixflight.sim.evaluation.rotation import random, square_factors
from mixflight.sim.evaluation.sparse_attention import attend, round_cache, top_blocks, unsettled


@pytest.mark.parametrize("kind", ["kronecker", "hadamard"])
@pytest.mark.parametrize("n", [576, 1536])
def test_a_rotation_keeps_products_and_spreads_outliers(kind, n):
    turn, rng = random(kind, n), np.random.default_rng(1)
    x, w = rng.standard_normal((5, n)), rng.standard_normal((7, n))
    np.testing.assert_allclose(turn.apply(x) @ turn.apply(w).T, x @ w.T, atol=1e-10)
    spike = np.zeros((1, n))
    spike[0, 17] = 100
    assert np.abs(turn.apply(spike)).max() < 60
    np.testing.assert_array_equal(random(kind, n).apply(x), turn.apply(x))
    assert not np.array_equal(random(kind, n, seed=1).apply(x), turn.apply(x))


def test_factors_are_the_most_nearly_square():
    assert [square_factors(n) for n in (576, 1536, 7, 4096)] == [(24, 24), (32, 48), (1, 7), (64, 64)]
    assert random("kronecker", 1536).macs == 1536 * 80


def test_the_largest_weights_stay():
    x = np.array([[1.0, -3, 2, 0, 5, 5, 5, 5]])
    assert kept(x, Pruning(n=2, m=4), "here").tolist() == [[False, True, True, False, True, True, False, False]]
    random_x = np.random.default_rng(0).standard_normal((9, 64))
    mask = kept(random_x, Pruning(n=4, m=16), "here")
    assert (mask.reshape(9, 4, 16).sum(axis=2) == 4).all()
    least = np.where(mask, np.abs(random_x), np.inf).reshape(9, 4, 16).min(axis=2)
    assert (least >= np.where(mask, 0, np.abs(random_x)).reshape(9, 4, 16).max(axis=2)).all()
    with pytest.raises(InputError, match="5 does not divide 64, in here"):
        kept(random_x, Pruning(n=4, m=5), "here")


def cache(tokens=70, heads=2, head=16):
    rng = np.random.default_rng(3)
    return rng.standard_normal((tokens, heads, head)).astype(np.float32)


@pytest.mark.parametrize("cached", [
    Cached(bits=4), Cached(bits=8, symmetric=True), Cached(bits=2, group=8), Cached(bits=4, per_channel=True, group=32),
])
def test_a_rounded_cache_is_within_half_a_step(cached):
    x = cache()
    got = round_cache(x, cached)
    width = x.max() - x.min()
    step = 2 * np.abs(x).max() / 254 if cached.symmetric else width / (2**cached.bits - 1)
    assert 0 < np.abs(got - x).max() <= step / 2 * 1.01 + 0.004
    levels = {len(np.unique(got[t, 0])) for t in range(len(x))}
    if not cached.per_channel and not cached.group:
        assert max(levels) <= 2**cached.bits


def test_channels_are_rounded_when_their_tokens_are_complete():
    late = unsettled(Cached(bits=4, per_channel=True, group=4), 10)
    assert [row.argmax() if row.any() else None for row in late] == [0, 0, 0, 4, 4, 4, 4, 8, 8, 8]
    recent = unsettled(Cached(bits=4, residual=3), 5)
    assert [row.argmax() for row in recent] == [0, 0, 0, 1, 2]
    assert unsettled(Cached(bits=4), 9) is None


def reference(q, k, v, allowed):
    """One query, head and key after the other, in float64."""
    out = np.zeros(q.shape)
    for t in range(len(q)):
        for h in range(q.shape[1]):
            keys = [j for j in range(t + 1) if allowed(t, j)]
            scores = np.array([q[t, h].astype(float) @ k[j, h].astype(float) / np.sqrt(q.shape[2]) for j in keys])
            p = np.exp(scores - scores.max())
            out[t, h] = (p / p.sum()) @ v[keys, h].astype(float)
    return out


@pytest.mark.parametrize(("pattern", "allowed"), [
    (None, lambda t, j: True),
    (Window(tokens=8), lambda t, j: t - j < 8),
    (Window(tokens=8, sink=2), lambda t, j: t - j < 8 or j < 2),
    (TopKeys(budget=100), lambda t, j: True),
    (Blocks(size=16, density=1.0), lambda t, j: True),
])
def test_attention_sees_what_the_pattern_allows(pattern, allowed):
    q, k, v = cache(), cache() * 2, cache()[::-1].copy()
    np.testing.assert_allclose(attend(q, k, v, pattern=pattern), reference(q, k, v, allowed), atol=1e-5)


def test_the_oracles_keep_their_share():
    q, k, v = cache() * 3, cache(), cache()
    one = attend(q, k, v, pattern=TopKeys(budget=1))
    best = [max(range(t + 1), key=lambda j: float(q[t, 0] @ k[j, 0])) for t in range(len(q))]
    np.testing.assert_allclose(one[:, 0], v[best, 0], atol=1e-6)
    p = np.tril(np.ones((64, 64), np.float32))
    seen = top_blocks(p, Blocks(size=16, density=0.5)).reshape(4, 16, 4, 16)[:, 0, :, 0]
    assert seen.sum(axis=1).tolist() == [1, 1, 2, 2]
    assert seen.diagonal().all()


def test_a_late_cache_changes_nothing_where_nothing_is_settled():
    q, k, v = cache(20), cache(20), cache(20)
    rounded = Cached(bits=2, per_channel=True, group=32)
    np.testing.assert_allclose(attend(q, k, v, rounded, rounded), attend(q, k, v), atol=1e-6)
    with pytest.raises(InputError, match="5 does not divide 16"):
        round_cache(k, Cached(bits=4, group=5))
