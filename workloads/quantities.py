"""Quantities of an expanded trace, as a recipe's checks name them; all but the first of each group come from operators.

bits_per_operand          mean bits of the operands of the block's linears, without scales and indices
bits_per_weight           stored bits of the block's linears over their weights before compression
payload_bits_per_weight   the same without scales, indices and codebooks
stored_bits_per_weight    as bits_per_weight, layers that share weights counted once
weight_bytes, stored_weight_bytes      of all linears, head included: as a pass reads them, as they are stored
weight_ratio, stored_weight_ratio      those of ``against`` over these
kv_bits, kv_payload_bits  stored bits of one cached number, the mean of keys and values of all layers
kv_bytes                  stored for one sequence after the prefill
kv_ratio, kv_share        kv_bytes of ``against`` over ours; ours over theirs. kv_payload_share without scales
memory_ratio              stored weights and the cache after the prefill: those of ``against`` over ours
kv_read_ratio             cache bytes read in the decode steps: those of ``against`` over ours
prefill_macs, decode_macs multiply-accumulates of the prefill; of all decode steps for each token. ..._ratio is
                          ``against`` over ours, ..._share ours over ``against``
linear_macs_share         of the block's linears in the prefill against those of ``against``
ops_macs_per_token_layer  of inserted operators for a token and a layer; ops_macs of all in the prefill, ops_macs_share
                          over the block's linears
ops_parameter_bytes       weights and tables of inserted operators, all layers
state_bytes               what inserted operators and drafts hold
attention_density         pairs computed over causal pairs of the prefill
attended_tokens           cached tokens that a query of the last decode step reads, mean of layers and heads
llm_tokens                tokens of the prefill, mean of layers; token_share of the prompt, token_ratio its inverse
cached_tokens             of the prompt in the cache, mean of layers
steps                     decode passes; steps_share over the tokens decoded; step_ratio its inverse
tokens_per_step, step_width    tokens output and processed in a step, mean
draft_prefill_tokens      tokens that fill the cache of a draft model
draft_layers_share        attentions and FFNs of a pass of the target's own layers that draft, of those of the target
kv_write_share            cache bytes written in the decode steps: ours over those of ``against``
layers                    blocks; parameters  weights stored
active_ffn_share          FFN MACs of a token against those of ``against``
head_parameter_share      stored bytes of the head against those of ``against``
tower_macs                of the models that run before the prefill
"""

import fnmatch
import functools
from collections.abc import Callable
from typing import Literal

import msgspec

from mixflight.arch.formats import Format
from mixflight.workloads.attention_pattern import pattern_of, spans
from mixflight.workloads.check import Check
from mixflight.workloads.codec import Codec
from mixflight.workloads.codec_products import products
from mixflight.workloads.codec_size import Stored, stored
from mixflight.workloads.expansion import SHARED, Expansion
from mixflight.workloads.expression import evaluate
from mixflight.workloads.model import Model, model_named
from mixflight.workloads.operators import Operator
from mixflight.workloads.recipe import Recipe, Scenario, recipe_named
from mixflight.workloads.trace import Trace, decode_traces, prefill_trace

_BLOCK_LINEARS = ("q", "k", "v", "o", "gate", "up", "down")
FITTING = Scenario(model="llama2-7b")


