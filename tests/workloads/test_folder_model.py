import json

import gguf
import numpy as np
import pytest
import safetensors_files as files
from model_folders import (
    ACTIVE,
    CONFIGS,
    EXPERT_FFN,
    EXPERTS,
    FFN,
    HEAD,
    HEADS,
    HIDDEN,
    KV,
    KV_HEADS,
    LAYERS,
    MIXTURES,
    PHI3,
    SHARED,
    TIED,
    VOCAB,
    arrays_of,
    dense,
)

from mixflight.arch.errors import InputError
from mixflight.workloads import gguf_families
from mixflight.workloads.file_recipe import recipe_of
from mixflight.workloads.folder_families import FAMILIES
from mixflight.workloads.model_file import open_model
from mixflight.workloads.trace import decode_traces, prefill_trace


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
    "dense": (dense, None), "gptq": (_gptq, {"quant_method": "gptq", "bits": 4, "group_size": 32}),
    "awq": (_awq, {"quant_method": "awq", "version": "gemm"}),
    "packed": (
        _packed,
        {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": {"num_bits": 4}}}},
    ),
    "nf4": (_nf4, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    "sparse": (_sparse, {"quant_method": "compressed-tensors"}),
}


def _folder(path, kind, arrays=None, config=None, shards=1):
    arrays = arrays_of(kind) if arrays is None else arrays
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
    model, plain = stored.model, kind in ("opt", "gpt2")
    assert (model.layers, model.hidden, model.heads, model.kv_heads) == (LAYERS, HIDDEN, HEADS, HEADS if plain else KV_HEADS)
    assert (model.head_dim, model.vocab, model.context_length) == (HEAD, VOCAB, 128)
    assert model.ffn == (4 * HIDDEN if kind == "gpt2" else FFN)
    assert (model.tied_head, model.biases, model.rope_theta) == (kind in TIED, plain, 0 if plain else 5e5)
    assert model.activation == ("relu" if kind == "opt" else "gelu" if kind == "gpt2" or "gemma" in kind else "silu")
    (step,) = decode_traces(model, recipe_of("as-stored", stored), 10, 1)
    experts = [weight.nbytes for name, weight in stored.linears.items()
               if kind in MIXTURES and name.endswith((".gate", ".up", ".down")) and ".shared." not in name]
    unread = sum(experts) * (EXPERTS - ACTIVE) // EXPERTS
    assert step.weight_bytes == sum(weight.nbytes for weight in stored.linears.values()) - unread
    assert {op.weight.name for op in step.operators if op.kind == "linear"} == {"f16"}
    names = {op.name for op in step.operators}
    assert ("q_norm" in names) == ("qwen3" in kind or "gemma3" in kind)
    assert ("ffn_post_norm" in names) == ("gemma" in kind)
    assert ("q_bias" in names) == (plain or "qwen2" in kind)
    assert ("router" in names) == (kind in MIXTURES)
    assert ("shared_gate" in names) == ("shared.up" in names) == (kind == "qwen2_moe")


def test_a_mixture_is_the_preset_of_its_dimensions(tmp_path):
    """The trace of a folder is that of a model described by hand, operator by operator."""
    from mixflight.workloads.model import Model
    from mixflight.workloads.recipe import recipe_named

    stored = open_model(_folder(tmp_path, "qwen2_moe"))
    wanted = Model(
        name=stored.model.name, summary="", source="", layers=LAYERS, hidden=HIDDEN, heads=HEADS, kv_heads=KV_HEADS,
        head_dim=HEAD, ffn=FFN, vocab=VOCAB, context_length=128, experts=EXPERTS, active_experts=ACTIVE,
        expert_ffn=EXPERT_FFN, shared_experts=SHARED, shared_gate=True, biased=("q", "k", "v"),
    )  # fmt: skip
    recipe = recipe_named("fp16")
    assert prefill_trace(stored.model, recipe, 20) == prefill_trace(wanted, recipe, 20)
    assert list(decode_traces(stored.model, recipe, 20, 3)) == list(decode_traces(wanted, recipe, 20, 3))


@pytest.mark.parametrize("packing", ["gptq", "awq", "packed", "nf4", "sparse"])
@pytest.mark.parametrize("kind", MIXTURES)
def test_experts_are_read_in_every_packing(kind, packing, tmp_path):
    linear, quantiser = PACKINGS[packing]
    stored = open_model(_folder(tmp_path, kind, arrays_of(kind, linear), {"quantization_config": quantiser}))
    up = stored.linears["layers.1.up"]
    n = up.shape[1]
    assert up.shape == (EXPERTS, FFN if kind == "mixtral" else EXPERT_FFN, HIDDEN)
    assert np.array_equal(up.dequantise([2 * n, 4 * n + 1, 0]), np.concatenate(
        [up.experts[expert].dequantise([row]) for expert, row in ((2, 0), (4, 1), (0, 0))]
    ))
    assert up.dequantise().shape == (EXPERTS * n, HIDDEN)
    assert up.dequantise([]).shape == (0, HIDDEN)
    assert up.nbytes == EXPERTS * up.experts[0].nbytes
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 10, 1)
    formats = {op.name: op.weight.name for op in step.operators if op.kind == "linear"}
    assert formats["up"] == formats["q"] == up.format.name
    assert formats["router"] == "f16"


