# amaranth: UnusedElaboratable=no
"""The PEs against Python's integers: every operand pair, whole groups, both passes, the extremes."""

import itertools
import random

import pytest
from stream_bench import simulate

from mixflight.arch.errors import InputError
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE

BOTH = pytest.mark.parametrize("kind", [ShiftAddPE, MultiplyPE])


def value(w, signed, bits=4):
    """The weight a code stands for."""
    return w - (1 << bits) if signed and w >> (bits - 1) else w


def step(a, w, *, last=0, signed=0, high=0, valid=1, en=1):
    return {"a": a, "w": w, "en": en,
            "control": {"valid": valid, "last": last, "signed": signed, "high": high}}


def sums(pe, steps):
    """``sum`` after each step."""
    seen = []

    async def bench(ctx):
        for each in steps:
            for name, to in each.items():
                ctx.set(getattr(pe, name), to)
            await ctx.tick()
            seen.append(ctx.get(pe.sum))

    simulate(pe, [(bench,)])
    return seen


def two_pass_group(pairs, signed=1):
    """The steps of a group of 8-bit weights: low nibbles, then high nibbles."""
    low = [step(a, w & 15) for a, w in pairs]
    high = [step(a, w >> 4 & 15, high=1, signed=signed) for a, w in pairs]
    high[-1]["control"]["last"] = 1
    return low + high


@BOTH
@pytest.mark.parametrize("signed", [0, 1])
def test_every_operand_pair(kind, signed):
    pairs = list(itertools.product(range(-128, 128), range(16)))
    got = sums(kind(), [step(a, w, last=1, signed=signed) for a, w in pairs])
    assert got == [a * value(w, signed) for a, w in pairs]


@BOTH
def test_groups_of_any_length_with_bubbles_and_standstills(kind):
    chance = random.Random(3)
    steps, expected, total, shown = [], [], 0, 0
    for _ in range(3000):
        a, w, signed = chance.randrange(-128, 128), chance.randrange(16), chance.randrange(2)
        last, valid, en = chance.random() < 0.1, chance.random() < 0.8, chance.random() < 0.8
        steps.append(step(a, w, last=last, signed=signed, valid=valid, en=en))
        if en and valid:
            total += a * value(w, signed)
            if last:
                shown, total = total, 0
        expected.append(shown)
    assert sums(kind(), steps) == expected


@BOTH
@pytest.mark.parametrize(("a", "w", "signed"), [(-128, 15, 0), (127, 15, 0), (-128, 8, 1), (127, 8, 1)])
def test_a_full_group_of_extremes_does_not_overflow(kind, a, w, signed):
    pe = kind(group_max=128)
    assert pe.sum_bits == 19
    got = sums(pe, [step(a, w, last=k == 127, signed=signed) for k in range(128)] * 2)
    assert got[127] == got[255] == 128 * a * value(w, signed)


@BOTH
@pytest.mark.parametrize(("a", "w", "signed"), [
    (-128, -128, 1), (127, -128, 1), (-128, 127, 1), (127, 127, 1), (-128, 255, 0), (127, 255, 0)])
def test_a_full_group_of_8_bit_extremes_does_not_overflow(kind, a, w, signed):
    pe = kind(group_max=128, two_pass=True)
    assert pe.sum_bits == 23
    assert sums(pe, two_pass_group([(a, w)] * 128, signed))[-1] == 128 * a * w


@BOTH
def test_8_bit_weights_in_two_passes(kind):
    chance = random.Random(5)
    groups = [[(chance.randrange(-128, 128), chance.randrange(-128, 128))
               for _ in range(chance.randrange(1, 5))] for _ in range(500)]
    pe = kind(group_max=4, two_pass=True)
    steps = [each for group in groups for each in two_pass_group(group)]
    got = [total for each, total in zip(steps, sums(pe, steps), strict=True) if each["control"]["last"]]
    assert got == [sum(a * w for a, w in group) for group in groups]


@BOTH
def test_operands_are_handed_on_a_step_later(kind):
    pe = kind()

    async def bench(ctx):
        ctx.set(pe.en, 1)
        ctx.set(pe.a, -5)
        ctx.set(pe.w, 9)
        ctx.set(pe.control, {"valid": 1, "last": 0, "signed": 1, "high": 1})
        await ctx.tick()
        ctx.set(pe.en, 0)
        ctx.set(pe.a, 1)
        ctx.set(pe.w, 1)
        ctx.set(pe.control, {"valid": 0, "last": 0, "signed": 0, "high": 0})
        for _ in range(2):
            assert (ctx.get(pe.a_next), ctx.get(pe.w_next)) == (-5, 9)
            assert ctx.get(pe.control_next.as_value()) == 0b1101
            await ctx.tick()

    simulate(pe, [(bench,)])


def test_other_widths():
    pe = ShiftAddPE(group_max=3, w_bits=5, a_bits=4)
    triples = [(a, w, signed) for a in range(-8, 8) for w in range(32) for signed in range(2)]
    got = sums(pe, [step(a, w, last=1, signed=signed) for a, w, signed in triples])
    assert got == [a * value(w, signed, 5) for a, w, signed in triples]


def test_refusals():
    with pytest.raises(InputError, match="group_max must be at least 1, not 0, in a PE"):
        ShiftAddPE(group_max=0)
    with pytest.raises(InputError, match="w_bits must be at least 2, not 1, in a PE"):
        MultiplyPE(w_bits=1)


def test_the_two_kinds_have_the_same_ports():
    assert ShiftAddPE().signature == MultiplyPE().signature
