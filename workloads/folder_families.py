"""What each ``model_type`` stores in a folder of safetensors, one row each, by the names of the published checkpoints.

    FAMILIES  model_type to Family
    Mixture   names of routers and experts
"""

from typing import Literal

import msgspec


class Mixture(msgspec.Struct, frozen=True, kw_only=True):
    """Names within a block: ``experts`` by role, with ``{}`` for the expert's number; ``shared`` by role."""

    router: str
    experts: dict[str, str]
    shared: dict[str, str] = {}
    shared_gate: str = ""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """Names of arrays, and what the family computes where families differ.

    ``roots``       prefixes under which all may lie; ``blocks`` holds ``{}`` for the layer.
    ``linears``     role to name; roles that share a name lie one after the other in its rows.
    ``transposed``  floats of linears are stored [K, N].
    ``keys``        which family's configuration keys hold the dimensions.
    ``tied``        whether the head is tied where the configuration does not say.
    ``window``      when ``sliding_window`` counts: ``always`` where there is one, ``asked`` with use_sliding_window.
    ``window_step`` of every ``window_step`` layers the last one sees all, where the configuration has no list; 1: none.
    ``ignored``     ends of names of arrays that hold no weight; ``other_parts`` beginnings of those of other models.
    """

    roots: tuple[str, ...] = ("model.", "")
    embedding: str = "embed_tokens"
    positions: str = ""
    blocks: str = "layers.{}."
    linears: dict[str, str]
    mixture: Mixture | None = None
    transposed: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    head_norms: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    final_norm: str = "norm"
    keys: Literal["gated", "opt", "gpt2"] = "gated"
    tied: bool = False
    window: Literal["never", "asked", "always"] = "never"
    window_step: int = 1
    ignored: tuple[str, ...] = (".rotary_emb.inv_freq",)  # tables that older exporters stored beside the blocks
    other_parts: tuple[str, ...] = ()


_ATTENTION = {
    "q": "self_attn.q_proj", "k": "self_attn.k_proj", "v": "self_attn.v_proj", "o": "self_attn.o_proj",
}  # fmt: skip
_FFN = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
_GATED = _ATTENTION | {role: f"mlp.{name}" for role, name in _FFN.items()}
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")
_QKV_BIASES = ("q", "k", "v")
_MIXTRAL_EXPERTS = {
    role: f"block_sparse_moe.experts.{{}}.{name}" for role, name in (("gate", "w1"), ("up", "w3"), ("down", "w2"))
}  # fmt: skip
_QWEN_EXPERTS = {role: f"mlp.experts.{{}}.{name}" for role, name in _FFN.items()}
_GEMMA_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
)  # fmt: skip
_GEMMA3 = Family(
    linears=_GATED, norms=_GEMMA_NORMS, head_norms=_HEAD_NORMS, tied=True, window="always", window_step=6,
)  # fmt: skip

FAMILIES: dict[str, Family] = {
    "llama": Family(linears=_GATED),
    "mistral": Family(linears=_GATED, window="always"),
    "mixtral": Family(
        linears=_GATED, window="always",
        mixture=Mixture(router="block_sparse_moe.gate", experts=_MIXTRAL_EXPERTS),
    ),
    "qwen2": Family(linears=_GATED, biased=_QKV_BIASES, window="asked"),
    "qwen2_moe": Family(
        linears=_GATED, biased=_QKV_BIASES, window="asked",
        mixture=Mixture(
            router="mlp.gate", experts=_QWEN_EXPERTS, shared_gate="mlp.shared_expert_gate",
            shared={role: f"mlp.shared_expert.{name}" for role, name in _FFN.items()},
        ),
    ),
    "qwen3": Family(linears=_GATED, head_norms=_HEAD_NORMS, window="asked"),
    "qwen3_moe": Family(
        linears=_GATED, head_norms=_HEAD_NORMS, window="asked",
        mixture=Mixture(router="mlp.gate", experts=_QWEN_EXPERTS),
    ),
    "gemma2": Family(linears=_GATED, norms=_GEMMA_NORMS, tied=True, window="always", window_step=2),
    "gemma3_text": _GEMMA3,
    # One that sees images too: its text model is traced, what encodes images is another model.
    "gemma3": msgspec.structs.replace(
        _GEMMA3, roots=("language_model.model.", "model.language_model."),
        other_parts=("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
    ),
    "phi3": Family(
        linears={
            "q": "self_attn.qkv_proj", "k": "self_attn.qkv_proj", "v": "self_attn.qkv_proj", "o": "self_attn.o_proj",
            "gate": "mlp.gate_up_proj", "up": "mlp.gate_up_proj", "down": "mlp.down_proj",
        },
        window="always",
    ),
    "opt": Family(
        roots=("model.decoder.", "decoder."), positions="embed_positions",
        linears=_ATTENTION | {"o": "self_attn.out_proj", "up": "fc1", "down": "fc2"},
        norms=("self_attn_layer_norm", "final_layer_norm"), final_norm="final_layer_norm",
        biased=("q", "k", "v", "o", "up", "down"), keys="opt", tied=True,
    ),
    "gpt2": Family(
        roots=("transformer.", ""), embedding="wte", positions="wpe", blocks="h.{}.", transposed=True,
        linears={
            "q": "attn.c_attn", "k": "attn.c_attn", "v": "attn.c_attn", "o": "attn.c_proj",
            "up": "mlp.c_fc", "down": "mlp.c_proj",
        },
        norms=("ln_1", "ln_2"), final_norm="ln_f", biased=("q", "k", "v", "o", "up", "down"), keys="gpt2", tied=True,
        ignored=(".attn.bias", ".attn.masked_bias"),  # the causal mask, which older exporters stored
    ),
}  # fmt: skip