GGUF = {  # the architecture of each family in the reference package's other format
    "llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3", "gpt2": "gpt2",
}


@pytest.mark.parametrize("kind", GGUF)
def test_names_are_those_of_the_reference_package(kind):
    """The gguf package's table of published names gives, role by role, the names that the GGUF reader looks for."""
    family, wanted = FAMILIES[kind], gguf_families.FAMILIES[GGUF[kind]]
    architecture = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == GGUF[kind])
    names = gguf.get_tensor_name_map(architecture, LAYERS)

    def known(name):
        return names.get_name(family.roots[0] + family.blocks.format(1) + name).removeprefix("blk.1.")

    pairs = [*family.linears.items()]
    mixture = family.mixture
    if mixture:
        pairs = [(role, name) for role, name in pairs if role in "qkvo"]
        assert {role: known(name.replace(".{}", "")) for role, name in mixture.experts.items()} == gguf_families.EXPERTS
        assert known(mixture.router) == gguf_families.ROUTER
        if mixture.shared:
            assert {role: known(name) for role, name in mixture.shared.items()} == gguf_families.SHARED_EXPERTS
            assert known(mixture.shared_gate) == gguf_families.SHARED_GATE
    assert [known(name) for _, name in pairs] == [wanted.linears[role] for role, _ in pairs]
    assert {known(name) for name in (*family.norms, *family.head_norms)} == {*wanted.norms, *wanted.head_norms}
    assert names.get_name(family.roots[0] + family.embedding) == "token_embd"
    assert names.get_name(family.roots[0] + family.final_norm) == "output_norm"
    assert (family.biased, len(family.norms)) == (wanted.biased, len(wanted.norms))


def test_experts_of_several_formats_are_refused(tmp_path):
    arrays = arrays_of("qwen3_moe")
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    with pytest.raises(InputError, match=r"must have one format, not f16 of expert 0 and f32 of expert 3, in weight .*up_proj"):
        open_model(_folder(tmp_path, "qwen3_moe", arrays | {name: arrays[name].astype(np.float32)}))


def test_fused_and_transposed_matrices(tmp_path):
    rng = np.random.default_rng(3)
    fused = rng.normal(size=PHI3["self_attn.qkv_proj"]).astype(np.float16)
    name = "model.layers.0.self_attn.qkv_proj.weight"
    stored = open_model(_folder(tmp_path, "phi3", arrays_of("phi3") | {name: fused}))
    parts = [stored.linears[f"layers.0.{role}"] for role in "qkv"]
    assert [part.shape for part in parts] == [(HIDDEN, HIDDEN), (KV, HIDDEN), (KV, HIDDEN)]
    assert np.array_equal(np.concatenate([part.dequantise() for part in parts]), fused)
    assert np.array_equal(parts[2].dequantise([-1]), fused[-1:])
    assert sum(part.nbytes for part in parts) == fused.nbytes
    assert parts[1].name == f"{name}[{HIDDEN}:{HIDDEN + KV}]"
    fused = rng.normal(size=(HIDDEN, 3 * HIDDEN)).astype(np.float16)  # inputs first
    name = "transformer.h.1.attn.c_attn.weight"
    masks = {f"transformer.h.{i}.attn.bias": np.ones((1, 1, 128, 128), np.uint8) for i in range(LAYERS)}
    stored = open_model(_folder(tmp_path, "gpt2", arrays_of("gpt2") | masks | {name: fused}))
    value = stored.linears["layers.1.v"]
    assert np.array_equal(value.dequantise([0, 5]), fused.T[[2 * HIDDEN, 2 * HIDDEN + 5]])
    assert (value.shape, value.format.name, value.nbytes) == ((HIDDEN, HIDDEN), "f16", 2 * HIDDEN * HIDDEN)


