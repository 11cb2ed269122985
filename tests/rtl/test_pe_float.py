# amaranth: UnusedElaboratable=no
"""The PEs of FP16 activations against NumPy: corners, samples, long sums. All patterns are ``mixflight verify``'s."""

import itertools

import numpy as np
import pytest
from pe_bench import group_sums, steps_of

from mixflight.arch.errors import InputError
from mixflight.rtl.pe_float import FloatShiftAddPE, Fp16PE
from mixflight.sim.golden.linear import GroupedWeight, linear_f16
from mixflight.sim.golden.pe_float import (
    fp16_terms,
    fp16_values,
    fp32_bits,
    integer_terms,
    sequential_sum,
    sign_magnitude,
)

CORNERS = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x0002, 0x03FF, 0x0400, 0x83FF, 0x3BFF, 0x3C00, 0xBC00, 0x3C01,
                    0x5555, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF], np.uint16)
ALONE = [{"specials": specials} for specials in (False, True)]


def alone(pe, pairs):
    """Each product as a group of one, as FP32 words."""
    return np.array(group_sums(pe, [step for a, w in pairs for step in steps_of([(int(a), int(w))])]), np.uint32)


def groups_of(rng, w_high, counts, *, scale=16):
    """Groups of activations whose exponents lie within ``scale`` binades of one another."""
    for count in counts:
        top = int(rng.integers(1, 31))
        low = max(top - scale, 0)
        a = (rng.integers(low, top + 1, count) << 10 | rng.integers(0, 1024, count)
             | rng.integers(0, 2, count) << 15)
        yield a, rng.integers(0, w_high, count)


def run_groups(pe, groups):
    steps = [step for a, w in groups for step in steps_of(list(zip(a.tolist(), w.tolist(), strict=True)))]
    return np.array(group_sums(pe, steps), np.uint32)


@pytest.mark.parametrize("options", ALONE)
def test_every_code_with_corners_and_a_sample(options):
    rng = np.random.default_rng(1)
    patterns = np.concatenate([CORNERS, rng.integers(0, 1 << 16, 30)])
    a, w = (grid.ravel() for grid in np.meshgrid(patterns, np.arange(32)))
    got = alone(FloatShiftAddPE(**options), zip(a, w, strict=True))
    np.testing.assert_array_equal(got, fp32_bits(integer_terms(a, w, **options)))


@pytest.mark.parametrize("options", ALONE)
def test_fp16_products_of_corners_and_a_sample(options):
    rng = np.random.default_rng(2)
    a, w = (grid.ravel() for grid in np.meshgrid(CORNERS, CORNERS))
    more = rng.integers(0, 1 << 16, (2, 500))
    a, w = np.concatenate([a, more[0]]), np.concatenate([w, more[1]])
    got = alone(Fp16PE(**options), zip(a, w, strict=True))
    np.testing.assert_array_equal(got, fp32_bits(fp16_terms(a, w, **options)))


def test_group_sums_are_sequential_fp32_sums():
    rng = np.random.default_rng(3)
    groups = list(groups_of(rng, 32, [1, 2, 3, 5, 32, 128, *[16] * 20]))
    expected = [sequential_sum(integer_terms(a, w)) for a, w in groups]
    np.testing.assert_array_equal(run_groups(FloatShiftAddPE(), groups), fp32_bits(np.array(expected)))


def test_fp16_sums_are_sequential_fp32_sums():
    rng = np.random.default_rng(4)
    groups = list(groups_of(rng, 1 << 16, [1, 2, 3, 5, 32, 128, *[16] * 20]))
    groups = [(a, w & 0xBFFF) for a, w in groups]       # no exponent above 15: finite, and sums that cancel
    expected = [sequential_sum(fp16_terms(a, w)) for a, w in groups]
    np.testing.assert_array_equal(run_groups(Fp16PE(), groups), fp32_bits(np.array(expected)))


def test_sums_that_cancel_and_tie():
    one, eps = 0x3C00, 0x0001        # 1.0 and 2**-24
    ties = [[(one, 15), (eps, w), (one, 16 | v)] for w, v in itertools.product(range(32), (0, 1, 8, 14, 15))]
    groups = [(np.array([a for a, _ in group]), np.array([w for _, w in group])) for group in ties]
    expected = [sequential_sum(integer_terms(a, w)) for a, w in groups]
    np.testing.assert_array_equal(run_groups(FloatShiftAddPE(), groups), fp32_bits(np.array(expected)))


