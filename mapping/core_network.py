"""A trace as the fused layers of a core: the linears of every layer, and what is fused to them.

Views do not exist in a trace. Softmax is fused to the scores, RoPE and the quantisation of queries, keys and values to
their linears, activation and product to gate and up, residual additions to o and down.
"""

from typing import Literal

import msgspec

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.mapping.homes import FP32_BYTES
from mixflight.workloads.operators import Operator
from mixflight.workloads.trace import Trace

BLOCK_LINEARS = ("k", "v", "q", "o", "gate", "up", "down")
"""In order of execution: keys and values first, so that they reach memory while queries are computed."""

_INPUTS = {
    "k": "attention_input_quantise", "v": "attention_input_quantise", "q": "attention_input_quantise",
    "o": "attention_output_quantise", "gate": "ffn_input_quantise", "up": "ffn_input_quantise",
    "down": "ffn_hidden_quantise",
}  # fmt: skip

LAYER_OPERATORS = (
    "embed", "positions", "attention_norm", "attention_input_quantise", "q", "k", "v", "q_norm", "k_norm", "rope_q",
    "rope_k", "kv_append", "query_quantise", "qk", "attention_cap", "softmax", "probability_quantise", "av",
    "attention_output_quantise", "o", "attention_post_norm", "attention_residual", "ffn_norm", "ffn_input_quantise",
    "gate", "up", "ffn_activation", "ffn_hidden_quantise", "down", "ffn_post_norm", "ffn_residual", "final_norm",
    "head_input_quantise", "head", "logit_cap",
)  # fmt: skip
"""Operators that the fused layers stand for; biases are added to their linears and norms."""

