"""Recorded histograms of the real model, against counts that were taken independently of this code."""

import numpy as np
import pytest

from mixflight.sim.evaluation.record import CodeStatistics, record, signed_digits
from mixflight.sim.evaluation.text import evaluation_text
from mixflight.sim.golden.llama import load_llama
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

PERCENT = [4.00, 2.43, 3.58, 5.03, 6.65, 8.29, 9.63, 10.39, 10.42, 9.62, 8.28, 6.65, 5.01, 3.58, 2.43, 4.00]


@pytest.fixture(scope="module")
def found(smollm2_path):
    file = open_gguf(smollm2_path)
    tokens = tokenizer_of(file).encode(evaluation_text())[:64]
    return record(load_llama(file), tokens, Numerics(activation=Activation(group=0)))


def test_the_histogram_of_all_weights(found):
    codes = found.weights["all"]
    assert codes.codes == 106_168_320
    assert codes.lowest == 0 and len(codes.counts) == 16
    np.testing.assert_allclose(100 * np.array(codes.counts) / codes.codes, PERCENT, atol=0.006)
    assert codes.ones == pytest.approx(2.000, abs=0.0005)
    assert codes.digits == pytest.approx(1.792, abs=0.0005)
    assert codes.entropy_bits == pytest.approx(3.855, abs=0.0005)
    signed = codes.shifted(-8)
    assert signed.digits == pytest.approx(1.256, abs=0.0005)
    assert signed.ones == pytest.approx(1.320, abs=0.0005)
    assert signed.zeros == pytest.approx(0.104, abs=0.0005)


def test_each_role_is_counted(found):
    assert found.weights["down"].codes == found.weights["gate"].codes == 30 * 1536 * 576
    assert found.weights["k"].codes == 30 * 192 * 576
    assert found.weights["head"].codes == 49152 * 576
    assert found.weights["q"].zeros == pytest.approx(0.0398, abs=0.0001)


def test_activations_per_token(found):
    """Zeros of INT8 codes per token on another text: 11.8, 3.7, 4.7 and 15.8 %."""
    expected = {"attention_input": 0.118, "attention_output": 0.037, "ffn_input": 0.047, "ffn_hidden": 0.158}
    for role, zeros in expected.items():
        codes = found.activations[role]
        assert codes.codes == 64 * 30 * (1536 if role == "ffn_hidden" else 576)
        assert codes.zeros == pytest.approx(zeros, rel=0.15)
        assert codes.lowest >= -127


def test_statistics_by_hand():
    codes = CodeStatistics.of(np.array([0, 1, 0, 2, 0, 1]), -3)  # -2, 0, 0, 2
    assert (codes.codes, codes.lowest, codes.counts) == (4, -2, (1, 0, 2, 0, 1))
    assert (codes.zeros, codes.ones, codes.digits, codes.entropy_bits) == (0.5, 0.5, 0.5, 1.5)
    assert [signed_digits(value) for value in (0, 1, 3, 7, 11, -6, 127)] == [0, 1, 2, 2, 3, 2, 2]
