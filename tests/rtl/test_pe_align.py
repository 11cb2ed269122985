# amaranth: UnusedElaboratable=no
"""Aligned FP16 activations: the edge against NumPy, the stated error, exactness, and the integer PE behind it."""

import numpy as np
import pytest
from pe_bench import group_sums, steps_of
from stream_bench import simulate

from mixflight.arch.array_pipeline import scaled_bits
from mixflight.arch.errors import InputError
from mixflight.rtl.pe_align import GroupAlign
from mixflight.rtl.pe_centred import CentredShiftAddPE
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE
from mixflight.sim.golden.array import array_outputs
from mixflight.sim.golden.pe_float import aligned_group, aligned_integers, fp16_values, group_exponent
from mixflight.sim.golden.pe_integer import uncentred

PATTERNS = np.arange(1 << 16)


def with_exponents(patterns, rng):
    """For each pattern an exponent that is not below its own."""
    own = np.maximum(patterns >> 10 & 31, 1)
    return own + rng.integers(0, 32 - own)


def random_group(rng, size, spread):
    low = int(rng.integers(0, 31 - spread))
    return (rng.integers(low, low + spread + 1, size) << 10 | rng.integers(0, 1 << 10, size)
            | rng.integers(0, 2, size) << 15)


@pytest.mark.parametrize("extra_bits", [0, 2, 29])
def test_the_edge_equals_numpy(extra_bits):
    rng = np.random.default_rng(extra_bits)
    patterns = np.concatenate([rng.integers(0, 1 << 16, 1200), [0, 0x8000, 1, 0x8001, 0x7C00, 0xFFFF]])
    exponents = with_exponents(patterns, rng)
    dut, seen = GroupAlign(extra_bits=extra_bits), []

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for a, exponent in zip(patterns.tolist(), exponents.tolist(), strict=True):
            ctx.set(dut.a, a)
            ctx.set(dut.exponent, exponent)
            await ctx.tick()
            seen.append(ctx.get(dut.value))

    simulate(dut, [(bench,)])
    np.testing.assert_array_equal(seen, aligned_integers(patterns, exponents, extra_bits=extra_bits))


@pytest.mark.parametrize("extra_bits", [0, 2, 4, 29])
def test_every_pattern_is_within_half_a_unit_at_every_exponent(extra_bits):
    exact = fp16_values(PATTERNS, specials=False).astype(np.float64)
    own = np.maximum(PATTERNS >> 10 & 31, 1)
    for exponent in range(1, 32):
        fits = own <= exponent
        unit = 2.0 ** (exponent - 25 - extra_bits)
        integers = aligned_integers(PATTERNS[fits], exponent, extra_bits=extra_bits)
        np.testing.assert_array_equal(integers, np.rint(exact[fits] / unit))
        assert abs(integers).max() <= 2047 << extra_bits
        near = exponent - own[fits] <= extra_bits
        np.testing.assert_array_equal(integers[near] * unit, exact[fits][near])


def test_a_groups_sum_is_within_the_stated_bound_and_exact_with_29_bits():
    rng = np.random.default_rng(7)
    for _ in range(200):
        bits, codes = random_group(rng, 128, 20), rng.integers(-15, 16, 128)
        exact = (codes * fp16_values(bits, specials=False).astype(np.float64)).sum()     # 40 + 12 bits: exact
        assert aligned_group(codes, bits, extra_bits=29) == np.float32(exact)
        exponent = int(group_exponent(bits))
        bound = np.abs(codes).sum() * 2.0 ** (exponent - 26 - 2) + abs(exact) * 2.0 ** -24
        assert abs(aligned_group(codes, bits) - exact) <= bound


@pytest.mark.parametrize("kind", [ShiftAddPE, MultiplyPE, CentredShiftAddPE])
def test_an_integer_pe_sums_aligned_activations(kind):
    rng = np.random.default_rng(8)
    for size in (1, 32, 128):
        bits, codes = random_group(rng, size, 12), rng.integers(0, 16, size)
        a = aligned_integers(bits, group_exponent(bits))
        total, = group_sums(kind(a_bits=14), steps_of(list(zip(a.tolist(), codes.tolist(), strict=True))))
        if kind is CentredShiftAddPE:
            total = uncentred(np.int64(total), a.sum())
        assert total == (codes * a).sum()


@pytest.mark.parametrize("zero", ["none", "int4"])
def test_the_lanes_formula_gives_the_scaled_group(zero):
    rng = np.random.default_rng(9)
    for _ in range(50):
        bits, codes = random_group(rng, 128, 12), rng.integers(0, 16, 128)
        z = rng.integers(0, 16, (1, 1)).astype(np.uint8)
        exponent, d = group_exponent(bits), rng.uniform(0.01, 1, (1, 1)).astype(np.float16)
        scale = np.ldexp(1.0, exponent - 25).astype(np.float16).reshape(1, 1)
        got = array_outputs(a=aligned_integers(bits, exponent)[None], w=codes[None], s_a=scale, d=d,
                            z=z if zero == "int4" else None, group=128, zero=zero)[0, 0]
        group = aligned_group(codes - (int(z[0, 0]) if zero == "int4" else 0), bits)
        assert got == np.float32(d[0, 0]) * np.float32(group * 4)      # 2**-extra_bits goes with the weight scales


def test_sums_of_128_fit_what_an_fp32_holds():
    assert scaled_bits(group_max=128, w_bits=4, a_bits=14, passes=1, zero="none") == 24


def test_refusals():
    with pytest.raises(InputError, match="extra_bits must be in 0..29, not 30"):
        GroupAlign(extra_bits=30)
