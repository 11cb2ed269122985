import gguf
import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.gguf_model import FAMILIES, stored_model_of
from mixflight.workloads.tensor import LAYOUTS
from mixflight.workloads.trace import decode_traces, prefill_trace

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 3, 256, 4, 2, 64, 512, 40
Q, KV = HEADS * HEAD, KV_HEADS * HEAD
SEPARATE = {
    "attn_q": (Q, HIDDEN), "attn_k": (KV, HIDDEN), "attn_v": (KV, HIDDEN), "attn_output": (HIDDEN, Q),
    "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
}
FUSED = {"attn_qkv": (Q + 2 * KV, HIDDEN), "attn_output": (HIDDEN, Q), "ffn_down": (HIDDEN, FFN)}
NORMS = ("attn_norm", "ffn_norm")
POST = ("post_attention_norm", "post_ffw_norm")
# Matrices and vectors of a block, by the names of the reference package (gguf.constants.MODEL_TENSORS).
BLOCKS = {
    "llama": (SEPARATE, NORMS, ()),
    "qwen2": (SEPARATE, NORMS, ("attn_q", "attn_k", "attn_v")),
    "qwen3": (SEPARATE, (*NORMS, "attn_q_norm", "attn_k_norm"), ()),
    "gemma2": (SEPARATE, (*NORMS, *POST), ()),
    "gemma3": (SEPARATE, (*NORMS, *POST, "attn_q_norm", "attn_k_norm"), ()),
    "phi3": (FUSED | {"ffn_up": (2 * FFN, HIDDEN)}, NORMS, ()),
    "gpt2": (
        FUSED | {"ffn_up": (FFN, HIDDEN)}, NORMS, ("attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    ),
}


def _shapes(family):
    matrices, norms, biased = BLOCKS[family]
    layernorm = family == "gpt2"
    shapes = {"token_embd.weight": (VOCAB, HIDDEN), "output_norm.weight": (HIDDEN,)}
    if layernorm:
        shapes |= {"output_norm.bias": (HIDDEN,), "position_embd.weight": (128, HIDDEN)}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        shapes |= {f"{block}{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"{block}{name}.bias": (matrices[name][0],) for name in biased}
        for name in norms:
            shapes[f"{block}{name}.weight"] = (HEAD if name in ("attn_q_norm", "attn_k_norm") else HIDDEN,)
            if layernorm:
                shapes[f"{block}{name}.bias"] = (HIDDEN,)
    return shapes


def _keys(family):
    epsilon = "layer_norm_epsilon" if family == "gpt2" else "layer_norm_rms_epsilon"
    return {
        "block_count": LAYERS, "context_length": 128, "embedding_length": HIDDEN, "feed_forward_length": FFN,
        "attention.head_count": HEADS, "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD,
        f"attention.{epsilon}": 1e-6,
    }


def _write(path, family, shapes=None, keys=None, kind=gguf.GGMLQuantizationType.Q8_0):
    writer = gguf.GGUFWriter(path, family)
    for key, value in (_keys(family) | (keys or {})).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{family}.{key}", value)
    codes, size = gguf.GGML_QUANT_SIZES[kind]
    for name, shape in (_shapes(family) if shapes is None else shapes).items():
        if len(shape) == 1:
            writer.add_tensor(name, np.ones(shape, np.float32))
        else:
            stored = np.zeros((shape[0], shape[1] // codes * size), np.uint8)
            writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def test_every_family_has_its_blocks_here():
    assert list(BLOCKS) == list(FAMILIES)


@pytest.mark.parametrize("family", BLOCKS)
def test_a_family_traces(family, tmp_path):
    stored = stored_model_of(_write(tmp_path / "tiny.gguf", family))
    model = stored.model
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (LAYERS, HIDDEN, HEADS, KV_HEADS)
    assert (model.head_dim, model.ffn, model.vocab) == (HEAD, FFN, VOCAB)
    assert model.tied_head
    assert stored.linears["head"] is stored.embedding
    plain = family == "gpt2"
    weights = (Q + 2 * KV) * HIDDEN + HIDDEN * Q + (2 if plain else 3) * FFN * HIDDEN
    recipe = recipe_of("as-stored", stored.linears)
    (step,) = decode_traces(model, recipe, 10, 1)
    assert sum(op.macs * len(op.layers) for op in step.operators if op.kind == "linear") == (
        LAYERS * weights + VOCAB * HIDDEN
    )
    matrices = [weight for operator, weight in stored.linears.items()]
    assert step.weight_bytes == sum(weight.nbytes for weight in matrices)
    assert prefill_trace(model, recipe, 8).macs > 8 * LAYERS * weights


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_of_each_type_traces(name, tmp_path):
    file = _write(tmp_path / "tiny.gguf", "llama", kind=gguf.GGMLQuantizationType[name.upper()])
    stored = stored_model_of(file)
    recipe = recipe_of("as-stored", stored.linears)
    (step,) = decode_traces(stored.model, recipe, 10, 1)
    linears = [op for op in step.operators if op.kind == "linear"]
    assert {op.weight.name for op in linears} == {name}
    assert step.weight_bytes * 8 == sum(
        weight.shape[0] * FORMATS[name].row_bits(weight.shape[1]) for weight in stored.linears.values()
    )
    wanted = {0: "int8", 16: "int8-g32", 32: "int8-g32", 256: "int8-g256"}[FORMATS[name].group]
    assert {op.act.name for op in linears} == {wanted}


def test_fused_matrices_are_cut_by_rows(tmp_path):
    file = _write(tmp_path / "tiny.gguf", "phi3")
    stored = stored_model_of(file)
    for layer in range(LAYERS):
        whole = file.tensor(f"blk.{layer}.attn_qkv.weight")
        parts = [stored.linears[f"layers.{layer}.{role}"] for role in "qkv"]
        assert [part.shape for part in parts] == [(Q, HIDDEN), (KV, HIDDEN), (KV, HIDDEN)]
        assert b"".join(part.raw.tobytes() for part in parts) == whole.raw.tobytes()
        assert all(np.shares_memory(part.raw, whole.raw) for part in parts)
        assert parts[1].name == f"blk.{layer}.attn_qkv.weight[{Q}:{Q + KV}]"


def test_what_families_compute_beside_the_dimensions(tmp_path):
    def features(family, **keys):
        return stored_model_of(_write(tmp_path / "tiny.gguf", family, keys={k.replace("__", "."): v for k, v in keys.items()}))

    gemma2 = features("gemma2", attention__sliding_window=64, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    assert (gemma2.features.window, gemma2.features.window_layers) == (64, (0, 2))
    assert (gemma2.features.attention_cap, gemma2.features.logit_cap) == (50.0, 30.0)
    assert gemma2.features.post_norms
    assert not gemma2.features.qk_norm
    assert gemma2.model.context_length == 64  # traced only where the window changes nothing
    assert (gemma2.model.activation, gemma2.model.ffn_kind) == ("gelu", "gated")
    assert features("gemma3", attention__sliding_window=16).features.window_layers == (0, 1, 2)
    assert features("llama", attention__sliding_window=64).features.window_layers == (0, 1, 2)
    assert features("qwen3").features.qk_norm
    assert features("qwen2").features.biased == ("q", "k", "v")
    gpt2 = features("gpt2").model
    assert (gpt2.biases, gpt2.norm, gpt2.rope_theta, gpt2.ffn_kind) == (True, "layernorm", 0.0, "plain")


@pytest.mark.parametrize(("family", "keys", "message"), [
    ("qwen2moe", {}, "architecture must be one of llama, qwen2, .*, not 'qwen2moe'"),
    ("llama", {"expert_count": 8}, "llama.expert_count must be 0"),
    ("qwen3", {"rope.dimension_count": 16}, "qwen3.rope.dimension_count must be the head size 64, not 16"),
    ("qwen3", {"block_count": 10**9}, "qwen3.block_count must be at most the number of tensors, 35, not 1000000000"),
    ("gemma2", {"attention.head_count_kv": 3}, "heads must be a multiple of kv_heads"),
])
def test_what_is_not_supported_is_one_line(family, keys, message, tmp_path):
    shapes = _shapes(family if family in BLOCKS else "llama")
    with pytest.raises(InputError, match=message) as caught:
        stored_model_of(_write(tmp_path / "tiny.gguf", family, shapes, keys))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("family", "change", "message"), [
    ("qwen2", {"blk.1.attn_k.bias": None}, "must hold tensor 'blk.1.attn_k.bias', which is missing"),
    ("qwen3", {"blk.2.attn_q_norm.weight": (HIDDEN,)}, r"must have shape \(64,\), not \(256,\)"),
    ("llama", {"blk.0.attn_q.bias": (Q,)}, "'blk.0.attn_q.bias' has none"),
    ("phi3", {"blk.0.ffn_up.weight": (FFN, HIDDEN)}, r"must have shape \(1024, 256\), not \(512, 256\)"),
    ("gpt2", {"position_embd.weight": (64, HIDDEN)}, r"must have shape \(128, 256\), not \(64, 256\)"),
])
def test_tensors_that_cannot_be(family, change, message, tmp_path):
    shapes = {name: shape for name, shape in (_shapes(family) | change).items() if shape}
    with pytest.raises(InputError, match=message):
        stored_model_of(_write(tmp_path / "tiny.gguf", family, shapes))


def test_tensors_that_scale_positions_are_no_weights(tmp_path):
    shapes = _shapes("phi3") | {"rope_factors_long.weight": (16,), "rope_factors_short.weight": (16,)}
    assert len(stored_model_of(_write(tmp_path / "tiny.gguf", "phi3", shapes)).linears) == LAYERS * 7 + 1