NORMS = ("attention_norm", "attention_post_norm", "ffn_norm", "ffn_post_norm", "final_norm")


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """One weight matrix (n outputs, k inputs): formats, and ``keep_n`` weights kept of each 16 along k (16: dense).

    ``static``: the scale of its input is known beforehand.
    """

    name: str
    n: int
    k: int
    weight: Format
    act: Format
    keep_n: int = 16
    bias: bool = False
    static: bool = False

    @property
    def without_bits(self) -> "Linear":
        """The same with any number of bits: what a text is shared by."""
        weight = self.weight
        if weight.table or weight.packed_bits or weight.two_level or weight.offset:
            return self
        return msgspec.structs.replace(self, weight=msgspec.structs.replace(weight, name="", bits=8, kind="int"))


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What the layers of a trace have in common, and the linears of each.

    ``queries`` heads share a KV head; ``norm_bytes`` the weights of a norm, ``embedding`` the table of tokens.
    ``activation`` and ``norm`` are operations of the SFU; a ``layernorm`` has a bias. ``positions``: learned ones are
    added to the embedding. Caps are soft caps of scores and logits. ``density``: share of the causal
    pairs of a prefill that is computed, by layer; ``masked``: the program leaves out blocks of them.
    """

    model: str
    phase: str
    batch: int
    tokens: int
    context: int
    hidden: int
    kv_heads: int
    queries: int
    head_dim: int
    ffn: int
    layers: tuple[dict[str, Linear], ...]
    head: Linear
    key: Format
    value: Format
    query: Format
    rope: bool
    head_norm_bytes: int
    norm_bytes: int
    embedding: Format
    activation: str
    post_norms: bool
    attention_cap: bool
    logit_cap: bool
    norm: Literal["norm", "layernorm"] = "norm"
    positions: bool = False
    static_query: bool = False
    density: tuple[float, ...] = ()
    masked: bool = False

    @property
    def embedding_bytes(self) -> int:
        """Bytes of a row of the embedding."""
        return self.embedding.row_bits(self.hidden) // 8

    @property
    def embedding_stride(self) -> int:
        """Bytes from one row of the embedding to the next: whole lines."""
        return -(-self.embedding_bytes // LINE_BYTES) * LINE_BYTES

    def embedded_bytes(self, rows: int) -> int:
        """Bytes of ``rows`` rows of the embedding, each from a line on, and of their learned positions behind them."""
        if self.positions:
            return rows * (self.embedding_stride + self.position_bytes)
        return (rows - 1) * self.embedding_stride + self.embedding_bytes

    @property
    def position_bytes(self) -> int:
        """Bytes of a learned position; 0 where there are none."""
        return self.hidden * FP32_BYTES if self.positions else 0

    def table_bytes(self, context: int) -> int:
        """Bytes of the embedding with all its rows, and of the learned positions of ``context`` tokens behind it."""
        return self.head.n * self.embedding_stride + context * self.position_bytes

    @property
    def norm_parameters(self) -> int:
        """Vectors that come with a norm: its weights, and a bias."""
        return 2 if self.norm == "layernorm" else 1

    @property
    def capped(self) -> bool:
        """Whether anything has a soft cap."""
        return self.attention_cap or self.logit_cap

    @property
    def rows(self) -> int:
        """Rows of every linear of the blocks."""
        return self.batch * self.tokens

    @property
    def heads_width(self) -> int:
        """Elements of all query heads together."""
        return self.kv_heads * self.queries * self.head_dim

    def runs(self) -> list[tuple[int, int]]:
        """(First layer, number) of neighbouring layers that are alike in all but the bits of their weights."""
        found: list[tuple[int, int]] = []
        plain = [tuple(item.without_bits for item in layer.values()) for layer in self.layers]
        for index in range(len(self.layers)):
            if found and plain[found[-1][0]] == plain[index]:
                found[-1] = found[-1][0], found[-1][1] + 1
            else:
                found.append((index, 1))
        return found


def network_of(trace: Trace, *, sparse: bool = True) -> Network:
    """The fused layers of ``trace``; not ``sparse``: N:M weights are stored and multiplied as dense ones."""
    by_name: dict[str, list[Operator]] = {}
    for item in trace.operators:
        by_name.setdefault(item.name, []).append(item)
    _refuse_others(by_name, trace.model)
    qk, av = by_name["qk"][0], by_name["av"][0]
    biased = {name.removesuffix("_bias") for name in by_name if name.endswith("_bias")}
    layers: list[dict[str, Linear]] = [{} for _ in range(1 + max(max(item.layers) for item in by_name["o"]))]
    for name in BLOCK_LINEARS:
        for item in by_name.get(name, []):
            for layer in item.layers:
                layers[layer][name] = _linear(item, sparse, name in biased, _static(by_name, _INPUTS[name]))
    embed = by_name["embed"][0]
    assert embed.weight is not None
    assert qk.weight is not None
    assert qk.act is not None
    assert av.weight is not None
    if trace.phase == "decode" and any(item.n != trace.context for item in by_name["qk"]):
        raise InputError(f"a token must see the whole context on a FlightLLM core, but {trace.model} does not see all "
                         f"{trace.context} tokens")  # fmt: skip
    norms = {item.kind for name in NORMS for item in by_name.get(name, [])}
    if len(norms) != 1 or any(item.kind != "norm" for name in ("q_norm", "k_norm") for item in by_name.get(name, [])):
        raise InputError(f"norms must be of one kind on a FlightLLM core, and RMSNorm of heads, in {trace.model}")
    if any(item.act is None or item.act.kind != "int" for item in trace.operators if item.is_matrix):
        raise InputError(f"activations must be integers on a FlightLLM core, in the recipe of {trace.model}")
    activation = by_name["ffn_activation"][0]
    densities = {layer: item.density for item in by_name["qk"] for layer in item.layers}
    return Network(
        model=trace.model, phase=trace.phase, batch=trace.batch, tokens=trace.tokens, context=trace.context,
        hidden=by_name["final_norm"][0].n, kv_heads=qk.count // trace.batch, queries=qk.m // trace.tokens,
        head_dim=qk.k, ffn=activation.n, layers=tuple(layers), head=_linear(
            by_name["head"][0], sparse, False, _static(by_name, "head_input_quantise")
        ),
        key=qk.weight, value=av.weight, query=qk.act, rope="rope_q" in by_name,
        head_norm_bytes=by_name["q_norm"][0].parameter_bytes if "q_norm" in by_name else 0,
        norm_bytes=by_name["final_norm"][0].parameter_bytes,
        embedding=embed.weight,
        activation=f"activation:{activation.variant}", post_norms="attention_post_norm" in by_name,
        attention_cap="attention_cap" in by_name, logit_cap="logit_cap" in by_name,
        norm="layernorm" if norms == {"layernorm"} else "norm", positions="positions" in by_name,
        static_query=_static(by_name, "query_quantise"), density=tuple(densities[layer] for layer in sorted(densities)),
    )  # fmt: skip


def _refuse_others(by_name: dict[str, list[Operator]], model: str) -> None:
    """Refuse traces with operators that the fused layers have no place for, or without those that they are made of."""
    biases = {f"{name}_bias" for name in (*BLOCK_LINEARS, *NORMS)}
    others = [name for name in by_name if name not in LAYER_OPERATORS and name not in biases]
    if others:
        raise InputError(
            f"a FlightLLM core must run the layers of a plain decoder, not operator {others[0]!r} of {model}"
        )
    lacking = [
        name for name in ("embed", "q", "k", "v", "o", "up", "down", "final_norm", "head") if name not in by_name
    ]
    if lacking:
        raise InputError(f"a FlightLLM core must run a whole decoder: {model} has no operator {lacking[0]!r}")


def _static(by_name: dict[str, list[Operator]], quantise: str) -> bool:
    return quantise in by_name and by_name[quantise][0].variant == "static"


def _linear(item: Operator, sparse: bool, bias: bool, static: bool) -> Linear:
    assert item.weight is not None
    assert item.act is not None
    keep = 16
    if sparse and item.keep_m:
        if 16 % item.keep_m:
            raise InputError(f"blocks of N:M weights must divide 16, not be {item.keep_m}, in {item.name!r}")
        keep = item.keep_n * 16 // item.keep_m
    return Linear(name=item.name, n=item.n, k=item.k, weight=item.weight, act=item.act, keep_n=keep, bias=bias,
                  static=static)  # fmt: skip
