"""Golden arrays of FP16 activations: against a scalar loop, against float64 within the bounds their text states."""

import struct

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.golden.array_float import (
    aligned_outputs,
    digit_groups,
    float_outputs,
    group_exponents,
    sign_magnitude_words,
    weight_integers,
)

M, N, K, GROUP = 3, 4, 64, 16


def operands(seed=0, spread=2.0):
    """Activations, codes 0..15 and scales; ``spread`` says over how many binades the activations' exponents lie."""
    rng = np.random.default_rng(seed)
    a = (rng.normal(size=(M, K)) * 2.0 ** rng.uniform(-spread, spread, (M, K))).astype(np.float16)
    w = rng.integers(0, 16, (N, K))
    d = rng.uniform(0.01, 0.1, (N, K // GROUP)).astype(np.float16)
    z = rng.integers(0, 16, (N, K // GROUP)).astype(np.uint8)
    minima = rng.uniform(-0.5, 0, (N, K // GROUP)).astype(np.float16)
    return a, w, d, z, minima


def f32(value):
    """``value`` rounded to FP32 by the C library."""
    return struct.unpack("<f", struct.pack("<f", value))[0]


def scaled(values):
    """Values a group, one for each of its codes."""
    return np.repeat(values.astype(np.float64), GROUP, axis=1)


@pytest.mark.parametrize("zero", ["none", "f16-min"])
def test_float_sums_are_a_scalar_loop(zero):
    a, w, d, _, minima = operands()
    w = w - 8
    expected = np.zeros((M, N), np.float32)
    for m in range(M):
        for n in range(N):
            total = 0.0
            for g in range(K // GROUP):
                partial, plain = 0.0, 0.0
                for k in range(g * GROUP, (g + 1) * GROUP):
                    # A double holds product and sum of the two exactly enough: 2 * 24 + 2 bits fit.
                    partial = f32(partial + float(a[m, k]) * int(w[n, k]))
                    plain = f32(plain + float(a[m, k]))
                total = f32(total + f32(float(d[n, g]) * partial))
                if zero == "f16-min":
                    total = f32(total + f32(float(minima[n, g]) * plain))
            expected[m, n] = total
    got = float_outputs(a=a, w=w, d=d, z=minima if zero == "f16-min" else None, group=GROUP, zero=zero)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("spread", [0.5, 8.0])
@pytest.mark.parametrize("zero", ["none", "int4", "f16-min"])
def test_alignment_is_off_by_its_half_unit_at_most(zero, spread):
    """Each activation by 2^-(11 + extra) of the next binade above the group's largest; then FP32 roundings."""
    a, w, d, z, minima = operands(spread=spread)
    weights = scaled(d) * (w - (scaled(z) if zero == "int4" else 0)) + (scaled(minima) if zero == "f16-min" else 0)
    exact = a.astype(np.float64) @ weights.T
    got = aligned_outputs(a=a, w=w, d=d, z={"none": None, "int4": z, "f16-min": minima}[zero], group=GROUP, zero=zero)
    units = 2.0 ** (group_exponents(a, GROUP).astype(np.float64) - 25 - 2)
    magnitudes = scaled(d) * (np.abs(w - scaled(z)) if zero == "int4" else w) + (
        np.abs(scaled(minima)) if zero == "f16-min" else 0)
    steps = 2 * K // GROUP * 2.0 ** -24 * (np.abs(a.astype(np.float64)) @ magnitudes.T) * 4
    bound = 0.5 * scaled(units) @ magnitudes.T + steps
    assert (np.abs(got - exact) <= bound).all()
    assert (got != exact.astype(np.float32)).any()


def test_with_enough_bits_alignment_loses_nothing():
    """29 extra bits hold every FP16 value of a group; codes of one keep the sums exact in FP32."""
    a = np.array([[65504, 2.0 ** -24, -65504, 2.0 ** -23]], np.float16)
    ones = np.ones((1, 4), np.int64)
    outputs = aligned_outputs(a=a, w=ones, d=np.ones((1, 1), np.float16), z=None, group=4, zero="none", extra_bits=29)
    assert outputs[0, 0] == np.float32(3 * 2.0 ** -24)
    rounded = aligned_outputs(a=a, w=ones, d=np.ones((1, 1), np.float16), z=None, group=4, zero="none")
    assert rounded[0, 0] == 0


@pytest.mark.parametrize("magnitudes", [False, True])
def test_digits_are_the_weights(magnitudes):
    """Digits times their scales sum to the weights; with sums FP32 holds exactly so do the outputs."""
    rng = np.random.default_rng(5)
    w = rng.integers(-2048, 2048, (N, K))
    a = rng.integers(-8, 9, (M, K)).astype(np.float16)
    d = np.full((N, K // GROUP), 0.5, np.float16)
    z = rng.integers(0, 16, d.shape).astype(np.uint8)
    parts = digit_groups(a=a, w=w, d=d, z=z, group=GROUP, bits=12, magnitudes=magnitudes)
    values = parts.w.reshape(N, -1, 3, GROUP) * parts.d.reshape(N, -1, 3, 1).astype(float)
    np.testing.assert_array_equal(values.sum(axis=2).reshape(N, K), 0.5 * w)
    codes = parts.w.reshape(N, -1, 3, GROUP)
    assert np.abs(codes).max() == 15
    assert magnitudes or (codes[:, :, :2].min() == 0 and codes[:, :, 2].min() == -8)
    exact = 0.5 * a.astype(np.int64) @ (w - np.repeat(z.astype(np.int64), GROUP, axis=1)).T
    if not magnitudes:
        got = aligned_outputs(a=parts.a, w=parts.w, d=parts.d, z=parts.z, group=GROUP, zero="int4")
        np.testing.assert_array_equal(got, exact)
    else:
        plain = float_outputs(a=parts.a, w=parts.w, d=parts.d, z=None, group=GROUP, zero="none")
        np.testing.assert_array_equal(plain, 0.5 * a.astype(np.int64) @ w.T)


def test_fp16_weights_are_integers_of_12_bits():
    w = operands()[0]
    integers, scales = weight_integers(w, GROUP)
    assert np.abs(integers).max() <= 2047
    assert (np.abs(scaled(scales) * integers - w.astype(np.float64)) <= 0.5 * scaled(scales)).all()
    tops = np.abs(integers.reshape(M, -1, GROUP)).max(axis=2)
    assert (tops >= 1024).all()     # the largest of a group keeps its 11 bits


def test_exponents_and_words():
    a = np.array([[0, 2.0 ** -24, 1, -3], [65504, 1, 0, 0]], np.float16)
    assert group_exponents(a, 2).tolist() == [[1, 16], [30, 1]]
    assert sign_magnitude_words(np.array([0, 15, -1, -15])).tolist() == [0, 15, 17, 31]


def test_refusals():
    a, w, d, z, _ = operands()
    with pytest.raises(InputError, match="zero must be none or f16-min, not int4, with FP32 group sums"):
        float_outputs(a=a, w=w, d=d, z=z, group=GROUP, zero="int4")
    with pytest.raises(InputError, match="activations must be float16, not float32"):
        aligned_outputs(a=a.astype(np.float32), w=w, d=d, z=None, group=GROUP, zero="none")
    with pytest.raises(InputError, match="scales of 3 digits must be at most 65,504, not 76,800"):
        digit_groups(a=a, w=w, d=np.full_like(d, 300), z=None, group=GROUP, bits=12)
    with pytest.raises(InputError, match="group must divide K: 5 does not divide 64"):
        aligned_outputs(a=a, w=w, d=d, z=None, group=5, zero="none")
