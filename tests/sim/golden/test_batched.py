"""Batched linears and attention equal the references bit for bit."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.golden import attention, batched
from mixflight.sim.golden import linear as lin
from mixflight.sim.golden.attention import Int8Cache
from mixflight.sim.golden.quantise import quantise, quantise_asymmetric


def same(got, want):
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def weight(rng, n, k, group, zero, signed):
    low, high = (-128, 128) if signed else (0, 256 if zero == "none" else 16)
    d = (rng.random((n, k // group)) / 50).astype(np.float16)
    zeros = {
        "none": None,
        "integer": rng.integers(0, 16, d.shape, dtype=np.uint8),
        "minimum": (-rng.random(d.shape) / 5).astype(np.float16),
    }[zero]
    codes = rng.integers(low, high, (n, k)).astype(np.int8 if signed else np.uint8)
    return lin.GroupedWeight(codes=codes, d=d, zero=zeros, group=group)


SHAPES = [
    (1, 5, 64, 32, 32), (9, 37, 96, 32, 96), (70, 16, 96, 96, 32), (64, 3, 48, 48, 48), (65, 3, 1536, 1536, 1536),
    (2, 3, 60, 20, 60), (130, 33, 576, 32, 576), (9, 6, 12, 6, 12),
]  # fmt: skip


@pytest.mark.parametrize("zero", ["none", "integer", "minimum"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("m", "n", "k", "group", "group_a"), SHAPES)
def test_linear(m, n, k, group, group_a, zero, signed):
    rng = np.random.default_rng([m, n, k, group])
    w = weight(rng, n, k, group, zero, signed)
    x = rng.standard_normal((m, k)).astype(np.float32) ** 3
    a = quantise(x, group_a)
    same(batched.linear(w, a), lin.linear(w, a))
    same(batched.linear(w, x.astype(np.float16)), lin.linear_f16(w, x.astype(np.float16)))


def test_the_largest_integers_stay_exact():
    """A group of 1,536 products of 255 and 127: far beyond 2^24, rounded once."""
    for code, dtype in ((255, np.uint8), (-128, np.int8)):
        w = lin.GroupedWeight(
            codes=np.full((2, 1536), code, dtype), d=np.ones((2, 1), np.float16), zero=None, group=1536)
        w.codes[1, 0] -= 1 if code > 0 else -1
        a = quantise(np.ones((9, 1536), np.float32), 1536)
        same(batched.linear(w, a), lin.linear(w, a))


def cache(rng, kind, kv_heads, context, head):
    rows = rng.standard_normal((kv_heads, context, head)).astype(np.float32) * np.float32(3)
    if kind == "uint4":
        found = quantise_asymmetric(rows)
        return Int8Cache(codes=found.codes, scales=found.scales, minima=found.minima)
    if kind == "fp16":
        return rows.astype(np.float16)
    found = quantise(rows, head, 127 if kind == "int8" else 7)
    return Int8Cache(codes=found.codes, scales=found.scales[..., 0])


def upto(part, used):
    if isinstance(part, np.ndarray):
        return part[:, :used]
    minima = None if part.minima is None else part.minima[:, :used]
    return Int8Cache(codes=part.codes[:, :used], scales=part.scales[:, :used], minima=minima)


@pytest.mark.parametrize(("k", "v"), [
    ("int8", "int8"), ("int8", "uint4"), ("uint4", "int8"), ("uint4", "uint4"), ("int4", "int4"), ("fp16", "fp16"),
])
@pytest.mark.parametrize(("tokens", "before", "heads", "kv_heads", "head"), [
    (3, 0, 6, 2, 64), (5, 1100, 2, 1, 20), (2, 126, 2, 2, 160),
])
def test_attention(k, v, tokens, before, heads, kv_heads, head):
    rng = np.random.default_rng([tokens, before, head])
    keys, values = (cache(rng, kind, kv_heads, before + tokens + 9, head) for kind in (k, v))
    q = rng.standard_normal((tokens, heads, head)).astype(np.float32)
    reference = attention.attend_fp16 if k == "fp16" else attention.attend_int8
    want = [reference(q[t], upto(keys, before + t + 1), upto(values, before + t + 1)) for t in range(tokens)]
    same(batched.attend(q, keys, values, before), np.stack(want))


def test_asymmetric_rows_by_hand():
    x = np.array([[-1.0, 0.5, 2.0, -0.55], [3.0, 3.0, 3.0, 3.0]], np.float32)
    found = quantise_asymmetric(x)
    assert found.codes.tolist() == [[0, 8, 15, 2], [0, 0, 0, 0]]  # 7.5 and 2.25 steps of 0.2
    assert found.scales.tolist() == [float(np.float16(0.2)), 0.0]
    assert found.minima.tolist() == [-1.0, 3.0]


def test_narrow_codes_keep_to_their_levels():
    x = np.random.default_rng(1).standard_normal((4, 64)).astype(np.float32)
    assert np.abs(quantise(x, 64, 7).codes).max() == 7


def test_refusals():
    rng = np.random.default_rng(0)
    w = weight(rng, 2, 64, 32, "none", True)
    with pytest.raises(InputError, match="K must agree"):
        batched.linear(w, np.ones((1, 32), np.float16))
    keys, values = cache(rng, "int8", 1, 4, 8), cache(rng, "fp16", 1, 4, 8)
    with pytest.raises(InputError, match="both"):
        batched.attend(np.ones((1, 1, 8), np.float32), keys, values, 0)
    with pytest.raises(InputError, match="in 1 heads"):
        batched.attend(np.full((1, 1, 8), np.nan, np.float32), keys, keys, 0)
