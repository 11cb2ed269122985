"""Special functions: worst errors against float64 (the figures of arch/numerics.md), edges, tables."""

import hashlib
import math

import numpy as np
import pytest

from mixflight.arch.control_constants import phase_steps
from mixflight.arch.errors import InputError
from mixflight.sim.golden import functions as f
from mixflight.sim.golden.norm import layer_norm
from mixflight.sim.golden.rope import rotate, rotation

GOAL = 2.0**-16
FRACTIONS = np.arange(1 << 23, dtype=np.uint32)


def with_exponent(exponent):
    return (FRACTIONS | np.uint32((exponent + 127) << 23)).view(np.float32)


def relative(got, want):
    return float(np.abs(got.astype(np.float64) / want - 1).max())


def test_reciprocal_over_every_significand():
    x = with_exponent(0)
    got = f.reciprocal(x)
    assert 2**-18.0 < relative(got, 1 / x.astype(np.float64)) < 2**-17.99 < GOAL
    for exponent in (-126, -1, 1, 60, 125):  # the significand decides; the exponent is exact
        np.testing.assert_array_equal(f.reciprocal(with_exponent(exponent)[::997]), got[::997] * 2.0**-exponent)


@pytest.mark.parametrize(("exponent", "bound"), [(0, 2**-19.37), (1, 2**-19.39)])
def test_rsqrt_over_every_significand(exponent, bound):
    x = with_exponent(exponent)
    got = f.rsqrt(x)
    assert relative(got, 1 / np.sqrt(x.astype(np.float64))) < bound
    for more in (-126, -2, 2, 126):
        np.testing.assert_array_equal(f.rsqrt(with_exponent(exponent + more)[::997]), got[::997] * 2.0 ** (-more // 2))


def test_exp_over_its_range():
    x = -np.linspace(0, 87.3, 1_000_001).astype(np.float32)
    assert relative(f.exp(x), np.exp(x.astype(np.float64))) < 2**-17.6
    tiny = -np.geomspace(1e-38, 1, 100_000).astype(np.float32)
    assert relative(f.exp(tiny), np.exp(tiny.astype(np.float64))) < 2**-19.9
    edges = np.array([0, -0.0, -87.33, -87.4, -128, -200, -3e38], np.float32)
    assert f.exp(edges).tolist() == [1, 1, f.exp(edges[2:3])[0], 0, 0, 0, 0]
    assert f.exp(edges)[2] > 2.0**-126


def test_sigmoid_and_silu():
    x = np.linspace(-87.3, 87.3, 1_000_001).astype(np.float32)
    wide = x.astype(np.float64)
    true = 1 / (1 + np.exp(-wide))
    assert relative(f.sigmoid(x), true) < 2**-17.5
    near = (wide != 0)
    assert relative(f.silu(x)[near], (wide * true)[near]) < 2**-17.5
    assert f.sigmoid(np.array([0, 3e38, -3e38], np.float32)).tolist() == [0.5, 1, 0]


def test_gelu():
    x = np.linspace(-20, 20, 400_001).astype(np.float32)
    wide = x.astype(np.float64)
    tanh = 0.5 * wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    got = f.gelu(x)
    assert (np.abs(got - tanh) <= 2**-17.9 * np.abs(wide)).all()
    erf = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in wide[::40]])
    assert np.abs(got[::40] - erf).max() < 4.9e-4
    assert f.gelu(np.array([16, 3e38, -16, -3e38], np.float32)).tolist() == [16, np.float32(3e38), 0, 0]


@pytest.mark.parametrize("cap", [1.0, 30.0, 50.0])
def test_softcap(cap):
    """Odd to the bit, the cap itself far out."""
    double_inverse, top = np.float32(2 / cap), np.float32(cap)
    x = np.linspace(-20 * cap, 20 * cap, 1_000_001).astype(np.float32)
    got = f.softcap(x, double_inverse, top)
    assert np.abs(got - cap * np.tanh(x.astype(np.float64) / cap)).max() < 2**-17.96 * cap
    np.testing.assert_array_equal(f.softcap(-x, double_inverse, top), -got)
    small = np.geomspace(1e-30, 0.1, 100_000).astype(np.float32) * top
    want = cap * np.tanh(small.astype(np.float64) / cap)
    assert np.abs(f.softcap(small, double_inverse, top) - want).max() < 2**-20.9 * cap
    edges = np.array([0, -0.0, 1e30, -1e30], np.float32)
    assert f.softcap(edges, double_inverse, top).view(np.uint32).tolist() == np.array(
        [0, -0.0, cap, -cap], np.float32).view(np.uint32).tolist()


