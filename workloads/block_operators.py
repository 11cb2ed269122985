"""Operators of a block before and after its attention product, and of what stands outside the blocks."""

import math

import msgspec

from mixflight.arch.formats import FORMATS, Format
from mixflight.workloads.expansion import F32, SHARED, Expansion, Pass, weighted
from mixflight.workloads.inserted_operators import inserted
from mixflight.workloads.layer_shape import LayerShape
from mixflight.workloads.operators import Operator


def rows_of(e: Expansion, step: Pass, layer: int) -> int:
    """Rows of the linears of ``layer``."""
    return e.batch * (step.streams * e.tokens(step, layer) + step.extra)


def norm(e: Expansion, name: str, rows: int) -> list[Operator]:
    """A norm over the residual stream, and the bias of a LayerNorm."""
    hidden, size = e.model.hidden, e.model.hidden * F32.bits // 8
    if e.model.norm == "rmsnorm":
        return [e.vector(name, "norm", rows, hidden, parameter_bytes=size)]
    return [e.vector(name, "layernorm", rows, hidden, parameter_bytes=size),
            e.vector(f"{name}_bias", "bias", rows, hidden, parameter_bytes=size)]  # fmt: skip


def _head_norm(e: Expansion, name: str, vectors: int, width: int) -> Operator:
    return e.vector(name, "norm", vectors, width, parameter_bytes=width * F32.bits // 8)


def _linear(e: Expansion, name: str, layer: int, shape: LayerShape, rows: int, inside: str = "") -> list[Operator]:
    n, k = e.linears(shape)[name]
    return e.linear(name, e.full_name(layer, inside + name), n, k, rows, reads=shape.reads_weights)


def before_attention(e: Expansion, step: Pass, layer: int, shape: LayerShape) -> list[Operator]:
    """From the block's input to the queries, keys and values."""
    rows, model = rows_of(e, step, layer), e.model
    found = inserted(e, step, layer, "layer.in", model.hidden)
    if not shape.attention:
        return found
    heads, kv = shape.heads * shape.qk_dim, shape.kv_heads * shape.qk_dim
    found += norm(e, "attention_norm", rows)
    found += inserted(e, step, layer, "qkv.in", model.hidden)
    found += e.quantise("attention_input_quantise", e.full_name(layer, "q"), rows, model.hidden)
    found += _linear(e, "q", layer, shape, rows)
    if shape.projects_kv:
        found += _linear(e, "k", layer, shape, rows) + _linear(e, "v", layer, shape, rows)
    found += inserted(e, step, layer, "q.out", heads)
    if shape.projects_kv:
        found += inserted(e, step, layer, "k.out", kv)
        found += inserted(e, step, layer, "v.out", shape.kv_heads * shape.v_dim)
    if model.qk_norm:
        found.append(_head_norm(e, "q_norm", rows * shape.heads, shape.qk_dim))
        found += [_head_norm(e, "k_norm", rows * shape.kv_heads, shape.qk_dim)] if shape.projects_kv else []
    if model.rope_theta:
        found.append(e.vector("rope_q", "rope", rows, heads))
        found += [e.vector("rope_k", "rope", rows, kv)] if shape.projects_kv else []
    found += inserted(e, step, layer, "q.post_rope", heads)
    return found + (inserted(e, step, layer, "k.post_rope", kv) if shape.projects_kv else [])


def after_attention(e: Expansion, step: Pass, layer: int, shape: LayerShape) -> list[Operator]:
    """From the attention's output to the block's."""
    rows, model = rows_of(e, step, layer), e.model
    found: list[Operator] = []
    if shape.attention:
        found += inserted(e, step, layer, "o.in", shape.heads * shape.v_dim)
        found += e.quantise("attention_output_quantise", e.full_name(layer, "o"), rows, shape.heads * shape.v_dim)
        found += _linear(e, "o", layer, shape, rows)
        found += inserted(e, step, layer, "attention.out", model.hidden)
        found += norm(e, "attention_post_norm", rows) if model.post_norms else []
        found.append(e.vector("attention_residual", "residual", rows, model.hidden))
    if shape.feed_forward:
        found += norm(e, "ffn_norm", rows)
        found += inserted(e, step, layer, "upgate.in", model.hidden)
        found += e.quantise("ffn_input_quantise", e.full_name(layer, "up"), rows, model.hidden)
        found += _mixture(e, step, layer, shape, rows) if shape.experts else _dense_ffn(e, step, layer, shape, rows)
        found += norm(e, "ffn_post_norm", rows) if model.post_norms else []
        found.append(e.vector("ffn_residual", "residual", rows, model.hidden))
    return found + inserted(e, step, layer, "layer.out", model.hidden)


def _dense_ffn(
    e: Expansion, step: Pass, layer: int, shape: LayerShape, rows: int, inside: str = ""
) -> list[Operator]:
    """One FFN, whose weights have names that begin with ``inside``."""
    found: list[Operator] = []
    for name in ("gate", "up") if e.model.ffn_kind == "gated" else ("up",):
        found += _linear(e, name, layer, shape, rows, inside)
    found += inserted(e, step, layer, "ffn.mid", shape.ffn)
    found.append(_activation(e, "ffn_activation", rows, shape.ffn))
    found += inserted(e, step, layer, "down.in", shape.ffn)
    found += e.quantise("ffn_hidden_quantise", e.full_name(layer, f"{inside}down"), rows, shape.ffn)
    return found + _linear(e, "down", layer, shape, rows, inside)


def _activation(e: Expansion, name: str, rows: int, width: int, count: int = 1) -> Operator:
    variant = f"{e.model.activation}:{e.model.ffn_kind}"
    return Operator(name=name, kind="activation", layers=(), m=rows, n=width, count=count, variant=variant)


def expert_loads(rows: int, experts: int, active: float) -> list[tuple[int, int]]:
    """(experts, rows of each) when ``rows`` tokens pick ``active`` of ``experts`` at random.

    The number of different experts is the expected one, experts (1 - (1 - active / experts)^rows), rounded; the rows
    are spread over them as evenly as whole rows can be.
    """
    total = max(1, round(rows * active))
    chosen = experts * (1 - (1 - active / experts) ** rows)
    different = min(total, max(math.ceil(active), round(chosen))) if rows > 1 else min(total, math.ceil(active))
    each, more = divmod(total, different)
    return [load for load in ((more, each + 1), (different - more, each)) if load[0] and load[1]]


def _expected_loads(rows: int, shape: LayerShape) -> list[tuple[int, int, float]]:
    """(experts, rows of each, how often they run); a single token picks its last expert in a share of the cases."""
    whole, rest = divmod(shape.active, 1)
    if rows == 1 and rest:
        return [(count, 1, often) for count, often in ((int(whole), 1.0), (1, rest)) if count]
    return [(count, each, 1.0) for count, each in expert_loads(rows, shape.experts, shape.active)]


def _mixture(e: Expansion, step: Pass, layer: int, shape: LayerShape, rows: int) -> list[Operator]:
    """Router, shared experts as one FFN of their joint width, routed experts, and the weighted sum of their outputs."""
    found = _router(e, layer, shape, rows)
    if shape.shared:
        wide = msgspec.structs.replace(shape, ffn=shape.shared * shape.ffn, experts=0)
        for operator in _dense_ffn(e, step, layer, wide, rows, SHARED):
            found.append(msgspec.structs.replace(operator, name=f"{SHARED}{operator.name}"))
        found += _shared_gate(e, layer, shape, rows) if e.model.shared_gate else []
    gated, hidden = e.model.ffn_kind == "gated", e.model.hidden
    for count, each, probability in _expected_loads(rows, shape):
        first = len(found)
        for name in ("gate", "up") if gated else ("up",):
            full = e.full_name(layer, name)
            found += e.linear(name, full, shape.ffn, hidden, each, count=count, reads=shape.reads_weights)
        found.append(_activation(e, "ffn_activation", each, shape.ffn, count))
        quantised = e.quantise("ffn_hidden_quantise", e.full_name(layer, "down"), each, shape.ffn)
        found += [msgspec.structs.replace(operator, count=count) for operator in quantised]
        full = e.full_name(layer, "down")
        found += e.linear("down", full, hidden, shape.ffn, each, count=count, reads=shape.reads_weights)
        if probability < 1:
            found[first:] = [msgspec.structs.replace(operator, probability=probability) for operator in found[first:]]
    return [*found, Operator(name="expert_sum", kind="elementwise", layers=(), m=max(1, round(rows * shape.active)),
                             n=hidden, multiplies=1, adds=1)]  # fmt: skip


def _shared_gate(e: Expansion, layer: int, shape: LayerShape, rows: int) -> list[Operator]:
    """A number a token between 0 and 1 that the shared experts' output is multiplied with."""
    full = e.full_name(layer, "shared_gate")
    found = e.linear("shared_gate", full, 1, e.model.hidden, rows, reads=shape.reads_weights)
    found.append(Operator(name="shared_sigmoid", kind="elementwise", layers=(), m=rows, n=1, table_reads=1))
    scale = Operator(name="shared_scale", kind="elementwise", layers=(), m=rows, n=e.model.hidden, multiplies=1)
    return [*found, scale]


def _router(e: Expansion, layer: int, shape: LayerShape, rows: int) -> list[Operator]:
    """One linear to the experts, or two with a gated activation (a probe neuron for each expert); then the choice."""
    if shape.router == "none":
        return []
    found: list[Operator] = []
    names = ("router",) if shape.router == "linear" else ("router_gate", "router_up")
    for name in names:
        full = e.full_name(layer, name)
        found += e.linear(name, full, shape.experts, e.model.hidden, rows, reads=shape.reads_weights)
    return [*found, e.vector("router_choice", "softmax", rows, shape.experts)]


def embedding(e: Expansion, step: Pass) -> list[Operator]:
    """The lookup of tokens, or the linear that embeds patches."""
    model = e.model
    rows = e.batch * step.streams * e.tokens(step, e.layers[0])
    if model.patch_inputs:
        found = e.linear("patch_embed", f"{e.prefix}patch_embed", model.hidden, model.patch_inputs, rows)
    else:
        found = []
        table = _table(e)
        size = rows * (table.row_bits(model.hidden) // 8)
        found.append(Operator(name="embed", kind="embed", layers=(), m=rows, n=model.hidden, weight=table,
                              parameter_bytes=size))  # fmt: skip
        if model.rope_theta == 0:
            found.append(_positions(e, step, rows))
    return [_outside(op) for op in found + inserted(e, step, -1, "embed.out", model.hidden)]


def _table(e: Expansion) -> Format:
    """The format of the table of tokens: the head's, or of a model's own table what its recipe says."""
    if e.model.tied_head:
        return e.formats.weight_format(f"{e.prefix}head")
    return e.recipe.embedding_format() if e.recipe else FORMATS["f16"]


def _positions(e: Expansion, step: Pass, rows: int) -> Operator:
    """Learned positions, a vector for each, added to the embeddings; the sequences of a batch have the same."""
    size = e.tokens(step, e.layers[0]) * e.model.hidden * F32.bits // 8
    return e.vector("positions", "bias", rows, e.model.hidden, parameter_bytes=size)


def head(e: Expansion, step: Pass) -> list[Operator]:
    """The last norm and the LM head."""
    model, rows = e.model, e.batch * (step.streams * step.logits + step.extra)
    width, full = e.graph.head_rows, f"{e.prefix}head"
    found = norm(e, "final_norm", rows) if step.logits else []
    if not width or not step.logits:
        return [_outside(op) for op in found]
    found += inserted(e, step, -1, "head.in", model.hidden)
    found += e.quantise("head_input_quantise", full, rows, model.hidden)
    act = e.formats.act_format(full)
    act.groups(model.hidden)
    found += weighted("head", e.weight(full), act, width, model.hidden, rows)
    if width != model.vocab:
        map_bytes = math.ceil(model.vocab * e.graph.map_bits / 8)
        spread = e.vector("head_spread", "lookup", rows * model.vocab, 1, parameter_bytes=map_bytes)
        found.append(spread)
    if model.logit_cap:
        found.append(e.vector("logit_cap", "softcap", rows, model.vocab))
    return [_outside(op) for op in found + inserted(e, step, -1, "head.out", width)]


def _outside(operator: Operator) -> Operator:
    return msgspec.structs.replace(operator, layers=(-1,))
