"""Decoders other than llama's: norms with biases, GELU, soft caps, learned positions... against a forward in float64."""

import msgspec
import numpy as np
import pytest
from float_decoder import FloatDecoder, relative
from tiny_llama import KINDS, TinyLlama, bits

from mixflight.arch.errors import InputError
from mixflight.sim.golden.llama import Session
from mixflight.sim.golden.numerics import Activation, Numerics

TOKENS = [3, 99, 0, 41, 7, 12, 80, 5, 5, 61]
FLOATS = Numerics(activation=Activation.named("f16"), k="fp16", v="fp16")


def reference(made, model=None):
    """The same weights in float64; another ``model`` computes otherwise with them."""
    wide = {name: item.dequantise().astype(np.float64) for name, item in made.linears.items()}
    vectors = {name: item.dequantise()[0].astype(np.float64) for name, item in made.vectors.items()}
    positions = None if made.positions is None else made.positions.dequantise().astype(np.float64)
    return FloatDecoder(model or made.model, wide, made.embedding.dequantise().astype(np.float64), vectors, positions)


@pytest.fixture(scope="module", params=["llama", *KINDS])
def made(request):
    return TinyLlama(seed=3, **KINDS.get(request.param, {}))


def test_with_float_operands_it_is_the_forward_in_float64(made):
    found = Session(made.golden, numerics=FLOATS).extend(TOKENS, every=True)
    assert relative(found, reference(made).logits(TOKENS)) < 0.003


def test_with_integers_it_is_near(made):
    found = Session(made.golden).extend(TOKENS, every=True)
    assert 0.001 < relative(found, reference(made).logits(TOKENS)) < 0.06


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("gpt2", {"activation": "relu"}), ("gpt2", {"norm": "rmsnorm"}), ("gemma2", {"attention_cap": 0.0}),
        ("gemma2", {"logit_cap": 0.0}), ("gemma2", {"post_norms": False}), ("gemma2", {"embedding_scale": 1.0}),
        ("qwen3", {"qk_norm": False}), ("opt", {"rope_theta": 10000.0}),
    ],
)  # fmt: skip
def test_a_part_left_out_is_seen(kind, without):
    made = TinyLlama(seed=3, **KINDS[kind])
    other = reference(made, msgspec.structs.replace(made.model, **without)).logits(TOKENS)
    assert relative(Session(made.golden, numerics=FLOATS).extend(TOKENS, every=True), other) > 0.01


def test_biases_and_positions_left_out_are_seen():
    made = TinyLlama(seed=3, **KINDS["gpt2"])
    found, whole = Session(made.golden, numerics=FLOATS).extend(TOKENS, every=True), reference(made)
    for name in ("blk.1.attn_q.bias", "blk.0.attn_v.bias", "blk.0.ffn_up.bias", "blk.1.ffn_down.bias", "blk.0.ffn_norm.bias",
                 "output_norm.bias"):  # fmt: skip
        vectors = whole.vectors | {name: 0 * whole.vectors[name]}
        assert relative(found, FloatDecoder(made.model, whole.weights, whole.embedding, vectors, whole.positions).logits(
            TOKENS)) > 0.004, name  # fmt: skip
    nowhere = FloatDecoder(made.model, whole.weights, whole.embedding, whole.vectors)
    assert relative(found, nowhere.logits(TOKENS)) > 0.1


@pytest.mark.parametrize("kind", ["gpt2", "everything"])
def test_one_by_one_at_once_and_in_numpy_give_the_same_bits(kind):
    made = TinyLlama(seed=3, **KINDS[kind])
    one, once, plain = Session(made.golden), Session(made.golden), Session(made.golden, compiled=False)
    stepped = np.concatenate([one.extend([token]) for token in TOKENS])
    assert np.array_equal(bits(stepped), bits(once.extend(TOKENS, every=True)))
    assert np.array_equal(bits(stepped), bits(plain.extend(TOKENS, every=True)))


def test_a_context_beyond_a_window_is_refused():
    made = TinyLlama(seed=3, window=8)
    with pytest.raises(InputError, match="the context must hold at most 8 tokens, not 9"):
        Session(made.golden).extend(TOKENS[:9])