class Measured:
    """One recipe on one model at one length; traces are expanded when they are asked for."""

    def __init__(self, recipe: Recipe, model: Model, prefill: int, decode: int, batch: int) -> None:
        self.recipe, self.model, self.batch = recipe, model, batch
        self.prefill_tokens, self.decode_tokens = prefill, decode

    @functools.cached_property
    def expansion(self) -> Expansion:
        """The model after edits."""
        return Expansion(self.model, self.recipe, self.batch, self.prefill_tokens, self.decode_tokens)

    @functools.cached_property
    def prefill(self) -> Trace:
        """The prefill."""
        return prefill_trace(self.model, self.recipe, self.prefill_tokens, self.batch, self.decode_tokens)

    @functools.cached_property
    def steps(self) -> list[Trace]:
        """The decode steps."""
        return list(decode_traces(self.model, self.recipe, self.prefill_tokens, self.decode_tokens, self.batch))

    def weights(self) -> list[tuple[str, int, int, Codec | Format, bool, int]]:
        """(name, n, k, codec, whether the layer has weights of its own, how many) of the block's linears."""
        e, found = self.expansion, []
        for layer, shape in e.graph.layers.items():
            for name, (n, k) in e.linears(shape).items():
                mixed = shape.experts if name in _BLOCK_LINEARS[4:] else 0
                counts = {"": mixed or 1, SHARED: shape.shared if mixed else 0}
                for prefix, count in counts.items():
                    if count:
                        codec = e.weight(e.full_name(layer, prefix + name))
                        found.append((name, n, k, codec, shape.stores_weights, count))
        return found

    def dense_weights(self) -> int:
        """Weights of the model's blocks before anything is changed."""
        plain = Expansion(self.model, recipe_named("fp16"), 1)
        return sum(
            n * k * (shape.experts + shape.shared if name in _BLOCK_LINEARS[4:] and shape.experts else 1)
            for shape in plain.graph.layers.values()
            for name, (n, k) in plain.linears(shape).items()
        )

    def size(self, pattern: str, own: bool) -> tuple[Stored, int]:
        """Stored bits of the block's linears that match, and their number of weights; ``own``: shared ones once."""
        total, weights = Stored(), 0
        for name, n, k, codec, stores, count in self.weights():
            if not fnmatch.fnmatchcase(name, pattern):
                continue
            weights += n * k * count
            if stores or not own:
                one = _stored(codec, n, k)
                total = total.plus(one, count)
        return total, weights


def resident_bytes(m: Measured) -> float:
    """Bytes of weights as stored, head included, and of the caches after the prefill; towers and drafts left out."""
    return _memory(m)


def _stored(codec: Codec | Format, n: int, k: int) -> Stored:
    if isinstance(codec, Format):
        return Stored(codes=float(n * codec.row_bits(k)))
    total = Stored()
    for product in products(codec, n, k):
        total = total.plus(product.size)
    if isinstance(codec, str):
        return stored(codec, n, k)
    return total


def measure(recipe: Recipe, check: Check) -> tuple[float, str]:
    """Our value of a check's quantity, and the scenario in words."""
    scenario = recipe.scenario or FITTING
    model = model_named(check.model or scenario.model)
    prefill, decode = check.prefill or scenario.prefill, check.decode or scenario.decode
    ours = Measured(recipe, model, prefill, decode, check.batch)
    base = Measured(recipe_named(check.against), model, prefill, decode, check.batch)
    value = _QUANTITIES[check.quantity](ours, base, check)
    return value, f"{model.name}, {prefill}+{decode} tokens, batch {check.batch}"


def _matched(trace: Trace, pattern: str) -> list[Operator]:
    if pattern.startswith("!"):
        return [op for op in trace.operators if not fnmatch.fnmatchcase(op.name, pattern[1:])]
    return [op for op in trace.operators if fnmatch.fnmatchcase(op.name, pattern)]


def _macs(operators: list[Operator]) -> float:
    return sum(len(op.layers) * op.macs * op.probability for op in operators)


def _prefill_macs(m: Measured, check: Check) -> float:
    return _macs(_matched(m.prefill, check.operator))


def _decode_macs(m: Measured, check: Check) -> float:
    return sum(_macs(_matched(step, check.operator)) for step in m.steps) / m.decode_tokens


def _is_block_linear(op: Operator) -> bool:
    return op.kind == "linear" and op.layers[0] >= 0 and "@" not in op.name


def _linear_macs(trace: Trace) -> float:
    return _macs([op for op in trace.operators if _is_block_linear(op)])


def _inserted(m: Measured, check: Check) -> list[Operator]:
    names = {op.name for op in m.recipe.ops}
    found = [op for op in m.prefill.operators if op.name.split("@")[0] in names and "@" in op.name]
    return [op for op in found if fnmatch.fnmatchcase(op.name, check.operator)]


