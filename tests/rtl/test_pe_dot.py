# amaranth: UnusedElaboratable=no
"""PEs of several products a step: extremes fill the accumulator, every other pair is exhaustive in test_verify_pe."""

import numpy as np
import pytest
from pe_bench import group_sums, steps_of

from mixflight.arch.errors import InputError
from mixflight.rtl.pe_dot import dot_int8_pe, dot_w4a8_pe, dot_w4a16_pe
from mixflight.sim.golden.pe_integer import dot_terms


def words(values, bits):
    return sum(int(value) % (1 << bits) << (bits * place) for place, value in enumerate(values))


@pytest.mark.parametrize(
    ("build", "act", "code"),
    [
        (dot_w4a8_pe, -128, 15),
        (dot_w4a8_pe, 127, 15),
        (dot_w4a16_pe, -(1 << 13), 15),
        (dot_int8_pe, -128, -128),
        (dot_int8_pe, 127, -128),
    ],
)
def test_a_full_group_of_extremes_fits_the_least_accumulator(build, act, code):
    pe = build()
    step = (words([act] * 4, pe.act_bits), words([code] * 4, pe.code_bits))
    signed = [(step[0] - (step[0] >> (len(pe.a) - 1) << len(pe.a)), step[1])]
    assert group_sums(pe, steps_of(signed * 32)) == [128 * act * code]
    assert (128 * abs(act * code)).bit_length() + 1 == pe.sum_bits or act > 0


@pytest.mark.parametrize("products", [1, 2, 8])
def test_other_numbers_of_products(products):
    rng = np.random.default_rng(products)
    pe = dot_w4a8_pe(products=products, group_max=16)
    acts, codes = rng.integers(-128, 128, (16, products)), rng.integers(0, 16, (16, products))
    pairs = [(words(a, 8), words(q, 4)) for a, q in zip(acts, codes, strict=True)]
    steps = steps_of([(a - (a >> (8 * products - 1) << 8 * products), q) for a, q in pairs])
    assert group_sums(pe, steps) == [int((acts * codes).sum())]


def test_golden_takes_the_parts_of_words():
    a, w = np.array([words([-3, 100], 8)]), np.array([words([15, 9], 4)])
    assert dot_terms(a, w, products=2, act_bits=8, code_bits=4, code_signed=False) == [-45 + 900]
    assert dot_terms(a, w, products=2, act_bits=8, code_bits=4, code_signed=True) == [3 - 700]


def test_products_must_be_a_power_of_two():
    with pytest.raises(InputError, match="products must be a power of two, not 3"):
        dot_w4a8_pe(products=3)
