# amaranth: UnusedElaboratable=no
"""The fusible unit against NumPy in every mode and signedness; every operand pair is ``mixflight verify``'s."""

import itertools

import numpy as np
import pytest
from pe_bench import group_sums, steps_of

from mixflight.rtl.pe_fusible import MODES, FusiblePE
from mixflight.sim.golden.pe_integer import FUSED_MODES, fused_terms, twos_complement

CONFIGURATIONS = list(itertools.product(MODES, (0, 1), (0, 1)))


def test_golden_and_hardware_name_the_modes_alike():
    assert MODES == FUSED_MODES


@pytest.mark.parametrize(("mode", "a_signed", "w_signed"), CONFIGURATIONS)
def test_each_mode(mode, a_signed, w_signed):
    rng = np.random.default_rng(MODES[mode])
    corners = [0, 0xFFFF, 0x8888, 0x7777, 0x8080, 0x7F7F, 0x0180, 0x1248]
    pairs = np.concatenate([np.array(list(itertools.product(corners, repeat=2))), rng.integers(0, 1 << 16, (250, 2))])
    a, w = pairs.T
    steps = [step | {"mode": MODES[mode], "a_signed": a_signed}
             for pair in zip(twos_complement(a, 16).tolist(), w.tolist(), strict=True)
             for step in steps_of([pair], signed=w_signed)]
    expected = fused_terms(a, w, np.full(len(a), MODES[mode]), a_signed, w_signed)
    np.testing.assert_array_equal(group_sums(FusiblePE(), steps), expected)


def test_the_products_are_those_of_the_operands():
    def one(mode, a, w):
        return int(fused_terms(np.array([a]), np.array([w]), np.array([MODES[mode]]), 1, 1)[0])

    assert one("8x8", 0x0080, 0x00FF) == -128 * -1
    assert one("4x8", 0x0580, 0x007F) == -128 * -1 + 5 * 7
    assert one("4x4", 0x1234, 0xF001) == 1 * -1 + 4 * 1


def test_a_full_group_of_extremes_fits():
    pe = FusiblePE(group_max=128)
    assert pe.sum_bits == 24
    steps = [step | {"mode": 0, "a_signed": 0} for step in steps_of([(0xFF, 0xFF)] * 128)]
    assert group_sums(pe, steps) == [128 * 255 * 255]
