"""A decoder LLM as an accelerator sees it: dimensions, and the weight matrices they imply."""

import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dimensions and block structure of a decoder-only transformer.

    ``hidden``          width of the residual stream.
    ``heads``           query heads; ``kv_heads`` key and value heads (fewer: grouped-query attention).
    ``ffn``             inner width of the feed-forward network; ``ffn_kind`` ``gated`` has gate, up and down
                        projections, ``plain`` has up and down.
    ``rope_theta``      base of the rotary embedding; 0: learned positions, no rotation.
    ``tied_head``       the LM head is the embedding matrix.
    ``biases``          every linear of the blocks has a bias vector; ``biased`` names those that have one otherwise.
    ``qk_norm``         queries and keys are normalised per head before the rotation.
    ``post_norms``      the outputs of attention and feed-forward network are normalised before the residual.
    ``attention_cap``   scores s become c tanh(s / c); 0: not. ``logit_cap`` the same for the logits.
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
    biases: bool = False
    biased: tuple[str, ...] = ()
    qk_norm: bool = False
    post_norms: bool = False
    attention_cap: float = 0.0
    logit_cap: float = 0.0

    def __post_init__(self) -> None:
        for field in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab", "context_length"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} must be at least 1, not {getattr(self, field)}, in model {self.name!r}")
        if self.heads % self.kv_heads:
            raise InputError(
                f"heads must be a multiple of kv_heads: {self.heads} is none of {self.kv_heads}, in {self.name!r}"
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

    def linear_weights(self) -> int:
        """Number of weights that every token multiplies: all blocks and the LM head."""
        return self.layers * sum(n * k for n, k in self.block_linears().values()) + self.vocab * self.hidden


@functools.cache
def models() -> dict[str, Model]:
    """The preset models, by name."""
    path = Path(__file__).with_name("models.toml")
    tables = read_toml(path)
    return {name: convert({"name": name, **table}, Model, f"{path.name} [{name}]") for name, table in tables.items()}


def model_named(name: str) -> Model:
    """The preset model ``name``."""
    if name not in models():
        raise InputError(f"MODEL must be a .gguf file or one of {', '.join(models())}, not {name!r}")
    return models()[name]
