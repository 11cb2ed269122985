import json

import numpy as np
import pytest
import safetensors_files as files

from mixflight.arch.errors import InputError
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.folder_model import FAMILIES
from mixflight.workloads.model_file import open_model
from mixflight.workloads.trace import decode_traces

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 2, 64, 4, 2, 16, 128, 40
LLAMA = {
    "model_type": "llama", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
    "num_hidden_layers": LAYERS, "intermediate_size": FFN, "vocab_size": VOCAB, "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6, "rope_theta": 5e5, "hidden_act": "silu", "tie_word_embeddings": False,
}
OPT = {
    "model_type": "opt", "hidden_size": HIDDEN, "num_attention_heads": HEADS, "num_hidden_layers": LAYERS,
    "ffn_dim": FFN, "vocab_size": VOCAB, "max_position_embeddings": 128, "activation_function": "relu",
    "word_embed_proj_dim": HIDDEN, "do_layer_norm_before": True,
}
KV = KV_HEADS * HEAD
GATED = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (KV, HIDDEN), "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (FFN, HIDDEN), "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}
PLAIN = {
    "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, HIDDEN), "self_attn.v_proj": (HIDDEN, HIDDEN),
    "self_attn.out_proj": (HIDDEN, HIDDEN), "fc1": (FFN, HIDDEN), "fc2": (HIDDEN, FFN),
}
CONFIGS = {kind: OPT if kind == "opt" else LLAMA | {"model_type": kind} for kind in FAMILIES}


def _dense(prefix, shape):
    return {f"{prefix}.weight": np.ones(shape, np.float16)}


