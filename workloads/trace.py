"""The operator trace of one prefill or one decode step of a decoder LLM."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS, Format
from mixflight.workloads.model import Model
from mixflight.workloads.operators import Operator, VectorKind

F32 = FORMATS["f32"]
LARGEST_BATCH = 65_536  # numbers of bytes and MACs stay far inside 64 bits


class Formats(Protocol):
    """Where a trace gets its formats from: a recipe, or the tensors of a file."""

    def weight_format(self, operator: str) -> Format:
        """Stored format of a weight."""

    def act_format(self, operator: str) -> Format:
        """Format of a linear's input; ``attention`` for queries and probabilities."""

    def kv_formats(self) -> tuple[Format, Format]:
        """Formats of cached keys and values."""


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The operators of one pass over ``batch`` sequences.

    ``tokens`` new tokens of every sequence are processed; afterwards the cache of each holds ``context`` tokens.
    An operator that is the same in several layers stands once and names its layers.
    """

    model: str
    phase: Literal["prefill", "decode"]
    batch: int
    tokens: int
    context: int
    operators: tuple[Operator, ...]

    def total(self, field: str) -> int:
        """Sum of an operator's number (``macs``, ``weight_bytes``...) over all layers."""
        return sum(len(op.layers) * int(getattr(op, field)) for op in self.operators)

    @property
    def ops(self) -> int:
        """Number of operators, every layer counted."""
        return sum(len(op.layers) for op in self.operators)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the pass."""
        return self.total("macs")

    @property
    def weight_bytes(self) -> int:
        """Bytes of weight matrices that the pass needs once, LM head included."""
        return self.total("weight_bytes")

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache read and written."""
        return self.total("kv_read_bytes") + self.total("kv_write_bytes")

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat record an operator and layer, in order of execution, for tables and Parquet."""
        return (self._row(op, layer) for op, layer in self.in_order())

    def in_order(self) -> Iterator[tuple[Operator, int]]:
        """The operators with their layers (-1: outside the blocks), as they run."""
        blocks = [op for op in self.operators if op.layers[0] >= 0]
        yield from ((op, -1) for op in self.operators if op.layers[0] < 0 and op.kind == "embed")
        for layer in sorted({layer for op in blocks for layer in op.layers}):
            yield from ((op, layer) for op in blocks if layer in op.layers)
        yield from ((op, -1) for op in self.operators if op.layers[0] < 0 and op.kind != "embed")

    def _row(self, op: Operator, layer: int) -> dict[str, Any]:
        return {
            "phase": self.phase, "context": self.context, "layer": layer, "name": op.name, "kind": op.kind,
            "count": op.count, "m": op.m, "n": op.n, "k": op.k,
            "weight_format": op.weight.name if op.weight else "", "act_format": op.act.name if op.act else "",
            "macs": op.macs, "weight_bytes": op.weight_bytes, "parameter_bytes": op.parameter_bytes,
            "kv_read_bytes": op.kv_read_bytes, "kv_write_bytes": op.kv_write_bytes,
        }  # fmt: skip


def prefill_trace(model: Model, formats: Formats, tokens: int, batch: int = 1) -> Trace:
    """Trace of a prefill of ``tokens`` tokens a sequence; logits of the last token only."""
    _at_least_one("prefill", tokens)
    _fits(model, tokens)
    return _Builder(model, formats, batch).trace("prefill", tokens, tokens)


def decode_traces(model: Model, formats: Formats, prefill: int, decode: int, batch: int = 1) -> Iterator[Trace]:
    """Traces of ``decode`` steps after ``prefill`` tokens; they visit contexts prefill + 1 ... prefill + decode."""
    _at_least_one("decode", decode)
    if prefill < 0:
        raise InputError(f"prefill must be at least 0, not {prefill}")
    _fits(model, prefill + decode)
    builder = _Builder(model, formats, batch)
    return (builder.trace("decode", 1, context) for context in range(prefill + 1, prefill + decode + 1))


def _at_least_one(what: str, value: int) -> None:
    if value < 1:
        raise InputError(f"{what} must be at least 1 token, not {value}")


def _countable(batch: int) -> None:
    _at_least_one("batch", batch)
    if batch > LARGEST_BATCH:
        raise InputError(f"batch must be at most {LARGEST_BATCH} sequences, not {batch}")


def _fits(model: Model, context: int) -> None:
    if context > model.context_length:
        raise InputError(
            f"prefill + decode must be at most the context length {model.context_length} of {model.name}, not {context}"
        )


class _Builder:
    """Builds traces of one model; whatever does not depend on the context is built once for each number of tokens."""

    def __init__(self, model: Model, formats: Formats, batch: int) -> None:
        _countable(batch)
        self.model, self.formats, self.batch = model, formats, batch
        self.k_format, self.v_format = formats.kv_formats()
        self.query = formats.act_format("attention")
        self.all_layers = tuple(range(model.layers))
        self.fixed: dict[int, tuple[list[Operator], list[Operator]]] = {}

    def trace(self, phase: Literal["prefill", "decode"], tokens: int, context: int) -> Trace:
        if tokens not in self.fixed:
            self.fixed[tokens] = self._before_attention(tokens), self._after_attention(tokens)
        before, after = self.fixed[tokens]
        return Trace(
            model=self.model.name, phase=phase, batch=self.batch, tokens=tokens, context=context,
            operators=(*before, *self._attention(tokens, context), *after),
        )  # fmt: skip

    def _vector(
        self, name: str, kind: VectorKind, m: int, n: int, outside: bool = False, parameter_bytes: int = 0,
        kv_write_bytes: int = 0,
    ) -> Operator:  # fmt: skip
        layers = (-1,) if outside else self.all_layers
        return Operator(
            name=name, kind=kind, layers=layers, m=m, n=n,
            parameter_bytes=parameter_bytes, kv_write_bytes=kv_write_bytes,
        )  # fmt: skip

    def _linears(self, names: Sequence[str], rows: int) -> list[Operator]:
        """The linears ``names``: one operator for each distinct format among the layers."""
        found = []
        for name in names:
            n, k = self.model.block_linears()[name]
            by_format: dict[tuple[Format, Format], list[int]] = {}
            for layer in self.all_layers:
                full = f"layers.{layer}.{name}"
                key = self.formats.weight_format(full), self.formats.act_format(full)
                by_format.setdefault(key, []).append(layer)
            for (weight, act), layers in by_format.items():
                found.append(self._linear(name, n, k, rows, weight, act, tuple(layers)))
            if self.model.biases or name in self.model.biased:
                found.append(self._vector(f"{name}_bias", "bias", rows, n, parameter_bytes=n * F32.bits // 8))
        return found

    @staticmethod
    def _linear(name: str, n: int, k: int, rows: int, weight: Format, act: Format, layers: tuple[int, ...]) -> Operator:
        act.groups(k)
        return Operator(
            name=name, kind="linear", layers=layers, m=rows, n=n, k=k, weight=weight, act=act,
            weight_bytes=n * weight.row_bits(k) // 8,
        )  # fmt: skip

    def _norm(self, name: str, rows: int, outside: bool = False) -> Operator:
        vectors = 2 if self.model.norm == "layernorm" else 1
        parameters = vectors * self.model.hidden * F32.bits // 8
        return self._vector(name, "norm", rows, self.model.hidden, outside=outside, parameter_bytes=parameters)

    def _head_norm(self, name: str, vectors: int) -> Operator:
        return self._vector(
            name, "norm", vectors, self.model.head_dim, parameter_bytes=self.model.head_dim * F32.bits // 8
        )

    def _post_norm(self, name: str, rows: int) -> list[Operator]:
        return [self._norm(name, rows)] if self.model.post_norms else []

    def _softcap(self, name: str, m: int, n: int, cap: float, outside: bool = False) -> list[Operator]:
        return [self._vector(name, "softcap", m, n, outside)] if cap else []

    def _quantise(self, name: str, linear: str, m: int, n: int, outside: bool = False) -> list[Operator]:
        """The quantisation of an input, unless ``linear`` takes it as a float."""
        act = self.formats.act_format(linear)
        if act.kind == "float":
            return []
        layers = (-1,) if outside else self.all_layers
        return [Operator(name=name, kind="quantise", layers=layers, m=m, n=n, act=act)]

    def _before_attention(self, tokens: int) -> list[Operator]:
        model, rows = self.model, self.batch * tokens
        embedding = self.formats.weight_format("head") if model.tied_head else FORMATS["f16"]
        row_bytes = embedding.row_bits(model.hidden) // 8
        if model.rope_theta == 0:
            row_bytes += FORMATS["f16"].row_bits(model.hidden) // 8
        heads, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
        found = [self._vector("embed", "embed", rows, model.hidden, outside=True, parameter_bytes=rows * row_bytes)]
        found.append(self._norm("attention_norm", rows))
        found += self._quantise("attention_input_quantise", "layers.0.q", rows, model.hidden)
        found += self._linears(("q", "k", "v"), rows)
        if model.qk_norm:
            found += [self._head_norm("q_norm", rows * model.heads), self._head_norm("k_norm", rows * model.kv_heads)]
        if model.rope_theta:
            found += [self._vector("rope_q", "rope", rows, heads), self._vector("rope_k", "rope", rows, kv)]
        found.append(self._vector(
            "kv_append", "kv_append", rows, 2 * kv, kv_write_bytes=rows * model.kv_heads * self._kv_bits() // 8
        ))  # fmt: skip
        return found + self._quantise("query_quantise", "attention", rows * model.heads, model.head_dim)

    def _kv_bits(self) -> int:
        """Stored bits of one token's key and value of one head."""
        return self.k_format.row_bits(self.model.head_dim) + self.v_format.row_bits(self.model.head_dim)

    def _attention(self, tokens: int, context: int) -> list[Operator]:
        model, step = self.model, self.model.queries_per_kv_head
        count, m = self.batch * model.kv_heads, tokens * step
        causal = step if tokens > 1 else 0
        head = model.head_dim

        def read(item: Format) -> int:
            return count * context * item.row_bits(head) // 8

        return [
            Operator(name="qk", kind="qk", layers=self.all_layers, m=m, n=context, k=head, count=count,
                     causal_step=causal, weight=self.k_format, act=self.query, kv_read_bytes=read(self.k_format)),
            *(msgspec.structs.replace(op, causal_step=self.batch * model.heads if causal else 0) for op in [
                *self._softcap("attention_cap", self.batch * tokens * model.heads, context, model.attention_cap),
                self._vector("softmax", "softmax", self.batch * tokens * model.heads, context),
                *self._quantise("probability_quantise", "attention", self.batch * tokens * model.heads, context),
            ]),
            Operator(name="av", kind="av", layers=self.all_layers, m=m, n=head, k=context, count=count,
                     causal_step=causal, weight=self.v_format, act=self.query, kv_read_bytes=read(self.v_format)),
        ]  # fmt: skip

    def _after_attention(self, tokens: int) -> list[Operator]:
        model, rows = self.model, self.batch * tokens
        found = self._quantise("attention_output_quantise", "layers.0.o", rows, model.heads * model.head_dim)
        found += self._linears(("o",), rows)
        found += self._post_norm("attention_post_norm", rows)
        found += [self._vector("attention_residual", "residual", rows, model.hidden), self._norm("ffn_norm", rows)]
        found += self._quantise("ffn_input_quantise", "layers.0.up", rows, model.hidden)
        found += self._linears(("gate", "up") if model.ffn_kind == "gated" else ("up",), rows)
        found.append(Operator(
            name="ffn_activation", kind="activation", layers=self.all_layers, m=rows, n=model.ffn,
            variant=f"{model.activation}:{model.ffn_kind}",
        ))  # fmt: skip
        found += self._quantise("ffn_hidden_quantise", "layers.0.down", rows, model.ffn)
        found += self._linears(("down",), rows)
        found += self._post_norm("ffn_post_norm", rows)
        found += [
            self._vector("ffn_residual", "residual", rows, model.hidden),
            self._norm("final_norm", self.batch, outside=True),
        ]
        found += self._quantise("head_input_quantise", "head", self.batch, model.hidden, outside=True)
        head, act = self.formats.weight_format("head"), self.formats.act_format("head")
        found.append(self._linear("head", model.vocab, model.hidden, self.batch, head, act, (-1,)))
        return found + self._softcap("logit_cap", self.batch, model.vocab, model.logit_cap, outside=True)
