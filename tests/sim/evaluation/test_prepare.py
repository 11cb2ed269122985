"""Re-quantised weights lie within half a step of what they were; what is undefined is refused."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import format_named
from mixflight.sim.evaluation.prepare import requantise
from mixflight.sim.golden.linear import GroupedWeight
from mixflight.sim.golden.numerics import Activation


def weight():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (24, 96), dtype=np.uint8)
    d = (0.001 + rng.random((24, 3)) / 100).astype(np.float16)
    d[3] = 0
    return GroupedWeight(codes=codes, d=d, zero=(-7.5 * d).astype(np.float16), group=32)


@pytest.mark.parametrize("name", ["int8", "int4-g32", "int3-g16", "uint4-g32-z4", "uint4-g96-z4", "q4_0", "q4_1", "q8_0"])
def test_within_half_a_step(name):
    before, wanted = weight(), format_named(name, "test")
    after = requantise(before, wanted, "test")
    assert after.group == (wanted.group or 96)
    step = np.repeat(after.d.astype(np.float64), after.group, axis=1)
    error = np.abs(after.values() - before.values())
    slack = 1.0 if wanted.zero.startswith("int") else 0.5  # a zero point is rounded too
    most = np.abs(before.values()).max() * 2**-10  # FP16 scales: the largest value may be cut
    assert (error <= slack * step + most).all()


def test_symmetric_eight_bits_keep_four_bit_weights_nearly():
    before = weight()
    after = requantise(before, format_named("q8_0", "test"), "test")
    assert np.abs(after.values() - before.values()).max() < 0.005 * np.abs(before.values()).max()


@pytest.mark.parametrize("name", ["f16", "nf4-g32-f32", "f8_e4m3", "uint4-g32"])
def test_other_formats_are_refused(name):
    with pytest.raises(InputError, match=r"tables of reals and GGUF blocks, not to .*, in here"):
        requantise(weight(), format_named(name, "test"), "here")


def test_a_group_must_divide_k():
    with pytest.raises(InputError, match="128 does not divide 96"):
        requantise(weight(), format_named("uint4-g128-z4", "test"), "here")


def test_activations_by_name():
    assert Activation.named("int8-g32") == Activation()
    assert Activation.named("int4") == Activation(group=0, levels=7)
    assert Activation.named("f16").levels == 0
    with pytest.raises(InputError, match="activations must be"):
        Activation.named("f8_e4m3")
