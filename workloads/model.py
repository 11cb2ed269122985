"""A decoder LLM as an accelerator sees it: dimensions, and the weight matrices they imply."""

import difflib
import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

MIXED = ("gate", "up", "down")  # of a block's linears, those that experts have


class TowerOf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Another preset model that runs before the prefill over ``tokens`` tokens, ``times`` of them (tiles, frames).

    ``layers``  of it that run; 0: all. ``decode``: tokens that it generates then, one after the other.
    ``proportional``: the tokens are a share of the prefill's; ``repeated``: ``times`` is.
    """

    name: str
    model: str
    tokens: float
    times: float = 1
    layers: int = 0
    decode: int = 0
    proportional: bool = False
    repeated: bool = False


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dimensions and block structure of a transformer.

    ``hidden``          width of the residual stream.
    ``heads``           query heads; ``kv_heads`` key and value heads (fewer: grouped-query attention).
    ``ffn``             inner width of the feed-forward network; ``ffn_kind`` ``gated`` has gate, up and down
                        projections, ``plain`` has up and down.
    ``rope_theta``      base of the rotary embedding; 0: learned positions, no rotation.
    ``tied_head``       the LM head is the embedding matrix.
    ``embedding_scale`` what the embedded vectors are multiplied by.
    ``biases``          every linear of the blocks has a bias vector; ``biased`` names those that have one otherwise.
    ``qk_norm``         queries and keys are normalised per head before the rotation.
    ``post_norms``      the outputs of attention and feed-forward network are normalised before the residual.
    ``attention_cap``   scores s become c tanh(s / c); 0: not. ``logit_cap`` the same for the logits.
    ``kind``            a ``decoder``, or an ``encoder`` that sees all tokens at once and never decodes; its ``vocab``
                        is 0 where it has no head.
    ``patch_inputs``    inputs of the linear that embeds a patch (images, latents); 0: tokens are looked up.
    ``experts``         FFNs of a layer, of width ``expert_ffn``, of which a router picks ``active_experts`` for each
                        token; 0: one FFN. ``shared_experts`` are FFNs of the same width that every token passes;
                        with ``shared_gate`` a linear of one output, through a sigmoid, scales what they make.
    ``window``          tokens that a query sees; every ``global_every``-th layer (0: none) and ``global_layers`` see
                        all.
    ``visual_tokens``   of a prompt that come from images or frames; ``towers`` what computes them.
    ``source``          where the dimensions come from.
    """

    name: str
    summary: str
    source: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    context_length: int
    ffn_kind: Literal["gated", "plain"] = "gated"
    activation: Literal["silu", "relu", "gelu"] = "silu"
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_epsilon: float = 1e-5
    rope_theta: float = 10000.0
    tied_head: bool = False
    embedding_scale: float = 1.0
    biases: bool = False
    biased: tuple[str, ...] = ()
    qk_norm: bool = False
    post_norms: bool = False
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    kind: Literal["decoder", "encoder"] = "decoder"
    patch_inputs: int = 0
    experts: int = 0
    active_experts: int = 0
    shared_experts: int = 0
    shared_gate: bool = False
    expert_ffn: int = 0
    window: int = 0
    global_every: int = 0
    global_layers: tuple[int, ...] = ()
    visual_tokens: int = 0
    towers: tuple[TowerOf, ...] = ()

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context_length"):
            if field == "vocab" and self.kind == "encoder":
                continue
            if getattr(self, field) < 1:
                raise InputError(f"{field} must be at least 1, not {getattr(self, field)}, in model {self.name!r}")
        if self.heads % self.kv_heads:
            raise InputError(
                f"heads must be a multiple of kv_heads: {self.heads} is none of {self.kv_heads}, in {self.name!r}"
            )
        if self.experts and not (0 < self.active_experts <= self.experts and self.expert_ffn > 0):
            raise InputError(
                f"a model with experts must say expert_ffn and active_experts of {self.experts}, in {self.name!r}"
            )

    @property
    def queries_per_kv_head(self) -> int:
        """Query heads that share one key and value head."""
        return self.heads // self.kv_heads

    def block_linears(self) -> dict[str, tuple[int, int]]:
        """Weight matrices of one block in order of execution: name -> (N outputs, K inputs)."""
        attention = self.heads * self.head_dim
        kv = self.kv_heads * self.head_dim
        linears = {
            "q": (attention, self.hidden),
            "k": (kv, self.hidden),
            "v": (kv, self.hidden),
            "o": (self.hidden, attention),
        }
        if self.ffn_kind == "gated":
            linears["gate"] = (self.ffn, self.hidden)
        linears["up"] = (self.ffn, self.hidden)
        linears["down"] = (self.hidden, self.ffn)
        return linears

    def expert_linears(self, count: int = 1) -> dict[str, tuple[int, int]]:
        """Weight matrices of ``count`` experts side by side, as ``block_linears``."""
        width = count * self.expert_ffn
        shapes = {"gate": (width, self.hidden), "up": (width, self.hidden), "down": (self.hidden, width)}
        return {role: shapes[role] for role in MIXED if role in self.block_linears()}

    def linear_weights(self) -> int:
        """Number of weights that every token of a model without experts multiplies: all blocks and the LM head."""
        return self.layers * sum(n * k for n, k in self.block_linears().values()) + self.vocab * self.hidden


@functools.cache
def models() -> dict[str, Model]:
    """The preset models, by name."""
    first = Path(__file__).with_name("models.toml")
    return {
        name: convert({"name": name, **table}, Model, f"{path.name} [{name}]")
        for path in (first, *sorted(Path(__file__).with_name("models").glob("*.toml")))
        for name, table in read_toml(path).items()
    }


def model_named(name: str) -> Model:
    """The preset model ``name``."""
    if name not in models():
        near = difflib.get_close_matches(name, models(), n=1, cutoff=0.0)[0]
        raise InputError(
            f"MODEL must be a .gguf file or one of {len(models())} presets (mixflight models lists them; nearest: "
            f"{near}), not {name!r}"
        )
    return models()[name]
