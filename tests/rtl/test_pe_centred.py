# amaranth: UnusedElaboratable=no
"""The PE on the centred code: its digits, every operand pair, and the identity that gives the plain sum back."""

import itertools

import numpy as np
import pytest
from pe_bench import group_sums, steps_of

from mixflight import verification
from mixflight.arch.errors import InputError
from mixflight.rtl.design import choose_top
from mixflight.rtl.pe_centred import CentredShiftAddPE, signed_digits
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.sim.golden.pe_integer import centred_terms, uncentred

PAIRS = list(itertools.product(range(-128, 128), range(16)))


def test_digits_stand_for_the_value_and_have_no_neighbours():
    for value in range(-8, 8):
        digits = signed_digits(value, 4)
        assert sum(digit << i for i, digit in enumerate(digits)) == value
        assert not any(low and high for low, high in itertools.pairwise(digits))


def test_no_form_has_fewer_digits():
    for value in range(-8, 8):
        least = min(np.count_nonzero(form) for form in itertools.product((-1, 0, 1), repeat=4)
                    if sum(digit << i for i, digit in enumerate(form)) == value)
        assert np.count_nonzero(signed_digits(value, 4)) == least


def test_what_does_not_fit_the_digits_is_refused():
    with pytest.raises(InputError, match="must fit 4 signed digits, not leave 1"):
        signed_digits(11, 4)


@pytest.mark.parametrize("signed", [0, 1])
def test_every_operand_pair(signed):
    a, w = np.array(PAIRS).T
    got = group_sums(CentredShiftAddPE(), [step for pair in PAIRS for step in steps_of([pair], signed=signed)])
    np.testing.assert_array_equal(got, centred_terms(a, w, signed))


def test_the_lane_finds_the_plain_sum_for_every_operand_and_zero_point():
    a, w = (column[:, None] for column in np.array(PAIRS).T)
    zero = np.arange(16)
    np.testing.assert_array_equal(uncentred(centred_terms(a, w), a, zero), w * a - zero * a)


def test_the_zero_less_8_is_the_zero_with_its_top_bit_inverted():
    for zero in range(16):
        assert (zero ^ 8) - ((zero ^ 8) & 8) * 2 == zero - 8


def test_groups_and_their_row_sums():
    rng = np.random.default_rng(4)
    groups = [(rng.integers(-128, 128, n), rng.integers(0, 16, n)) for n in rng.integers(1, 129, 20)]
    got = group_sums(CentredShiftAddPE(), [step for a, w in groups
                                           for step in steps_of(list(zip(a.tolist(), w.tolist(), strict=True)))])
    for total, (a, w) in zip(got, groups, strict=True):
        assert total == centred_terms(a, w).sum()
        for zero in (0, 7, 8, 15):
            assert uncentred(np.int64(total), a.sum(), zero) == ((w - zero) * a).sum()


@pytest.mark.parametrize(("a", "w"), [(-128, 0), (127, 0), (-128, 15), (127, 15)])
def test_a_full_group_of_extremes_fits(a, w):
    pe = CentredShiftAddPE(group_max=128)
    assert pe.sum_bits == 19
    assert group_sums(pe, steps_of([(a, w)] * 128)) == [128 * a * (w - 8)]


@pytest.mark.parametrize("w", [-128, -1, 0, 1, 77, 127])
@pytest.mark.parametrize("a", [-128, 127])
def test_8_bit_weights_in_two_passes_need_the_same_correction(a, w):
    pe = CentredShiftAddPE(group_max=128, two_pass=True)
    low = steps_of([(a, w & 15)] * 128)
    low[-1]["control"]["last"] = 0
    high = steps_of([(a, w >> 4 & 15)] * 128, signed=1, high=1)
    total, = group_sums(pe, low + high)
    assert total + 8 * 128 * a == 128 * a * w


def test_zero_points_beyond_4_bits_are_refused():
    with pytest.raises(InputError, match="must be in 0..15, not 16..16"):
        uncentred(np.int64(0), np.int64(0), 16)


@pytest.mark.parametrize(("zero", "two_pass"), [("int4", False), ("f16-min", False), ("f16-min", True)])
def test_an_array_of_centred_pes_gives_the_plain_outputs(zero, two_pass):
    array = choose_top("mixpe-array", rows=2, cols=2, lanes=1, group_max=32, pe="centred", zero=zero, two_pass=two_pass)
    row = verification.verify_array(array)
    assert (row.failures, row.messages) == (0, ())
    assert row.cycles_rtl == row.cycles_sim


def test_without_zero_points_an_unsigned_code_stands_for_itself_less_8():
    array = choose_top("mixpe-array", rows=2, cols=2, lanes=1, group_max=32, pe="centred", zero="none")
    tile = verification.random_tile(array, np.random.default_rng(0), k=64)

    class Offset(verification.Tile):
        def beats(self):
            beats = super().beats()
            return beats._replace(act=[beat._replace(signed=0) for beat in beats.act],
                                  wgt=[[code ^ 8 for code in codes] for codes in beats.wgt])

    offset = Offset(**vars(tile))
    row = verification.verify_array(array, checks=[verification.Check(name="signed codes", tiles=[tile]),
                                                   verification.Check(name="offset codes", tiles=[offset])])
    assert (row.failures, row.messages) == (0, ())


def test_refusals():
    with pytest.raises(InputError, match="w_bits must be 4, not 5, in a centred PE"):
        CentredShiftAddPE(w_bits=5)
    with pytest.raises(InputError, match="two_pass must be off for centred PEs without zero points"):
        SystolicArray(pe="centred", zero="none", two_pass=True)