def test_layer_norm_against_float64():
    random = np.random.default_rng(0)
    x = (random.normal(3, 2, (20, 768)) * 2.0 ** random.integers(-9, 9, (20, 1))).astype(np.float32)
    weight = random.normal(1, 0.2, 768).astype(np.float32)
    wide = x.astype(np.float64)
    d = wide - wide.mean(axis=1, keepdims=True)
    want = d / np.sqrt((d * d).mean(axis=1, keepdims=True) + 1e-5) * weight
    assert np.abs(layer_norm(x, weight, np.float32(1e-5)) - want).max() < 2**-16.5 * np.abs(want).max()


def test_sine_and_cosine():
    phase = np.arange(0, 1 << 40, (1 << 40) // 1_000_003)
    turn = phase * (2 * math.pi / 2**40)
    assert np.abs(f.sine_of_phase(phase) - np.sin(turn)).max() < 2**-17.6
    assert np.abs(f.cosine_of_phase(phase) - np.cos(turn)).max() < 2**-17.6
    quarters = np.arange(4) << 38
    assert f.sine_of_phase(quarters).tolist() == [0, 1, 0, -1]
    assert f.cosine_of_phase(quarters).tolist() == [1, 0, -1, 0]


@pytest.mark.parametrize(("base", "width"), [(10000.0, 128), (100000.0, 64), (500000.0, 128)])
def test_rotation_at_far_positions(base, width):
    positions = np.array([0, 1, 77, 8191, 131071])
    cosine, sine = rotation(base, width, positions)
    angle = positions[:, None] * base ** (-2 * np.arange(width // 2) / width)
    assert np.abs(cosine - np.cos(angle)).max() < 2**-17.5
    assert np.abs(sine - np.sin(angle)).max() < 2**-17.5
    assert phase_steps(base, width)[0] == round(2**40 / (2 * math.pi))


def test_rotate_turns_adjacent_pairs():
    x = np.array([[1, 0, 0, 1]], np.float32)
    got = rotate(x, np.array([[0.0, 0.5]], np.float32), np.array([[1.0, 0.25]], np.float32))
    assert got.tolist() == [[0, 1, -0.25, 0.5]]


def test_tables_are_what_they_are():
    """An entry is the nearest integer to the true value, and no value is close enough to a tie to be in doubt."""
    i = np.arange(257) / 256
    true = {
        "exp2": 2**23 * np.exp2(i), "reciprocal": 2**24 / (1 + i), "rsqrt_even": 2**24 / np.sqrt(1 + i),
        "rsqrt_odd": 2**24 / np.sqrt(2 * (1 + i)), "sine": 2**24 * np.sin(i * math.pi / 2),
    }
    for name, values in true.items():
        assert np.abs(values - np.floor(values) - 0.5).min() > 1e-4
        np.testing.assert_array_equal(f.TABLES[name], np.rint(values))
    digest = hashlib.sha256(b"".join(table.astype("<i4").tobytes() for table in f.TABLES.values())).hexdigest()
    assert digest == "91310948fdf0da38b4dd49a36eff2534fc1f826a53a7f967d8065d298d546faa"


@pytest.mark.parametrize(("function", "x"), [
    (f.exp, 1.0), (f.exp, np.nan), (f.exp, -np.inf), (f.reciprocal, 0.0), (f.reciprocal, -1.0),
    (f.reciprocal, 1e-39), (f.rsqrt, 0.0), (f.rsqrt, np.inf), (f.sigmoid, np.nan), (f.gelu, np.inf),
])
def test_outside_the_domain_is_refused(function, x):
    with pytest.raises(InputError):
        function(np.array([x], np.float32))