def _operand_bits(m: Measured, check: Check) -> float:
    linears = [op for op in _matched(m.prefill, check.operator) if _is_block_linear(op)]
    weights = [(len(op.layers) * op.count * op.n * op.k, op.weight.bits) for op in linears if op.weight]
    return sum(size * bits for size, bits in weights) / sum(size for size, _ in weights)


def _weight_bits(m: Measured, check: Check, own: bool = False) -> float:
    size, weights = m.size(check.operator, own)
    return size.bits / (m.dense_weights() if check.operator == "*" else weights)


def _payload_bits(m: Measured, check: Check) -> float:
    size, weights = m.size(check.operator, False)
    return size.codes / (m.dense_weights() if check.operator == "*" else weights)


def _head_bytes(m: Measured) -> float:
    e = m.expansion
    if not e.graph.head_rows:
        return 0.0
    mapped = m.model.vocab * e.graph.map_bits / 8 if e.graph.head_rows != m.model.vocab else 0.0
    return _stored(e.weight("head"), e.graph.head_rows, m.model.hidden).bits / 8 + mapped


def _stored_bytes(m: Measured) -> float:
    return m.size("*", True)[0].bits / 8 + _head_bytes(m)


def _memory(m: Measured) -> float:
    return _stored_bytes(m) + m.batch * _kv_stored(m) / 8


def _read_bytes(m: Measured) -> float:
    return float(m.prefill.weight_bytes)


def _kv_stored(m: Measured, payload: bool = False) -> float:
    """Bits of one sequence's cache after the prefill."""
    e, kv = m.expansion, m.recipe.kv
    cached = e.counts(m.prefill_tokens).cache
    total = 0.0
    for place, (layer, shape) in enumerate(e.graph.layers.items()):
        if not (shape.attention and shape.projects_kv):
            continue
        tokens = min(kv.kept(cached[place], layer), shape.window or cached[place])
        codecs = kv.codecs(layer, m.model.layers)
        for which, codec, head in (("k", codecs[0], shape.qk_dim), ("v", codecs[1], shape.v_dim)):
            side: Literal["k", "v"] = "k" if which == "k" else "v"
            parts = [
                (part, heads)
                for held, heads in _heads_held(m, layer, tokens, shape.kv_heads)
                for part in kv.parts(side, codec, held, m.prefill_tokens)
            ]
            for part, heads in parts:
                if kv.latent and not part.apart:
                    size = stored(part.codec, part.tokens, round(getattr(kv.latent, which) * heads * head))
                else:
                    size = Stored().plus(stored(part.codec, part.tokens, head, shape.kv_heads), heads)
                size = size._replace(places=size.places + part.side_bits * part.tokens * heads * head)
                total += size.codes if payload else size.bits
    return total


def _heads_held(m: Measured, layer: int, tokens: int, heads: int) -> list[tuple[int, int]]:
    """(tokens, KV heads that store so many): fewer where a pattern keeps its span in a ring."""
    pattern = pattern_of(m.recipe.attn, layer, "decode", 1)
    return spans(pattern, tokens, layer, heads, tokens) if pattern.ring else [(tokens, heads)]


def _kv_numbers(m: Measured) -> float:
    shapes = m.expansion.graph.layers.values()
    cached = m.expansion.counts(m.prefill_tokens).cache
    return sum(
        tokens * shape.kv_heads * (shape.qk_dim + shape.v_dim)
        for shape, tokens in zip(shapes, cached, strict=True)
        if shape.attention and shape.projects_kv
    )


def _kv_read(m: Measured) -> float:
    return float(sum(step.total("kv_read_bytes") for step in m.steps))


def _density(m: Measured) -> float:
    dense = computed = 0.0
    for op in m.prefill.operators:
        if op.kind == "qk" and op.layers[0] >= 0 and not op.name.startswith("cross_"):
            dense += len(op.layers) * op.dense_macs
            computed += len(op.layers) * op.macs
    return computed / dense


def _attended(m: Measured) -> float:
    """Tokens of a query, mean over layers and heads: elements of the softmax over its rows."""
    rows = tokens = 0
    for op in m.steps[-1].operators:
        if op.name == "softmax" and op.layers[0] >= 0:
            rows += len(op.layers) * op.count * op.m
            tokens += len(op.layers) * op.vector_elements
    return tokens / rows


