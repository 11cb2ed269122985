# amaranth: UnusedElaboratable=no
"""The PE with in-PE dequantisation against NumPy; every weight triple in Verilator is ``mixflight verify``'s."""

import numpy as np
from pe_bench import group_sums, steps_of

from mixflight.rtl.pe_dequantise import DequantisePE
from mixflight.sim.golden.pe_integer import dequantised_weights


def words(q, z, s):
    return q | z << 4 | s << 8


def test_every_code_and_zero_with_a_sample_of_scales():
    q, z, s = (grid.ravel() for grid in np.meshgrid(np.arange(16), np.arange(16), [0, 1, 7, 8, 9, 127, 128, 255]))
    a = np.random.default_rng(0).integers(-128, 128, len(q))
    pairs = list(zip(a.tolist(), words(q, z, s).tolist(), strict=True))
    got = group_sums(DequantisePE(), [step for pair in pairs for step in steps_of([pair])])
    np.testing.assert_array_equal(got, dequantised_weights(q, z, s) * a)


def test_what_fits_int8_is_the_plain_product():
    q, z, s = (grid.ravel() for grid in np.meshgrid(np.arange(16), np.arange(16), np.arange(256)))
    plain = (q - z) * s
    fits = (plain >= -128) & (plain <= 127)
    np.testing.assert_array_equal(dequantised_weights(q, z, s)[fits], plain[fits])
    assert not fits.all()


def test_a_full_group_of_extremes_fits():
    pe = DequantisePE(group_max=128)
    assert pe.sum_bits == 23
    step = (-128, words(0, 1, 128))          # -1 * 128
    assert group_sums(pe, steps_of([step] * 128)) == [128 * 16384]


def test_groups_add_up():
    rng = np.random.default_rng(1)
    groups = [rng.integers(0, (16, 16, 9, 256), (n, 4)) for n in (1, 2, 31, 128)]
    steps = [step for g in groups for step in steps_of(
        list(zip((g[:, 3] - 128).tolist(), words(g[:, 0], g[:, 1], g[:, 2]).tolist(), strict=True)))]
    assert group_sums(DequantisePE(), steps) == [
        int((dequantised_weights(g[:, 0], g[:, 1], g[:, 2]) * (g[:, 3] - 128)).sum()) for g in groups]
