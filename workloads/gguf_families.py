"""What each architecture stores in a GGUF file, one row each, by the names of the reference package.

    FAMILIES  architecture to Family
"""

from typing import Literal

import msgspec


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """What an architecture stores in a block, and how it computes where families differ.

    ``linears``       role to the tensor's name; roles that share a name lie one after the other in its rows.
    ``norms``         vectors of the hidden width; ``head_norms`` of the head size.
    ``biased``        roles whose tensors have a bias.
    ``window_step``   of every ``window_step`` layers the last one attends to all tokens; 1: every layer has the window.
    ``halves``        elements i and i + h/2 of a head of h rotate together, not adjacent ones; ``local_base``: layers
                      with a window rotate by another base.
    ``scaled``        the embedding is multiplied by the root of the hidden width.
    ``experts``       whether blocks may, or must, be mixtures of experts; ``shared``: with shared experts and a gate.
    """

    linears: dict[str, str]
    norms: tuple[str, ...] = ("attn_norm", "ffn_norm")
    head_norms: tuple[str, ...] = ()
    biased: tuple[str, ...] = ()
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    activation: Literal["silu", "gelu"] = "silu"
    rotary: bool = True
    halves: bool = False
    local_base: bool = False
    scaled: bool = False
    window_step: int = 1
    experts: Literal["never", "may", "must"] = "never"
    shared: bool = False


# Of a mixture: experts are stacked to (experts, N, K); the router has an output for each.
EXPERTS = {"gate": "ffn_gate_exps", "up": "ffn_up_exps", "down": "ffn_down_exps"}
SHARED_EXPERTS = {"gate": "ffn_gate_shexp", "up": "ffn_up_shexp", "down": "ffn_down_shexp"}
ROUTER, SHARED_GATE = "ffn_gate_inp", "ffn_gate_inp_shexp"

_SEPARATE = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
    "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}  # fmt: skip
_QKV = {"q": "attn_qkv", "k": "attn_qkv", "v": "attn_qkv", "o": "attn_output"}
_HEAD_NORMS = ("attn_q_norm", "attn_k_norm")
_FOUR_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")

FAMILIES: dict[str, Family] = {
    "llama": Family(linears=_SEPARATE, experts="may"),
    "qwen2": Family(linears=_SEPARATE, biased=("q", "k", "v"), halves=True),
    "qwen2moe": Family(linears=_SEPARATE, biased=("q", "k", "v"), halves=True, experts="must", shared=True),
    "qwen3": Family(linears=_SEPARATE, head_norms=_HEAD_NORMS, halves=True),
    "qwen3moe": Family(linears=_SEPARATE, head_norms=_HEAD_NORMS, halves=True, experts="must"),
    "gemma2": Family(
        linears=_SEPARATE, norms=_FOUR_NORMS, activation="gelu", halves=True, scaled=True, window_step=2,
    ),
    "gemma3": Family(
        linears=_SEPARATE, norms=_FOUR_NORMS, head_norms=_HEAD_NORMS, activation="gelu", halves=True,
        local_base=True, scaled=True, window_step=6,
    ),
    "phi3": Family(linears=_QKV | {"gate": "ffn_up", "up": "ffn_up", "down": "ffn_down"}, halves=True),
    "gpt2": Family(
        linears=_QKV | {"up": "ffn_up", "down": "ffn_down"}, biased=("q", "k", "v", "o", "up", "down"),
        norm="layernorm", activation="gelu", rotary=False,
    ),
}  # fmt: skip