def _llm_tokens(m: Measured) -> float:
    by_layer = m.expansion.counts(m.prefill_tokens).layer
    return sum(by_layer) / len(by_layer)


def _cached_tokens(m: Measured) -> float:
    e = m.expansion
    cached = [m.recipe.kv.kept(n, layer) for n, layer in zip(e.counts(m.prefill_tokens).cache, e.layers, strict=True)]
    return sum(cached) / len(cached)


def _state_bytes(m: Measured) -> float:
    e = m.expansion
    shape = e.graph.layers[e.layers[0]]
    symbols = {
        "d": m.model.hidden, "f": shape.ffn, "H": shape.heads, "K": shape.kv_heads, "h": shape.qk_dim,
        "L": len(e.layers), "V": m.model.vocab, "E": shape.experts, "B": m.batch, "n": m.prefill_tokens,
        "rows": m.batch * m.prefill_tokens, "T": m.prefill_tokens, "S": m.prefill_tokens, "kept": m.prefill_tokens,
        "x": 0, "G": m.decode_tokens,
    }  # fmt: skip
    scorers = [op for pattern in m.recipe.attn for op in pattern.scorer]
    total = float(sum(evaluate(op.state_bytes, symbols) for op in (*m.recipe.ops, *scorers)))
    draft = getattr(m.recipe.decode, "draft", None)
    return total + (float(evaluate(draft.state_bytes, symbols)) if draft else 0.0)


def _parameters(m: Measured) -> float:
    """Weights as stored: factors and experts counted, shared layers once."""
    total = 0
    for _, n, k, codec, stores, count in m.weights():
        pieces = products(codec, n, k) if not isinstance(codec, Format) else []
        kept = [p.density * (p.keep[0] / p.keep[1] if p.keep[1] else 1) for p in pieces]
        values = sum(round(p.n * p.k * share) for p, share in zip(pieces, kept, strict=True)) or n * k
        total += values * count if stores else 0
    return float(total + m.expansion.graph.head_rows * m.model.hidden)


def _ffn_macs(m: Measured) -> float:
    names = {f"{prefix}{name}" for prefix in ("", "shared.") for name in ("gate", "up", "down")}
    operators = (m.prefill if m.model.kind == "encoder" else m.steps[0]).operators
    return _macs([op for op in operators if op.kind == "linear" and op.name.split(".part")[0] in names])


def _draft_prefill(m: Measured) -> float:
    return float(max((op.m for op in m.prefill.operators if op.name in ("draft.q", "draft.up")), default=0)) / m.batch


def _draft_layers(m: Measured) -> float:
    """Attentions and FFNs by their last linears, which every one of them has once."""
    step = m.steps[0].operators
    ours, all_ = (
        sum(len(op.layers) for op in step if op.name in (f"{prefix}o", f"{prefix}down")) for prefix in ("draft.", "")
    )
    return ours / all_


def _kv_written(m: Measured) -> float:
    return float(sum(step.total("kv_write_bytes") for step in m.steps))


def _tower_macs(m: Measured) -> float:
    names = tuple(f"{tower.name}." for tower in m.expansion.graph.towers)
    return _macs([op for op in m.prefill.operators if op.name.startswith(names)]) if names else 0.0


def _step_width(m: Measured) -> float:
    return sum(step.tokens for step in m.steps) / len(m.steps)


def _per_token_layer(m: Measured, check: Check) -> float:
    return _macs(_inserted(m, check)) / (m.batch * sum(m.expansion.counts(m.prefill_tokens).layer))


def _parameter_bytes(m: Measured, check: Check) -> float:
    return float(sum(len(op.layers) * (op.weight_bytes + op.parameter_bytes) for op in _inserted(m, check)))