def test_what_encodes_images_is_another_model(tmp_path):
    extra = {"vision_tower.patch.weight": np.ones((4, 4), np.float16), "multi_modal_projector.w": np.ones(4, np.float16)}
    assert open_model(_folder(tmp_path, "gemma3", arrays_of("gemma3") | extra)).model.layers == LAYERS
    with pytest.raises(InputError, match=r"'vision_tower.patch.weight' has none"):
        open_model(_folder(tmp_path, "gemma3_text", arrays_of("gemma3_text") | extra))


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_model_traces(packing, tmp_path):
    linear, quantiser = PACKINGS[packing]
    stored = open_model(_folder(tmp_path, "llama", arrays_of("llama", linear), {"quantization_config": quantiser}))
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 10, 1)
    formats = {op.weight.name for op in step.operators if op.kind == "linear" and op.name != "head"}
    assert formats == {
        {"dense": "f16", "gptq": "uint4-g32-z4", "awq": "uint4-g32-z4", "packed": "int4-g32-f32", "nf4": "nf4-g64-f32",
         "sparse": "f16-2of4"}[packing]
    }  # fmt: skip
    sample = stored.linears["layers.1.up"].dequantise([0, 5])
    assert sample.shape == (2, HIDDEN)
    assert sample.max() == 1


def test_a_tied_head_is_the_embedding(tmp_path):
    arrays = {name: array for name, array in arrays_of("llama").items() if not name.startswith("lm_head")}
    stored = open_model(_folder(tmp_path, "llama", arrays, {"tie_word_embeddings": True}))
    assert stored.linears["head"] is stored.embedding
    with pytest.raises(InputError, match="whose head is not tied must hold lm_head.weight"):
        open_model(_folder(tmp_path, "llama", arrays))


@pytest.mark.parametrize(("kind", "config", "window", "everywhere"), [
    ("mistral", {"sliding_window": 32}, 32, ()),
    ("mistral", {"sliding_window": None}, 0, ()),
    ("mixtral", {"sliding_window": 32}, 32, ()),
    ("phi3", {"sliding_window": 31}, 31, ()),
    ("gemma2", {"sliding_window": 32}, 32, (1,)),
    ("gemma3_text", {"sliding_window": 32}, 32, ()),
    ("gemma3_text", {"sliding_window": 32, "sliding_window_pattern": 2}, 32, (1,)),
    ("gemma3_text", {"sliding_window": 32, "layer_types": ["full_attention", "sliding_attention"]}, 32, (0,)),
    ("qwen2", {"sliding_window": 32}, 0, ()),
    ("qwen2", {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 1}, 32, (0,)),
    ("qwen3_moe", {"sliding_window": 32, "use_sliding_window": True, "max_window_layers": 9}, 0, ()),
    ("llama", {"sliding_window": 32}, 0, ()),
])
def test_windows(kind, config, window, everywhere, tmp_path):
    stored = open_model(_folder(tmp_path, kind, config=config))
    assert (stored.model.window, stored.model.global_layers) == (window, everywhere)
    (step,) = decode_traces(stored.model, recipe_of("as-stored", stored), 99, 1)
    seen = {layer: op.n for op in step.operators if op.kind == "qk" for layer in op.layers}
    assert seen == {layer: 100 if not window or layer in everywhere else window for layer in range(LAYERS)}


