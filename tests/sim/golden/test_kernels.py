"""Compiled kernels equal their NumPy references bit for bit; references equal what they say."""

from fractions import Fraction

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.golden import attention, kernels
from mixflight.sim.golden import functions as f
from mixflight.sim.golden import linear as lin
from mixflight.sim.golden import quantise as qua
from mixflight.sim.golden.array import array_outputs
from mixflight.sim.golden.attention import Int8Cache
from mixflight.sim.golden.norm import rms_norm
from mixflight.sim.golden.reduce import reduce_sum


def same(got, want):
    """Equal bits: signs of zero count."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.view(np.uint8), want.view(np.uint8))


def weight(rng, n, k, group, zero, signed=False):
    low, high = (-127, 128) if signed else (0, 16)
    codes = rng.integers(low, high, (n, k)).astype(np.int8 if signed else np.uint8)
    d = (rng.random((n, k // group)) / 50).astype(np.float16)
    zeros = {
        "none": None,
        "integer": rng.integers(0, 16, d.shape, dtype=np.uint8),
        "minimum": (-rng.random(d.shape) / 5).astype(np.float16),
    }[zero]
    return lin.GroupedWeight(codes=codes, d=d, zero=zeros, group=group)


@pytest.mark.parametrize("zero", ["none", "integer", "minimum"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("m", "n", "k", "group", "group_a"), [
    (1, 5, 64, 32, 32), (3, 7, 96, 32, 96), (2, 4, 96, 96, 32), (5, 3, 48, 48, 48), (2, 500, 1536, 32, 32),
    (1, 3, 256, 128, 64),
])
def test_linear(m, n, k, group, group_a, zero, signed):
    rng = np.random.default_rng([m, n, k, group])
    w = weight(rng, n, k, group, zero, signed)
    a = qua.quantise(rng.standard_normal((m, k)).astype(np.float32) ** 3, group_a)
    got = lin.linear(w, a)
    same(kernels.linear(w, a), got)
    if group == group_a:
        names = {"none": "none", "integer": "int4", "minimum": "f16-min"}
        same(got, array_outputs(
            a=a.codes, w=w.codes, s_a=a.scales, d=w.d, z=w.zero, group=group, zero=names[zero]))


def test_linear_by_exact_arithmetic():
    """One output worked out with fractions, each rounding by hand."""
    rng = np.random.default_rng(5)
    w, a = weight(rng, 1, 64, 32, "minimum"), qua.quantise(rng.standard_normal((1, 64)).astype(np.float32), 32)
    acc = Fraction(0)

    def f32(value):
        return Fraction(float(np.float32(float(value))))  # operands have few bits: float64 holds them exactly

    for g in range(2):
        part = slice(32 * g, 32 * g + 32)
        total = int(w.codes[0, part].astype(int) @ a.codes[0, part].astype(int))
        rows = int(a.codes[0, part].astype(int).sum())
        d, m, s = (Fraction(float(x)) for x in (w.d[0, g], w.zero[0, g], a.scales[0, g]))
        acc = f32(acc + f32(f32(d * s) * total))
        acc = f32(acc + f32(f32(m * s) * rows))
    assert lin.linear(w, a)[0, 0] == float(acc)


def test_linear_with_fp16_activations():
    rng = np.random.default_rng(6)
    a = rng.standard_normal((3, 64)).astype(np.float16)
    for zero in ("none", "integer", "minimum"):
        w = weight(rng, 4, 64, 32, zero)
        np.testing.assert_allclose(lin.linear_f16(w, a), a.astype(float) @ w.values().T, rtol=1e-4, atol=1e-4)
    plain = rng.standard_normal((4, 64)).astype(np.float16)
    np.testing.assert_allclose(lin.linear_f16(plain, a), a.astype(float) @ plain.T.astype(float), atol=1e-4)


@pytest.mark.parametrize("scale", [1e-38, 1e-7, 3e-6, 1e-3, 1.0, 1e6])
def test_quantise(scale):
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((7, 96)) * scale).astype(np.float32)
    x[2, :32] = 0
    x[3, 32:64] = -0.0
    want, got = qua.quantise(x, 32), kernels.quantise(x, 32)
    same(got.codes, want.codes)
    same(got.scales, want.scales)
    step = np.repeat(np.abs(x.reshape(7, 3, 32)).max(-1) / 127, 32, axis=1)
    live = np.repeat(want.scales > 0, 32, axis=1)
    assert (np.abs(want.codes * step - x)[live] <= (step / 2 * 1.0001)[live]).all()
    assert not want.codes[2, :32].any()
    assert want.scales[2, 0] == 0


def test_scales_round_to_fp16_as_numpy_does():
    amax = np.concatenate([
        np.geomspace(1e-40, 8e6, 20_000), 127 * (np.arange(0, 3000) + 0.5) * 2.0**-24,
    ]).astype(np.float32)[:, None]
    same(kernels.quantise(amax, 1).scales, qua.quantise(amax, 1).scales)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e7])
def test_quantise_refuses(bad):
    x = np.ones((1, 32), np.float32)
    x[0, 5] = bad
    for module in (qua, kernels):
        with pytest.raises(InputError):
            module.quantise(x, 32)


def test_groups_that_do_not_divide_are_refused():
    rng = np.random.default_rng(1)
    for module in (qua, kernels):
        with pytest.raises(InputError, match="32 does not divide 40"):
            module.quantise(np.ones((1, 40), np.float32), 32)
    w = weight(rng, 2, 96, 32, "none")
    for module in (lin, kernels):
        with pytest.raises(InputError, match="groups must divide"):
            module.linear(w, qua.quantise(np.ones((1, 96), np.float32), 48))
        with pytest.raises(InputError, match="K must agree"):
            module.linear(w, qua.quantise(np.ones((1, 64), np.float32), 32))


def caches(rng, kv_heads, context, head):
    made = []
    for _ in range(2):
        stored = qua.quantise(rng.standard_normal((kv_heads, context, head)).astype(np.float32), head)
        made.append(Int8Cache(codes=stored.codes, scales=stored.scales[..., 0]))
    return made


@pytest.mark.parametrize(("tokens", "heads", "kv_heads", "before", "head"), [
    (1, 9, 3, 0, 64), (4, 4, 2, 0, 32), (1, 9, 3, 300, 64), (3, 2, 1, 126, 16), (2, 4, 4, 1000, 128),
])
def test_attention(tokens, heads, kv_heads, before, head):
    rng = np.random.default_rng([tokens, heads, before])
    k, v = caches(rng, kv_heads, before + tokens, head)
    q = (rng.standard_normal((tokens, heads, head)) * 3).astype(np.float32)
    got = kernels.attend_int8(q, k, v, before)
    for t in range(tokens):
        used = before + t + 1
        part = [Int8Cache(codes=c.codes[:, :used], scales=c.scales[:, :used]) for c in (k, v)]
        same(got[t], attention.attend_int8(q[t], *part))


def test_attention_over_a_long_context_keeps_its_scale():
    """Uniform attention over 8,000 small values: the scale of the probabilities must not vanish in FP16."""
    rng = np.random.default_rng(2)
    k, v = caches(rng, 1, 8000, 64)
    v = Int8Cache(codes=np.abs(v.codes), scales=(v.scales / 20).astype(np.float16))
    got = kernels.attend_int8(np.zeros((1, 1, 64), np.float32), k, v, 7999)[0, 0]
    want = (v.codes[0] * v.scales[0][:, None].astype(np.float64)).mean(axis=0)
    np.testing.assert_allclose(got, want, rtol=0.01)


def test_attention_against_float64():
    rng = np.random.default_rng(3)
    k, v = caches(rng, 1, 200, 64)
    q = rng.standard_normal((2, 64)).astype(np.float32)
    wide = [c.codes.astype(np.float64)[0] * c.scales.astype(np.float64)[0][:, None] for c in (k, v)]
    scores = q @ wide[0].T / 8
    p = np.exp(scores - scores.max(-1, keepdims=True))
    want = p / p.sum(-1, keepdims=True) @ wide[1]
    assert np.abs(attention.attend_int8(q, k, v) - want).max() < 0.02
    half = [x[None].astype(np.float16) for x in wide]
    assert np.abs(attention.attend_fp16(q, *half) - want).max() < 2e-4


def test_scalar_functions_of_the_kernels():
    x = -np.geomspace(1e-30, 200, 5001).astype(np.float32)
    same(np.array([kernels._exp(v, f.EXP2) for v in x], np.float32), f.exp(x))
    d = np.geomspace(1, 1e6, 5001).astype(np.float32)
    same(np.array([kernels._reciprocal(v, f.RECIPROCAL) for v in d], np.float32), f.reciprocal(d))


def test_rms_norm_and_silu_gate():
    rng = np.random.default_rng(8)
    w = rng.standard_normal(576).astype(np.float32)
    for scale in (1e-20, 1e-3, 1, 1e6, 1e15):
        x = (rng.standard_normal((4, 576)) * scale).astype(np.float32)
        same(kernels.rms_norm(x, w, np.float32(1e-5)), rms_norm(x, w, np.float32(1e-5)))
        same(kernels.silu_gate(x, x[::-1]), f.silu_gate(x, x[::-1]))
    edges = np.array([[0, -0.0, 3e38, -3e38, -87.3, -87.4, -128, 128]], np.float32)
    same(kernels.silu_gate(edges, np.ones_like(edges)), f.silu_gate(edges, np.ones_like(edges)))
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="finite"):
            kernels.rms_norm(np.full((1, 576), bad, np.float32), w, np.float32(1e-5))
        with pytest.raises(InputError, match="finite"):
            kernels.silu_gate(np.full((1, 4), -bad, np.float32), np.ones((1, 4), np.float32))


@pytest.mark.parametrize("n", [1, 2, 64, 127, 128, 129, 576, 1000])
def test_reduction_order(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32) * np.float32(1e3)
    partials = [np.float32(0)] * 128
    for i, value in enumerate(x):
        partials[i % 128] = np.float32(partials[i % 128] + value)
    while len(partials) > 1:
        half = len(partials) // 2
        partials = [np.float32(partials[j] + partials[j + half]) for j in range(half)]
    same(reduce_sum(x[None]), np.array(partials, np.float32))


def test_reduction_of_negative_zeros_is_zero():
    assert not np.signbit(reduce_sum(np.full((1, 5), -0.0, np.float32)))[0]


def test_rms_norm_against_float64():
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((3, 576)).astype(np.float32), rng.random(576, dtype=np.float32)
    want = x / np.sqrt((x.astype(np.float64) ** 2).mean(-1, keepdims=True) + 1e-5) * w
    np.testing.assert_allclose(rms_norm(x, w, np.float32(1e-5)), want, rtol=2**-18)
    with pytest.raises(InputError, match="finite"):
        rms_norm(np.full((1, 4), np.nan, np.float32), w[:4], np.float32(1e-5))