Quantify = Callable[[Measured, Measured, Check], float]
_QUANTITIES: dict[str, Quantify] = {
    "bits_per_operand": lambda m, b, c: _operand_bits(m, c),
    "bits_per_weight": lambda m, b, c: _weight_bits(m, c),
    "payload_bits_per_weight": lambda m, b, c: _payload_bits(m, c),
    "stored_bits_per_weight": lambda m, b, c: _weight_bits(m, c, own=True),
    "weight_bytes": lambda m, b, c: _read_bytes(m),
    "stored_weight_bytes": lambda m, b, c: _stored_bytes(m),
    "weight_ratio": lambda m, b, c: _read_bytes(b) / _read_bytes(m),
    "stored_weight_ratio": lambda m, b, c: _stored_bytes(b) / _stored_bytes(m),
    "kv_bits": lambda m, b, c: _kv_stored(m) / _kv_numbers(m),
    "kv_payload_bits": lambda m, b, c: _kv_stored(m, payload=True) / _kv_numbers(m),
    "kv_bytes": lambda m, b, c: _kv_stored(m) / 8,
    "kv_ratio": lambda m, b, c: _kv_stored(b) / _kv_stored(m),
    "kv_share": lambda m, b, c: _kv_stored(m) / _kv_stored(b),
    "kv_payload_share": lambda m, b, c: _kv_stored(m, payload=True) / _kv_stored(b),
    "kv_read_ratio": lambda m, b, c: _kv_read(b) / _kv_read(m),
    "memory_ratio": lambda m, b, c: _memory(b) / _memory(m),
    "prefill_macs": lambda m, b, c: _prefill_macs(m, c),
    "prefill_macs_ratio": lambda m, b, c: _prefill_macs(b, c) / _prefill_macs(m, c),
    "prefill_macs_share": lambda m, b, c: _prefill_macs(m, c) / _prefill_macs(b, c),
    "decode_macs": lambda m, b, c: _decode_macs(m, c),
    "decode_macs_ratio": lambda m, b, c: _decode_macs(b, c) / _decode_macs(m, c),
    "decode_macs_share": lambda m, b, c: _decode_macs(m, c) / _decode_macs(b, c),
    "linear_macs_share": lambda m, b, c: _linear_macs(m.prefill) / _linear_macs(b.prefill),
    "ops_macs_per_token_layer": lambda m, b, c: _per_token_layer(m, c),
    "ops_macs": lambda m, b, c: _macs(_inserted(m, c)),
    "ops_macs_share": lambda m, b, c: _macs(_inserted(m, c)) / _linear_macs(m.prefill),
    "ops_parameter_bytes": lambda m, b, c: _parameter_bytes(m, c),
    "state_bytes": lambda m, b, c: _state_bytes(m),
    "attention_density": lambda m, b, c: _density(m),
    "attended_tokens": lambda m, b, c: _attended(m),
    "llm_tokens": lambda m, b, c: _llm_tokens(m),
    "token_share": lambda m, b, c: _llm_tokens(m) / m.prefill_tokens,
    "token_ratio": lambda m, b, c: m.prefill_tokens / _llm_tokens(m),
    "cached_tokens": lambda m, b, c: _cached_tokens(m),
    "steps": lambda m, b, c: float(len(m.steps)),
    "steps_share": lambda m, b, c: len(m.steps) / m.decode_tokens,
    "step_ratio": lambda m, b, c: m.decode_tokens / len(m.steps),
    "tokens_per_step": lambda m, b, c: sum(step.kept for step in m.steps) / len(m.steps),
    "step_width": lambda m, b, c: _step_width(m),
    "draft_prefill_tokens": lambda m, b, c: _draft_prefill(m),
    "draft_layers_share": lambda m, b, c: _draft_layers(m),
    "kv_write_share": lambda m, b, c: _kv_written(m) / _kv_written(b),
    "layers": lambda m, b, c: float(len(m.expansion.layers)),
    "parameters": lambda m, b, c: _parameters(m),
    "active_ffn_share": lambda m, b, c: _ffn_macs(m) / _ffn_macs(b),
    "head_parameter_share": lambda m, b, c: _head_bytes(m) / _head_bytes(b),
    "tower_macs": lambda m, b, c: _tower_macs(m),
}


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deviation that passes: relative or absolute, whichever is larger; ``reason`` says why."""

    reason: str
    relative: float = 0.0
    absolute: float = 0.0