@pytest.mark.parametrize(("kind", "config", "message"), [
    ("llama", {"model_type": "olmoe"}, "model_type must be one of llama, mistral, mixtral, qwen2, .*, not 'olmoe'"),
    ("llama", {"model_type": "mixtral"}, "num_local_experts must be an integer in 1"),
    ("mixtral", {"num_experts_per_tok": 9}, "num_experts_per_tok must be at most the 5 experts, not 9"),
    ("mixtral", {"num_local_experts": 6}, r"weight must have shape \(6, 64\), not \(5, 64\)"),
    ("qwen2_moe", {"mlp_only_layers": [0]}, "every layer must have experts: decoder_sparse_step 1 and mlp_only_layers empty"),
    ("qwen2_moe", {"decoder_sparse_step": 2}, "every layer must have experts"),
    ("qwen2_moe", {"shared_expert_intermediate_size": 33}, "as wide as a whole number of experts of 64, not 33"),
    ("qwen2", {"qkv_bias": False}, "qkv_bias must be true"),
    ("gemma3_text", {"layer_types": ["full_attention"]}, "layer_types must be one of full_attention, sliding_attention for"),
    ("gemma3", {"text_config": 3}, "text_config must be a table"),
    ("gpt2", {"n_head": 7}, "n_embd must be a multiple of n_head: 64 is none of 7"),
    ("gpt2", {"n_positions": 64}, r"weight must have shape \(64, 64\), not \(128, 64\)"),
    ("llama", {"hidden_size": "64"}, "hidden_size must be an integer in 1"),
    ("llama", {"hidden_size": True}, "hidden_size must be an integer in 1"),
    ("llama", {"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
    ("llama", {"num_key_value_heads": 3}, "heads must be a multiple of kv_heads"),
    ("llama", {"num_hidden_layers": 10**8}, "num_hidden_layers must be at most the number of arrays, 21"),
    ("llama", {"num_hidden_layers": 3}, "must hold array 'model.layers.2.input_layernorm.weight'"),
    ("llama", {"num_hidden_layers": 1}, "'model.layers.1.input_layernorm.weight' has none"),
    ("llama", {"intermediate_size": 96}, r"weight must have shape \(96, 64\), not \(128, 64\)"),
    ("llama", {"attention_bias": True}, "attention_bias and mlp_bias must be false"),
    ("llama", {"hidden_act": "swish2"}, "hidden_act must be one of silu, relu, gelu, gelu_new, gelu_pytorch_tanh"),
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
    assert open_model(_folder(tmp_path, "llama", arrays_of("llama") | extra)).model.layers == LAYERS
    for name, message in (
        ("model.layers.0.mlp.experts.0.w1.weight", "'model.layers.0.mlp.experts.0.w1.weight' has none"),
        ("model.layers.0.self_attn.q_proj.bias", "q_proj.bias' must be zero, because the model has no such bias"),
    ):
        with pytest.raises(InputError, match=message):
            open_model(_folder(tmp_path, "llama", arrays_of("llama") | {name: np.ones(HIDDEN, np.float16)}))


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(InputError, match=r"must be readable: No such file or directory: .*config\.json"):
        open_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="what should be JSON is not"):
        open_model(tmp_path)
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(InputError, match="must be named by its folder"):
        open_model(tmp_path / "x.safetensors")


@pytest.mark.parametrize(("row", "byte", "bits", "message"), [
    (100, 3, 0b0101_0111, "not 3 at row 100, columns 24 to 27"),
    (127, 7, 0b0001_0101, "not 1 at row 127, columns 60 to 63"),
])
def test_a_mask_that_is_not_two_of_four_is_no_model(row, byte, bits, message, tmp_path, monkeypatch):
    """Nothing of the weight is asked for: the mask says which products there are."""
    monkeypatch.setattr("mixflight.workloads.packed_weights.MASK_BYTES", 1024)
    arrays = arrays_of("llama", _sparse)
    mask = arrays["model.layers.0.mlp.up_proj.weight.bitmask"]
    mask[row, byte] = bits
    with pytest.raises(InputError, match=f"a 2:4 mask must have 2 values in each 4, {message}, in weight 'model.layers.0"):
        open_model(_folder(tmp_path, "llama", arrays, {"quantization_config": PACKINGS["sparse"][1]}))
