"""The forward pass on the real compressed model."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.golden.cache import Fp16Store, Int8Store
from mixflight.sim.golden.llama import Session, load_llama, record_operands
from mixflight.sim.golden.quantise import quantise
from mixflight.sim.golden.tiles import real_tile
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

PROMPT = "The capital of France is"
TOKENS = [504, 3575, 282, 4649, 314]


@pytest.fixture(scope="module")
def llama(smollm2_path):
    return load_llama(open_gguf(smollm2_path))


@pytest.mark.parametrize("kv", ["int8", "fp16"])
def test_prefill_and_decode_give_the_bits_of_one_by_one(llama, kv):
    whole = Session(llama, kv=kv).extend(TOKENS, every=True)
    single = Session(llama, kv=kv)
    one_by_one = np.concatenate([single.extend([token]) for token in TOKENS])
    np.testing.assert_array_equal(whole.view(np.uint32), one_by_one.view(np.uint32))
    mixed = Session(llama, kv=kv)
    parts = np.concatenate([mixed.extend(TOKENS[:3], every=True), mixed.extend(TOKENS[3:], every=True)])
    np.testing.assert_array_equal(whole.view(np.uint32), parts.view(np.uint32))


def test_compiled_equals_the_reference(llama):
    compiled, reference = Session(llama), Session(llama, compiled=False)
    for part in (TOKENS[:2], TOKENS[2:3]):
        np.testing.assert_array_equal(
            compiled.extend(part).view(np.uint32), reference.extend(part).view(np.uint32))


def test_the_cache_grows_without_a_trace():
    rows = np.random.default_rng(0).standard_normal((600, 3, 64)).astype(np.float32)
    whole, parts, half = Int8Store(3, 64), Int8Store(3, 64), Fp16Store(3, 64)
    whole.put(0, rows)
    for start in range(0, 600, 90):
        parts.put(start, rows[start : start + 90])
        half.put(start, rows[start : start + 90])
    np.testing.assert_array_equal(whole.view(600).codes, parts.view(600).codes)
    np.testing.assert_array_equal(whole.view(600).scales, parts.view(600).scales)
    np.testing.assert_array_equal(half.view(600), rows.astype(np.float16).transpose(1, 0, 2))


@pytest.mark.parametrize("text", [PROMPT, "def fibonacci(n):\n    if n <"])
def test_int8_and_fp16_caches_agree(llama, smollm2_path, text):
    """Beyond a shift that all logits share they differ by at most a tenth of the logits' spread (RMS)."""
    tokens = tokenizer_of(open_gguf(smollm2_path)).encode(text)
    a, b = (Session(llama, kv=kv).extend(tokens, every=True) for kv in ("int8", "fp16"))
    difference = a - b
    centred = difference - difference.mean(axis=1, keepdims=True)
    assert (np.sqrt((centred**2).mean(axis=1)) < 0.1 * b.std(axis=1)).all()
    assert np.abs(difference).max() < 2
    assert (a.argmax(axis=1) == b.argmax(axis=1)).all()


@pytest.mark.parametrize("name", [
    *(f"blk.{layer}.{part}.weight" for layer in (0, 17)
      for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")),
    "token_embd.weight",
])
def test_each_linear_is_within_its_a_priori_bound(llama, name):
    """Against float64 on dequantised weights: the rounding of the activations bounds the difference.

    An activation is off by at most half a step s = amax/127, and by the rounding of s to FP16, 2^-11 of |q|·s (or
    2^-25 where the FP16 is subnormal); the FP32 sums of 2·groups terms by 2^-24 a rounding of what they add.
    """
    inputs = []
    session = Session(llama)
    project = session._project

    def spy(names, x):
        if name in names:
            inputs.append(x)
        return project(names, x)

    session._project = spy
    session.extend(TOKENS, every=True)
    x, weight = inputs[0], llama.linears[name]
    activation = quantise(x, 32)
    w = weight.values()
    got = project([name], x)[0]
    step = np.repeat(np.abs(x.reshape(len(x), -1, 32)).max(-1) / 127, 32, axis=1).astype(np.float64)
    q = np.abs(activation.codes.astype(np.float64))
    off = step / 2 * (1 + 2.0**-15) + q * np.maximum(step * 2.0**-11, 2.0**-25)
    groups = weight.k // 32
    d, s = (np.repeat(part.astype(np.float64), 32, axis=1) for part in (weight.d, activation.scales))
    terms = (q * s) @ (d * np.abs(weight.codes.astype(np.float64))).T
    if weight.zero is not None:
        terms += (q * s) @ np.abs(np.repeat(weight.zero.astype(np.float64), 32, axis=1)).T
    bound = off @ np.abs(w).T + (2 * groups + 4) * 2.0**-24 * terms
    difference = np.abs(got - x.astype(np.float64) @ w.T)
    assert (difference <= bound).all()
    assert difference.max() > 0


def test_recorded_operands_give_the_layers_output(llama, smollm2_path):
    activation, weight = record_operands(llama, TOKENS, "blk.0.ffn_up.weight")
    assert activation.codes.shape == (5, 576)
    tile = real_tile(smollm2_path, tensor="blk.0.ffn_up.weight", rows=24, cols=96, prompt=PROMPT)
    np.testing.assert_array_equal(tile["a"], activation.codes[:, :96])
    np.testing.assert_array_equal(tile["s_a"], activation.scales[:, :3])
    np.testing.assert_array_equal(tile["w"], weight.codes[:24, :96])
    np.testing.assert_array_equal(tile["d"], weight.d[:24, :3])
    np.testing.assert_array_equal(tile["m"], weight.zero[:24, :3])
    assert [tile[key].dtype for key in ("a", "s_a", "w", "d", "m")] == [
        np.int8, np.float16, np.uint8, np.float16, np.float16]


def test_what_is_refused(llama, smollm2_path):
    for tokens in ([], [-1], [49152]):
        with pytest.raises(InputError, match="numbers below 49152"):
            Session(llama).extend(tokens)
    session = Session(llama)
    session.position = 8190
    with pytest.raises(InputError, match="at most 8192 tokens, not 8193"):
        session.extend([1, 2, 3])
    with pytest.raises(InputError, match="kv must be"):
        Session(llama, kv="int4")
    with pytest.raises(InputError, match="must be a linear"):
        record_operands(llama, [1], "blk.0.attn_norm.weight")
    for rows, cols in ((0, 32), (5000, 32), (1, 33), (1, 0)):
        with pytest.raises(InputError, match="a tile of"):
            real_tile(smollm2_path, tensor="blk.0.ffn_up.weight", rows=rows, cols=cols, prompt="a")