def _gptq(prefix, shape):
    n, k = shape
    codes, zeros = np.full((k, n), 9), np.full((k // 32, n), 8)
    arrays = files.gptq(codes, zeros, np.ones((k // 32, n), np.float16), 4, order=np.arange(k) // 32)
    return {f"{prefix}.{name}": array for name, array in arrays.items()} | {f"{prefix}.bias": np.zeros(n, np.float16)}


def _awq(prefix, shape):
    n, k = shape
    arrays = files.awq(np.full((k, n), 9), np.full((k // 32, n), 8), np.ones((k // 32, n), np.float16))
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _packed(prefix, shape):
    arrays = files.packed_integers(np.ones(shape, int), np.ones((shape[0], shape[1] // 32), np.float32))
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _nf4(prefix, shape):
    from mixflight.arch.formats import NF4_TABLE

    arrays = files.four_bits(np.full(shape, 15), np.ones(shape[0] * shape[1] // 64, np.float32), NF4_TABLE)
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def _sparse(prefix, shape):
    dense = np.zeros(shape, np.float16)
    dense[:, ::2] = 1
    return {f"{prefix}.{name}": array for name, array in files.sparse(dense).items()}


PACKINGS = {
    "dense": (_dense, None), "gptq": (_gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32}),
    "awq": (_awq, {"quant_method": "awq", "version": "gemm"}),
    "packed": (
        _packed,
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
    ),
    "nf4": (_nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "sparse": (_sparse, {"quant_method": "compressed-tensors"}),
}


def _arrays(kind, linear=_dense):
    opt = kind == "opt"
    root = "model.decoder." if opt else "model."
    found = _dense(f"{root}embed_tokens", (VOCAB, HIDDEN))

    def norm(prefix, size=HIDDEN):
        found[f"{prefix}.weight"] = np.ones(size, np.float16)
        if opt:
            found[f"{prefix}.bias"] = np.ones(size, np.float16)

    if opt:
        found |= _dense(f"{root}embed_positions", (130, HIDDEN))
    else:
        found |= _dense("lm_head", (VOCAB, HIDDEN))
    norm(f"{root}{'final_layer_norm' if opt else 'norm'}")
    for layer in range(LAYERS):
        block = f"{root}layers.{layer}."
        for name in ("self_attn_layer_norm", "final_layer_norm") if opt else ("input_layernorm", "post_attention_layernorm"):
            norm(block + name)
        if kind == "qwen3":
            norm(f"{block}self_attn.q_norm", HEAD)
            norm(f"{block}self_attn.k_norm", HEAD)
        for name, shape in (PLAIN if opt else GATED).items():
            found |= linear(block + name, shape)
            if opt or (kind == "qwen2" and name.endswith(("q_proj", "k_proj", "v_proj"))):
                found[f"{block}{name}.bias"] = np.ones(shape[0], np.float16)
    return found


def _folder(path, kind, arrays=None, config=None, shards=1):
    arrays = _arrays(kind) if arrays is None else arrays
    (path / "config.json").write_text(json.dumps(CONFIGS[kind] | (config or {})))
    if shards == 1:
        files.write(path / "model.safetensors", arrays)
        return path
    index = {}
    for shard in range(shards):
        part = dict([*arrays.items()][shard::shards])
        files.write(path / f"model-{shard}.safetensors", part)
        index |= dict.fromkeys(part, f"model-{shard}.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return path


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("shards", [1, 3])
def test_a_family_traces(kind, shards, tmp_path):
    stored = open_model(_folder(tmp_path, kind, shards=shards))
    model, opt = stored.model, kind == "opt"
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (LAYERS, HIDDEN, HEADS, HEADS if opt else KV_HEADS)
    assert (model.head_dim, model.ffn, model.vocab, model.context_length) == (HEAD, FFN, VOCAB, 128)
    assert (model.tied_head, model.biases, model.rope_theta) == (opt, opt, 0 if opt else 5e5)
    (step,) = decode_traces(model, recipe_of("as-stored", stored.linears), 10, 1)
    assert step.weight_bytes == sum(weight.nbytes for weight in stored.linears.values())
    assert {op.weight.name for op in step.operators if op.kind == "linear"} == {"f16"}
    assert stored.features.qk_norm == (kind == "qwen3")


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_model_traces(packing, tmp_path):
    linear, quantiser = PACKINGS[packing]
    stored = open_model(_folder(tmp_path, "llama", _arrays("llama", linear), {"quantization_config": quantiser}))
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored.linears), 10, 1)
    formats = {op.weight.name for op in step.operators if op.kind == "linear" and op.name != "head"}
    assert formats == {
        {"dense": "f16", "gptq": "uint4-g32-z4", "awq": "uint4-g32-z4", "packed": "int4-g32-f32", "nf4": "nf4-g64-f32",
         "sparse": "f16-2of4"}[packing]
    }  # fmt: skip
    sample = stored.linears["layers.1.up"].dequantise([0, 5])
    assert sample.shape == (2, HIDDEN)
    assert sample.max() == 1


def test_a_tied_head_is_the_embedding(tmp_path):
    arrays = {name: array for name, array in _arrays("llama").items() if not name.startswith("lm_head")}
    stored = open_model(_folder(tmp_path, "llama", arrays, {"tie_word_embeddings": True}))
    assert stored.linears["head"] is stored.embedding
    with pytest.raises(InputError, match="whose head is not tied must hold lm_head.weight"):
        open_model(_folder(tmp_path, "llama", arrays))


def test_a_window_limits_what_is_traced(tmp_path):
    stored = open_model(_folder(tmp_path, "mistral", config={"sliding_window": 32}))
    assert stored.model.context_length == 32
    assert stored.features.window_layers == (0, 1)


@pytest.mark.parametrize(("kind", "config", "message"), [
    ("llama", {"model_type": "mixtral"}, "model_type must be one of llama, mistral, qwen2, qwen3, opt, not 'mixtral'"),
    ("llama", {"hidden_size": "64"}, "hidden_size must be an integer in 1"),
    ("llama", {"hidden_size": True}, "hidden_size must be an integer in 1"),
    ("llama", {"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
    ("llama", {"num_key_value_heads": 3}, "heads must be a multiple of kv_heads"),
    ("llama", {"num_hidden_layers": 10**8}, "num_hidden_layers must be at most the number of arrays, 21"),
    ("llama", {"num_hidden_layers": 3}, "must hold array 'model.layers.2.input_layernorm.weight'"),
    ("llama", {"num_hidden_layers": 1}, "'model.layers.1.input_layernorm.weight' has none"),
    ("llama", {"intermediate_size": 96}, r"weight must have shape \(96, 64\), not \(128, 64\)"),
    ("llama", {"attention_bias": True}, "attention_bias and mlp_bias must be false"),
    ("llama", {"hidden_act": "swish2"}, "hidden_act must be one of silu, relu, gelu"),
    ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor must be 1"),
    ("llama", {"rope_theta": -1}, "rope_theta must be a positive number"),
    ("llama", {"quantization_config": {"quant_method": "hqq"}}, "quant_method must be one of gptq, awq"),
    ("llama", {"quantization_config": 3}, "quant_method must be one of gptq, awq"),
    ("opt", {"word_embed_proj_dim": 32}, "word_embed_proj_dim must be hidden_size"),
    ("opt", {"max_position_embeddings": 64}, r"must have shape \(66, 64\), not \(130, 64\)"),
])
def test_what_is_not_supported_is_one_line(kind, config, message, tmp_path):
    with pytest.raises(InputError, match=message) as caught:
        open_model(_folder(tmp_path, kind, config=config))
    assert "\n" not in str(caught.value)


def test_arrays_without_a_role(tmp_path):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    assert open_model(_folder(tmp_path, "llama", _arrays("llama") | extra)).model.layers == LAYERS
    for name, message in (
        ("model.layers.0.mlp.experts.0.w1.weight", "'model.layers.0.mlp.experts.0.w1.weight' has none"),
        ("model.layers.0.self_attn.q_proj.bias", "q_proj.bias' must be zero, because the model has no such bias"),
    ):
        with pytest.raises(InputError, match=message):
            open_model(_folder(tmp_path, "llama", _arrays("llama") | {name: np.ones(HIDDEN, np.float16)}))


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(InputError, match=r"must be readable: No such file or directory: .*config\.json"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="what should be JSON is not"):
        open_model(tmp_path)
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(InputError, match="must be named by its folder"):
        open_model(tmp_path / "x.safetensors")
