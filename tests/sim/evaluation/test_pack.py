"""Values in GGUF's block formats: what the gguf package reads is what golden arithmetic computes with."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, format_named
from mixflight.sim.evaluation.pack import pack
from mixflight.sim.evaluation.prepare import rounded
from mixflight.sim.golden import batched, kernels
from mixflight.sim.golden import linear as lin
from mixflight.sim.golden.quantise import quantise
from mixflight.workloads.gguf import open_gguf

BLOCKS = ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs", "tq1_0", "tq2_0", "mxfp4", "q4_0", "q5_1"]
# RMS error over the RMS of the weights. A grid of b bits over a group's range, here about 2·2.5 deviations, has a step
# of 5/2^b and an error of step/√12: 0.36, 0.18, 0.09, 0.045, 0.023; scales of scales may add a quarter. Ternary codes
# by a block's largest value are a test of the layout.
ERROR = {"q2_k": 0.36, "q3_k": 0.18, "q4_k": 0.09, "q5_k": 0.045, "q6_k": 0.023, "iq4_nl": 0.09, "iq4_xs": 0.09,
         "tq1_0": 1, "tq2_0": 1, "mxfp4": 0.12, "q4_0": 0.09, "q5_1": 0.045}  # fmt: skip


@pytest.fixture(scope="module")
def values(smollm2_path):
    return open_gguf(smollm2_path).tensor("blk.3.ffn_down.weight").dequantise(range(48)).astype(np.float64)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_real_weights(values, name):
    tensor = pack("down", values, FORMATS[name])
    reference = quants.dequantize(tensor.raw.reshape(len(values), -1), getattr(GGMLQuantizationType, name.upper()))
    weight = lin.grouped_weight(tensor)
    np.testing.assert_array_equal(weight.values().astype(np.float32), reference)
    error = np.sqrt(((reference - values) ** 2).mean()) / values.std()
    assert error <= 1.25 * ERROR[name]


@pytest.mark.parametrize("name", [*BLOCKS, "nf4-g64", "fp4-g64"])
def test_a_linear_is_within_its_bound_and_the_same_everywhere(values, name):
    """Against float64 on what the gguf package dequantises (NF4, FP4: on the table's own values).

    Codes of activations are exact here (the reference takes their values), so what differs are roundings of 2^-24: three
    a group and one of each sum; and, for reals, one a product of a group and FP16 tables, 2^-11 relative.
    """
    wanted = format_named(name, "test")
    weight = lin.grouped_weight(pack("down", values, wanted)) if name in BLOCKS else rounded(values, wanted, "test")
    a = quantise(np.random.default_rng(0).standard_normal((9, 1536)).astype(np.float32), 32)
    got = lin.linear(weight, a)
    for other in (batched.linear(weight, a), kernels.linear(weight, a)):
        np.testing.assert_array_equal(got.view(np.uint32), other.view(np.uint32))
    x = a.values().astype(np.float64)
    exact = values_of(weight, values, name)
    magnitude = np.abs(x) @ np.abs(exact).T
    if weight.zero is not None:
        spread = [np.repeat(np.abs(part.astype(np.float64)), weight.group, axis=1) for part in (weight.d, weight.zero)]
        magnitude = np.abs(x) @ (spread[0] * np.abs(weight.codes.astype(np.float64)) + spread[1]).T
    steps = 2 * 1536 // min(weight.group, 32) + 4
    relative = steps * 2.0**-24 + ((64 * 2.0**-24 + 2.0**-11) if weight.real else 0)
    assert (np.abs(got - x @ exact.T) <= relative * magnitude).all()
    half = x.astype(np.float16)
    want = lin.linear_f16(weight, half)
    np.testing.assert_array_equal(batched.linear(weight, half).view(np.uint32), want.view(np.uint32))
    np.testing.assert_allclose(want, half.astype(np.float64) @ exact.T, atol=2**-9 * magnitude.max())


def values_of(weight, values, name):
    if not weight.real:
        tensor = pack("down", values, FORMATS[name])
        kind = getattr(GGMLQuantizationType, name.upper())
        return quants.dequantize(tensor.raw.reshape(len(values), -1), kind).astype(np.float64)
    table = np.array(format_named(name, "test").table)
    entries = table[np.abs(weight.codes[..., None] - table.astype(np.float16)).argmin(axis=-1)]
    return entries * np.repeat(weight.d.astype(np.float64), weight.group, axis=1)


def test_a_block_that_does_not_fit_is_refused(values):
    with pytest.raises(InputError, match="multiple of 256 for q4_k, not 576"):
        pack("q", values[:, :576], FORMATS["q4_k"])
    with pytest.raises(InputError, match="not in f16"):
        pack("q", values, FORMATS["f16"])