@pytest.mark.parametrize(("kind", "terms", "values"), [
    (FloatShiftAddPE, integer_terms, [0, 1, 16, 17, 31]), (Fp16PE, fp16_terms, [0, 0x3C00, 0x7C00, 0xFC00])])
def test_infinities_and_nans_inside_a_sum(kind, terms, values):
    specials = [0x7C00, 0xFC00, 0x7E00, 0x3C00]
    groups = [(np.array([0x3C00, *pair, 0x3C00]), np.array([values[1], *weights, values[1]]))
              for pair in itertools.product(specials, repeat=2) for weights in itertools.product(values, repeat=2)]
    expected = [sequential_sum(terms(a, w, specials=True)) for a, w in groups]
    np.testing.assert_array_equal(run_groups(kind(specials=True), groups), fp32_bits(np.array(expected)))


def test_one_column_of_a_linear_of_the_golden_model():
    rng = np.random.default_rng(5)
    group, k = 32, 96
    codes = rng.integers(0, 16, (1, k)).astype(np.uint8)
    zero = rng.integers(0, 16, (1, k // group)).astype(np.uint8)
    d = rng.uniform(0.001, 0.1, zero.shape).astype(np.float16)
    a = rng.normal(0, 3, (1, k)).astype(np.float16)
    q = codes.astype(int) - np.repeat(zero, group, axis=1)
    words = np.where(q < 0, 16 - q, q)[0]
    np.testing.assert_array_equal(sign_magnitude(words, 5), q[0])
    groups = list(zip(a.view(np.uint16).reshape(-1, group), words.reshape(-1, group), strict=True))
    sums = run_groups(FloatShiftAddPE(), groups).view(np.float32)
    acc = np.float32(0)
    for total, scale in zip(sums, d[0].astype(np.float32), strict=True):
        acc = acc + scale * total
    assert acc == linear_f16(GroupedWeight(codes=codes, d=d, zero=zero, group=group), a)[0, 0]


@pytest.mark.parametrize("kind", [FloatShiftAddPE, Fp16PE])
@pytest.mark.parametrize("product_register", [False, True])
def test_bubbles_and_standstills_and_latency(kind, product_register):
    rng = np.random.default_rng(6)
    pe = kind(product_register=product_register)
    steps, expected, group, ended = [], [], [], np.float32(0)
    moving = 0
    arriving = []
    for _ in range(500):
        a, w = int(rng.integers(0x3000, 0x4C00)), int(rng.integers(1 << pe.w_bits)) & 0xBFFF
        last, valid, en = (int(x) for x in rng.random(3) < (0.1, 0.8, 0.8))
        steps.append({"a": a, "w": w, "en": en, "control": {"valid": valid, "last": last, "signed": 0, "high": 0}})
        if en:
            moving += 1
            if valid:
                group.append((a, w))
                if last:
                    pairs = np.array(group)
                    terms = (integer_terms if kind is FloatShiftAddPE else fp16_terms)(pairs[:, 0], pairs[:, 1])
                    arriving.append((moving + product_register, sequential_sum(terms)))
                    group = []
        while arriving and arriving[0][0] <= moving:
            ended = arriving.pop(0)[1]
        expected.append(ended)
    seen = []

    async def bench(ctx):
        for step in steps:
            for name, to in step.items():
                ctx.set(getattr(pe, name), to)
            await ctx.tick()
            seen.append(ctx.get(pe.sum))

    from stream_bench import simulate
    simulate(pe, [(bench,)])
    np.testing.assert_array_equal(np.array(seen, np.uint32), fp32_bits(np.array(expected)))


def test_an_all_ones_exponent_is_the_next_binade_without_specials():
    np.testing.assert_array_equal(fp16_values(np.array([0x7C00, 0xFC00, 0x7FFF]), specials=False),
                                  [65536, -65536, 131008])


def test_refusals():
    with pytest.raises(InputError, match="w_bits must be in 2..14, not 1"):
        FloatShiftAddPE(w_bits=1)
