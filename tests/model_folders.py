"""Model folders for tests: the configuration and the arrays of each family's published checkpoints, very small."""

import numpy as np

from mixflight.workloads.folder_families import FAMILIES

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
GPT2 = {
    "model_type": "gpt2", "n_embd": HIDDEN, "n_head": HEADS, "n_layer": LAYERS, "n_inner": None, "vocab_size": VOCAB,
    "n_positions": 128, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
}
EXPERTS, ACTIVE, EXPERT_FFN, SHARED = 5, 2, 64, 3
EXPERT_KEYS = {
    "num_experts": EXPERTS, "num_experts_per_tok": ACTIVE, "moe_intermediate_size": EXPERT_FFN,
    "shared_expert_intermediate_size": SHARED * EXPERT_FFN, "decoder_sparse_step": 1, "mlp_only_layers": [],
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
PHI3 = {
    "self_attn.qkv_proj": (HIDDEN + 2 * KV, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_up_proj": (2 * FFN, HIDDEN), "mlp.down_proj": (HIDDEN, FFN),
}
GPT2_LINEARS = {
    "attn.c_attn": (3 * HIDDEN, HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN),
    "mlp.c_fc": (4 * HIDDEN, HIDDEN), "mlp.c_proj": (HIDDEN, 4 * HIDDEN),
}
ATTENTION = {name: shape for name, shape in GATED.items() if name.startswith("self_attn")}
MIXTRAL = ATTENTION | {
    f"block_sparse_moe.experts.{i}.{name}": shape for i in range(EXPERTS)
    for name, shape in {"w1": (FFN, HIDDEN), "w2": (HIDDEN, FFN), "w3": (FFN, HIDDEN)}.items()
}
QWEN_MOE = ATTENTION | {
    f"mlp.experts.{i}.{name}": shape for i in range(EXPERTS)
    for name, shape in {
        "gate_proj": (EXPERT_FFN, HIDDEN), "up_proj": (EXPERT_FFN, HIDDEN), "down_proj": (HIDDEN, EXPERT_FFN),
    }.items()
}
SHARED_EXPERT = {
    "mlp.shared_expert.gate_proj": (SHARED * EXPERT_FFN, HIDDEN), "mlp.shared_expert.up_proj": (SHARED * EXPERT_FFN, HIDDEN),
    "mlp.shared_expert.down_proj": (HIDDEN, SHARED * EXPERT_FFN),
}
MIXTURES = {"mixtral": "block_sparse_moe.gate", "qwen2_moe": "mlp.gate", "qwen3_moe": "mlp.gate"}
LINEARS = {
    "opt": PLAIN, "gpt2": GPT2_LINEARS, "phi3": PHI3, "mixtral": MIXTRAL, "qwen2_moe": QWEN_MOE | SHARED_EXPERT,
    "qwen3_moe": QWEN_MOE,
}
GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": HEAD, "tie_word_embeddings": True}
OTHERS = {
    "mixtral": {"num_local_experts": EXPERTS, "num_experts_per_tok": ACTIVE},
    "qwen2_moe": EXPERT_KEYS, "qwen3_moe": EXPERT_KEYS, "gemma2": GEMMA, "gemma3_text": GEMMA,
}


def _config(kind):
    if kind in ("opt", "gpt2"):
        return {"opt": OPT, "gpt2": GPT2}[kind]
    if kind == "gemma3":
        return {"model_type": kind, "text_config": LLAMA | GEMMA | {"model_type": "gemma3_text"}}
    return LLAMA | {"model_type": kind} | OTHERS.get(kind, {})


CONFIGS = {kind: _config(kind) for kind in FAMILIES}
TIED = ("opt", "gpt2", "gemma2", "gemma3_text", "gemma3")


def dense(prefix, shape):
    return {f"{prefix}.weight": np.ones(shape, np.float16)}


ROOTS = {"opt": "model.decoder.", "gpt2": "transformer.", "gemma3": "language_model.model."}
NORMS = {
    "opt": ("self_attn_layer_norm", "final_layer_norm"), "gpt2": ("ln_1", "ln_2"),
    "gemma": ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
}


def arrays_of(kind, linear=dense):
    """The arrays of a published checkpoint of the family, by the library's names."""
    layernorm, root = kind in ("opt", "gpt2"), ROOTS.get(kind, "model.")
    found = dense(f"{root}{'wte' if kind == 'gpt2' else 'embed_tokens'}", (VOCAB, HIDDEN))

    def norm(prefix, size=HIDDEN):
        found[f"{prefix}.weight"] = np.ones(size, np.float16)
        if layernorm:
            found[f"{prefix}.bias"] = np.ones(size, np.float16)

    if kind == "opt":
        found |= dense(f"{root}embed_positions", (130, HIDDEN))
    elif kind == "gpt2":
        found |= dense(f"{root}wpe", (128, HIDDEN))
    elif kind not in TIED:
        found |= dense("lm_head", (VOCAB, HIDDEN))
    norm(root + {"opt": "final_layer_norm", "gpt2": "ln_f"}.get(kind, "norm"))
    for layer in range(LAYERS):
        block = f"{root}{'h' if kind == 'gpt2' else 'layers'}.{layer}."
        for name in NORMS.get("gemma" if "gemma" in kind else kind, ("input_layernorm", "post_attention_layernorm")):
            norm(block + name)
        if "qwen3" in kind or "gemma3" in kind:
            norm(f"{block}self_attn.q_norm", HEAD)
            norm(f"{block}self_attn.k_norm", HEAD)
        for name, shape in LINEARS.get(kind, GATED).items():
            transposed = kind == "gpt2" and linear is dense
            found |= linear(block + name, shape[::-1] if transposed else shape)
            if layernorm or ("qwen2" in kind and name.endswith(("q_proj", "k_proj", "v_proj"))):
                found[f"{block}{name}.bias"] = np.ones(shape[0], np.float16)
        if kind in MIXTURES:  # quantisers leave the router alone
            found |= dense(block + MIXTURES[kind], (EXPERTS, HIDDEN))
        if kind == "qwen2_moe":
            found |= dense(f"{block}mlp.shared_expert_gate", (1, HIDDEN))
    return found
