import dataclasses

import gguf
import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import model_of, weights_of
from mixflight.workloads.model import model_named

LAYERS, HIDDEN, HEADS, KV_HEADS, FFN, VOCAB = 2, 64, 4, 2, 96, 40


def _shapes():
    kv = HIDDEN // HEADS * KV_HEADS
    shapes = {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.{name}.weight": shape
            for name, shape in {
                "attn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_k": (kv, HIDDEN),
                "attn_v": (kv, HIDDEN), "attn_output": (HIDDEN, HIDDEN), "ffn_norm": (HIDDEN,),
                "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
            }.items()
        }
    return shapes


KEYS = {
    "llama.block_count": ("uint32", LAYERS), "llama.context_length": ("uint32", 128),
    "llama.embedding_length": ("uint32", HIDDEN), "llama.feed_forward_length": ("uint32", FFN),
    "llama.attention.head_count": ("uint32", HEADS), "llama.attention.head_count_kv": ("uint32", KV_HEADS),
    "llama.attention.layer_norm_rms_epsilon": ("float32", 1e-6), "llama.rope.freq_base": ("float32", 5000.0),
}


def _write(path, shapes=None, keys=None, architecture="llama", quantised_norm=False, kind=gguf.GGMLQuantizationType.Q4_1):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in (KEYS if keys is None else keys).items():
        getattr(writer, f"add_{value[0]}")(key, value[1])
    rng = np.random.default_rng(0)
    for name, shape in (_shapes() if shapes is None else shapes).items():
        values = rng.normal(size=shape).astype(np.float32)
        if len(shape) == 2 or (quantised_norm and name == "output_norm.weight"):
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def test_dimensions_and_roles(tmp_path):
    file = _write(tmp_path / "tiny.gguf")
    model = model_of(file)
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (LAYERS, HIDDEN, HEADS, KV_HEADS)
    assert (model.head_dim, model.ffn, model.vocab, model.context_length) == (16, FFN, VOCAB, 128)
    assert (model.rope_theta, model.tied_head, model.name) == (5000.0, True, "tiny")
    assert model.norm_epsilon == pytest.approx(1e-6)
    weights = weights_of(file)
    assert weights.head is weights.embedding
    assert len(weights.layers) == LAYERS
    layer = weights.layers[1]
    assert [getattr(layer, field.name).name for field in dataclasses.fields(layer)] == [
        f"blk.1.{name}.weight"
        for name in (
            "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up",
            "ffn_down",
        )
    ]


def test_a_head_of_its_own(tmp_path):
    file = _write(tmp_path / "tiny.gguf", _shapes() | {"output.weight": (VOCAB, HIDDEN)})
    assert not model_of(file).tied_head
    assert weights_of(file).head.name == "output.weight"


def test_defaults(tmp_path):
    optional = ("llama.attention.head_count_kv", "llama.rope.freq_base")
    keys = {key: value for key, value in KEYS.items() if key not in optional}
    model = model_of(_write(tmp_path / "tiny.gguf", keys=keys))
    assert (model.kv_heads, model.rope_theta) == (HEADS, 10000.0)


@pytest.mark.parametrize("key", [key for key in KEYS if key not in (
    "llama.attention.head_count_kv", "llama.rope.freq_base")])
def test_missing_keys(tmp_path, key):
    with pytest.raises(InputError, match=f"must hold key '{key}', which is missing"):
        model_of(_write(tmp_path / "tiny.gguf", keys={name: KEYS[name] for name in KEYS if name != key}))


@pytest.mark.parametrize(("key", "value", "message"), [
    ("llama.attention.head_count", ("uint32", 0), "must be an integer in 1"),
    ("llama.attention.head_count", ("uint32", 5), "must be a multiple of head_count"),
    ("llama.attention.head_count_kv", ("uint32", 3), "heads must be a multiple of kv_heads"),
    ("llama.attention.key_length", ("uint32", 15), "head size must be even"),
    ("llama.attention.value_length", ("uint32", 8), "must be the head size 16, not 8"),
    ("llama.rope.dimension_count", ("uint32", 8), "must be the head size 16, not 8"),
    ("llama.rope.freq_base", ("float32", 0.0), "must be above 1"),
    ("llama.rope.scaling.type", ("string", "yarn"), "must be 'none', not 'yarn'"),
    ("llama.attention.layer_norm_rms_epsilon", ("float32", float("nan")), "must be a finite number"),
    ("llama.expert_count", ("uint32", 8), "must be 0"),
    ("llama.block_count", ("string", "two"), "must be an integer"),
])
def test_keys_that_cannot_be(tmp_path, key, value, message):
    with pytest.raises(InputError, match=message) as caught:
        model_of(_write(tmp_path / "tiny.gguf", keys=KEYS | {key: value}))
    assert "\n" not in str(caught.value)


def test_another_architecture(tmp_path):
    with pytest.raises(InputError, match="architecture must be 'llama', not 'gemma3'"):
        model_of(_write(tmp_path / "tiny.gguf", architecture="gemma3"))


@pytest.mark.parametrize(("change", "message"), [
    ({"blk.1.ffn_up.weight": (FFN, 32)}, r"'blk.1.ffn_up.weight' must have shape \(96, 64\), not \(96, 32\)"),
    ({"blk.1.ffn_up.weight": None}, "must hold tensor 'blk.1.ffn_up.weight', which is missing"),
    ({"output_norm.weight": (32,)}, r"must have shape \(64,\), not \(32,\)"),
    ({"token_embd.weight": (HIDDEN,)}, "must have two dimensions"),
    ({"blk.0.attn_q.bias": (HIDDEN,)}, "'blk.0.attn_q.bias' has none"),
    ({"blk.2.ffn_norm.weight": (HIDDEN,)}, "2 layers, but 'blk.2.ffn_norm.weight' has none"),
])
def test_tensors_that_cannot_be(tmp_path, change, message):
    shapes = {name: shape for name, shape in (_shapes() | change).items() if shape}
    with pytest.raises(InputError, match=message):
        weights_of(_write(tmp_path / "tiny.gguf", shapes))


def test_a_vocabulary_of_another_size(tmp_path):
    keys = KEYS | {"llama.vocab_size": ("uint32", 41)}
    with pytest.raises(InputError, match=r"must have shape \(41, 64\), not \(40, 64\)"):
        weights_of(_write(tmp_path / "tiny.gguf", keys=keys))


def test_a_quantised_norm(tmp_path):
    with pytest.raises(InputError, match="'output_norm.weight' must be f32 or f16, not q4_1"):
        weights_of(_write(tmp_path / "tiny.gguf", quantised_norm=True))


def test_weights_may_be_tables(tmp_path):
    weights = weights_of(_write(tmp_path / "tiny.gguf", kind=gguf.GGMLQuantizationType.MXFP4))
    assert weights.layers[0].q.format.table


def test_the_real_model_has_the_dimensions_of_its_preset(smollm2_path):
    file = open_gguf(smollm2_path)
    model, preset = model_of(file), model_named("smollm2-135m")
    described = ("name", "summary", "source", "norm_epsilon")
    for field in model.__struct_fields__:
        if field not in described:
            assert getattr(model, field) == getattr(preset, field), field
    assert model.norm_epsilon == pytest.approx(preset.norm_epsilon)
    weights = weights_of(file)
    linears = [getattr(layer, role) for layer in weights.layers for role in model.block_linears()]
    assert {tensor.format.name for tensor in linears} == {"q4_1"}
    assert weights.head.format.name == "q8_0"
    assert sum(tensor.n * tensor.k for tensor in linears) == 106_168_320
