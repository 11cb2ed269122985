import gguf
import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.gguf_families import FAMILIES
from mixflight.workloads.gguf_model import stored_model_of
from mixflight.workloads.tensor import LAYOUTS
from mixflight.workloads.trace import decode_traces, prefill_trace

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCAB = 3, 256, 4, 2, 64, 512, 40
Q, KV = HEADS * HEAD, KV_HEADS * HEAD
SEPARATE = {
    "attn_q": (Q, HIDDEN), "attn_k": (KV, HIDDEN), "attn_v": (KV, HIDDEN), "attn_output": (HIDDEN, Q),
    "ffn_gate": (FFN, HIDDEN), "ffn_up": (FFN, HIDDEN), "ffn_down": (HIDDEN, FFN),
}
FUSED = {"attn_qkv": (Q + 2 * KV, HIDDEN), "attn_output": (HIDDEN, Q), "ffn_down": (HIDDEN, FFN)}
EXPERTS, ACTIVE, EXPERT_FFN, SHARED = 6, 2, 256, 3
ATTENTION = {name: shape for name, shape in SEPARATE.items() if name.startswith("attn")}
MIXTURE = ATTENTION | {
    "ffn_gate_inp": (EXPERTS, HIDDEN), "ffn_gate_exps": (EXPERTS, EXPERT_FFN, HIDDEN),
    "ffn_up_exps": (EXPERTS, EXPERT_FFN, HIDDEN), "ffn_down_exps": (EXPERTS, HIDDEN, EXPERT_FFN),
}
SHARED_EXPERT = {
    "ffn_gate_inp_shexp": (HIDDEN,), "ffn_gate_shexp": (SHARED * EXPERT_FFN, HIDDEN),
    "ffn_up_shexp": (SHARED * EXPERT_FFN, HIDDEN), "ffn_down_shexp": (HIDDEN, SHARED * EXPERT_FFN),
}
MIXTURE_KEYS = {
    "expert_count": EXPERTS, "expert_used_count": ACTIVE, "expert_feed_forward_length": EXPERT_FFN,
    "expert_shared_feed_forward_length": SHARED * EXPERT_FFN,
}
NORMS = ("attn_norm", "ffn_norm")
POST = ("post_attention_norm", "post_ffw_norm")
# Matrices and vectors of a block, by the names of the reference package (gguf.constants.MODEL_TENSORS).
BLOCKS = {
    "llama": (SEPARATE, NORMS, ()),
    "qwen2": (SEPARATE, NORMS, ("attn_q", "attn_k", "attn_v")),
    "qwen2moe": (MIXTURE | SHARED_EXPERT, NORMS, ("attn_q", "attn_k", "attn_v")),
    "qwen3": (SEPARATE, (*NORMS, "attn_q_norm", "attn_k_norm"), ()),
    "qwen3moe": (MIXTURE, (*NORMS, "attn_q_norm", "attn_k_norm"), ()),
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
    return (MIXTURE_KEYS if family in ("qwen2moe", "qwen3moe") else {}) | {
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
            stored = np.zeros((*shape[:-1], shape[-1] // codes * size), np.uint8)
            writer.add_tensor(name, stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def test_every_family_has_its_blocks_here():
    assert list(BLOCKS) == list(FAMILIES)


def test_names_are_those_of_the_reference_package():
    """What is read of a block is what the reference package lists for the architecture, less fused and unused forms."""
    unused = {"attn_rot_embd", "attn_q", "attn_k", "attn_v"}
    for family in BLOCKS:
        architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == family)
        listed = {gguf.TENSOR_NAMES[kind] for kind in gguf.MODEL_TENSORS[architecture]}
        blocks = {name.removeprefix("blk.{bid}.") for name in listed if name.startswith("blk.")}
        ours = {*BLOCKS[family][0], *BLOCKS[family][1]} | ({*MIXTURE} if family == "llama" else set())
        assert ours <= blocks
        assert blocks - ours <= unused
        for key in MIXTURE_KEYS:
            assert getattr(gguf.Keys.LLM, key.upper()) == f"{{arch}}.{key}"


@pytest.mark.parametrize("family", [family for family in BLOCKS if "moe" not in family])
def test_a_family_traces(family, tmp_path):
    stored = stored_model_of(_write(tmp_path / "tiny.gguf", family))
    model = stored.model
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (LAYERS, HIDDEN, HEADS, KV_HEADS)
    assert (model.head_dim, model.ffn, model.vocab) == (HEAD, FFN, VOCAB)
    assert model.tied_head
    assert stored.linears["head"] is stored.embedding
    plain = family == "gpt2"
    weights = (Q + 2 * KV) * HIDDEN + HIDDEN * Q + (2 if plain else 3) * FFN * HIDDEN
    recipe = recipe_of("as-stored", stored)
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
    recipe = recipe_of("as-stored", stored)
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
    def model(family, **keys):
        keys = {key.replace("__", "."): value for key, value in keys.items()}
        return stored_model_of(_write(tmp_path / "tiny.gguf", family, keys=keys)).model

    gemma2 = model("gemma2", attention__sliding_window=64, attn_logit_softcapping=50.0, final_logit_softcapping=30.0)
    assert (gemma2.window, gemma2.global_layers) == (64, (1,))
    assert (gemma2.attention_cap, gemma2.logit_cap) == (50.0, 30.0)
    assert gemma2.post_norms
    assert not gemma2.qk_norm
    assert (gemma2.activation, gemma2.ffn_kind) == ("gelu", "gated")
    assert model("gemma3", attention__sliding_window=16).global_layers == ()
    assert model("gemma3", attention__sliding_window=16, attention__sliding_window_pattern=3).global_layers == (2,)
    assert model("llama", attention__sliding_window=64).window == 64
    assert model("llama", attention__sliding_window=64).global_layers == ()
    assert model("qwen3").qk_norm
    assert model("qwen2").biased == ("q", "k", "v")
    gpt2 = model("gpt2")
    assert (gpt2.biases, gpt2.biased, gpt2.norm, gpt2.rope_theta, gpt2.ffn_kind) == (True, (), "layernorm", 0.0, "plain")


def test_layers_with_a_window_read_no_more_than_it(tmp_path):
    stored = stored_model_of(_write(tmp_path / "tiny.gguf", "gemma2", keys={"attention.sliding_window": 16}))
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 99, 1)
    products = {op.layers: op.n for op in step.operators if op.kind == "qk"}
    assert products == {(0, 2): 16, (1,): 100}
    names = {op.name for op in step.operators}
    assert {"attention_post_norm", "ffn_post_norm"} <= names


def test_norms_of_heads_and_biases_are_traced(tmp_path):
    def names(family):
        stored = stored_model_of(_write(tmp_path / "tiny.gguf", family))
        (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 9, 1)
        return {op.name for op in step.operators}

    assert {"q_norm", "k_norm"} <= names("qwen3")
    assert {"q_bias", "k_bias", "v_bias"} == {name for name in names("qwen2") if name.endswith("_bias")}
    assert not {"q_norm", "q_bias"} & names("llama")


@pytest.mark.parametrize("family", ["llama", "qwen2moe", "qwen3moe"])
@pytest.mark.parametrize("kind", ["Q4_0", "Q4_K", "MXFP4"])
def test_a_mixture_of_experts_traces(family, kind, tmp_path):
    """One token reads the experts it picks, all of the router and the shared experts; many tokens read every expert."""
    keys, shapes = None, None
    if family == "llama":  # Mixtral: experts as wide as the feed-forward length
        matrices = {f"blk.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in MIXTURE.items()}
        shapes = {name: shape for name, shape in _shapes("llama").items() if "ffn_" not in name or "norm" in name} | matrices
        keys = {"expert_count": EXPERTS, "expert_used_count": ACTIVE, "feed_forward_length": EXPERT_FFN}
    file = _write(tmp_path / "tiny.gguf", family, shapes, keys, kind=gguf.GGMLQuantizationType[kind])
    stored = stored_model_of(file)
    model, shared = stored.model, family == "qwen2moe"
    assert (model.experts, model.active_experts, model.expert_ffn) == (EXPERTS, ACTIVE, EXPERT_FFN)
    assert (model.shared_experts, model.shared_gate) == ((SHARED, True) if shared else (0, False))
    assert stored.linears["layers.1.down"].shape == (EXPERTS, HIDDEN, EXPERT_FFN)
    if shared:  # files of either shape are about
        other = {name: (1, HIDDEN) for name in _shapes(family) if "inp_shexp" in name}
        again = stored_model_of(_write(tmp_path / "other.gguf", family, _shapes(family) | other))
        assert again.linears["layers.0.shared_gate"].shape == (1, HIDDEN)
    recipe = recipe_of("as-stored", stored)
    (step,) = decode_traces(model, recipe, 10, 1)
    always = [
        weight.nbytes for name, weight in stored.linears.items()
        if not name.endswith((".gate", ".up", ".down")) or ".shared." in name
    ]
    experts = sum(weight.nbytes for weight in stored.linears.values()) - sum(always)
    assert step.weight_bytes == sum(always) + experts * ACTIVE // EXPERTS
    matrices = Q * HIDDEN + 2 * KV * HIDDEN + HIDDEN * Q + EXPERTS * HIDDEN + 3 * ACTIVE * EXPERT_FFN * HIDDEN
    matrices += 3 * SHARED * EXPERT_FFN * HIDDEN + HIDDEN if shared else 0
    linears = sum(op.macs * len(op.layers) for op in step.operators if op.kind == "linear")
    assert linears == LAYERS * matrices + VOCAB * HIDDEN
    assert prefill_trace(model, recipe, 128).weight_bytes == sum(weight.nbytes for weight in stored.linears.values())


def test_shared_experts_keep_their_own_format(tmp_path):
    """Files store the few shared experts in more bits than the many routed ones."""
    path = tmp_path / "tiny.gguf"
    shapes = _shapes("qwen2moe")
    coarse = {name for name in shapes if "_exps" in name}
    writer = gguf.GGUFWriter(path, "qwen2moe")
    for key, value in _keys("qwen2moe").items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(f"qwen2moe.{key}", value)
    for name, shape in shapes.items():
        kind = gguf.GGMLQuantizationType["Q4_0" if name in coarse else "Q8_0"]
        if len(shape) == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, np.ones(shape, np.float32))
            continue
        writer.add_tensor(name, gguf.quants.quantize(np.ones(shape, np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored = stored_model_of(open_gguf(path))
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 10, 1)
    formats = {op.name: op.weight.name for op in step.operators if op.kind == "linear"}
    assert {formats[name] for name in ("gate", "up", "down")} == {"q4_0"}
    assert {formats[f"shared.{name}"] for name in ("gate", "up", "down")} == {"q8_0"}
    assert (formats["router"], formats["shared_gate"]) == ("f32", "f32")
    assert stored.linears["layers.0.gate"].dequantise([EXPERTS * EXPERT_FFN - 1]).tolist() == [[1.0] * HIDDEN]


@pytest.mark.parametrize(("family", "keys", "message"), [
    ("olmoe", {}, "architecture must be one of llama, qwen2, .*, not 'olmoe'"),
    ("llama", {"expert_count": 8, "expert_used_count": 2}, "must hold tensor 'blk.0.ffn_gate_inp.weight', which is missing"),
    ("qwen3", {"expert_count": 8}, "qwen3.expert_count must be 0 in a qwen3, not 8"),
    ("qwen3moe", {"expert_used_count": 7}, "qwen3moe.expert_used_count must be at most the 6 experts, not 7"),
    ("qwen3moe", {"expert_count": 0}, "'qwen3moe.expert_count' must be an integer in 1"),
    ("qwen3moe", {"expert_count": 8}, r"'blk.0.ffn_gate_inp.weight' must have shape \(8, 256\), not \(6, 256\)"),
    ("qwen2moe", {"expert_shared_feed_forward_length": 300}, "a whole number of experts of 256, not 300"),
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
    ("qwen2moe", {"blk.1.ffn_up_shexp.weight": None}, "must hold tensor 'blk.1.ffn_up_shexp.weight', which is missing"),
    ("qwen3moe", {"blk.0.ffn_up_exps.weight": (EXPERTS, HIDDEN)}, r"must have shape \(6, 256, 256\), not \(6, 256\)"),
    ("qwen3moe", {"blk.0.ffn_up_shexp.weight": (FFN, HIDDEN)}, "'blk.0.ffn_up_shexp.weight' has none"),
    ("gpt2", {"position_embd.weight": (64, HIDDEN)}, r"must have shape \(128, 256\), not \(64, 256\)"),
])
def test_tensors_that_cannot_be(family, change, message, tmp_path):
    shapes = {name: shape for name, shape in (_shapes(family) | change).items() if shape}
    with pytest.raises(InputError, match=message):
        stored_model_of(_write(tmp_path / "tiny.gguf", family, shapes))


def test_tensors_that_scale_positions_are_no_weights(tmp_path):
    shapes = _shapes("phi3") | {"rope_factors_long.weight": (16,), "rope_factors_short.weight": (16,)}
    assert len(stored_model_of(_write(tmp_path / "tiny.gguf", "phi3", shapes)).linears) == LAYERS * 7 + 1
