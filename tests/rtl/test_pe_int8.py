# amaranth: UnusedElaboratable=no
"""The INT8 PE against Python's integers; every operand pair in Verilator is ``mixflight verify``'s."""

import random

import numpy as np
from pe_bench import group_sums, steps_of

from mixflight.rtl.pe_int8 import Int8PE


def test_every_weight_with_the_extremes_and_a_sample_of_activations():
    chance = random.Random(1)
    pairs = [(a, w) for w in range(-128, 128) for a in (-128, -127, -1, 0, 1, 127, chance.randrange(-128, 128))]
    got = group_sums(Int8PE(), [step for a, w in pairs for step in steps_of([(a, w & 255)])])
    assert got == [a * w for a, w in pairs]


def test_every_operand_pair_at_half_the_width():
    pairs = [(a, w) for a in range(-8, 8) for w in range(-8, 8)]
    pe = Int8PE(w_bits=4, a_bits=4)
    assert group_sums(pe, [step for a, w in pairs for step in steps_of([(a, w & 15)])]) == [a * w for a, w in pairs]


def test_a_full_group_of_extremes_fits():
    pe = Int8PE(group_max=128)
    assert pe.sum_bits == 23
    groups = [[(-128, 0x80)] * 128, [(-128, 0x7F)] * 128, [(127, 0x80)] * 128]
    got = group_sums(pe, [step for group in groups for step in steps_of(group)])
    assert got == [128 * 16384, -128 * 128 * 127, -128 * 128 * 127]


def test_an_accumulator_of_32_bits():
    assert Int8PE(group_max=1 << 16).sum_bits == 32


def test_groups_with_bubbles_and_standstills():
    rng = np.random.default_rng(2)
    steps, expected, total = [], [], 0
    for _ in range(1500):
        a, w = (int(x) for x in rng.integers(-128, 128, 2))
        last, valid, en = (int(x) for x in rng.random(3) < (0.1, 0.8, 0.8))
        steps.append({"a": a, "w": w & 255, "en": en,
                      "control": {"valid": valid, "last": last, "signed": int(rng.integers(2)), "high": 0}})
        if en and valid:
            total += a * w
            if last:
                expected.append(total)
                total = 0
    assert group_sums(Int8PE(), steps) == expected
