"""The operator trace of one prefill or one decode step: a model expanded under a recipe."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.attention_operators import at_context, attention, cache_of
from mixflight.workloads.block_operators import after_attention, before_attention, embedding, head
from mixflight.workloads.decoding import Autoregressive, Denoise, Draft, Schedule, Speculative, Step, steps
from mixflight.workloads.expansion import Expansion, Formats, Pass, merged
from mixflight.workloads.expression import evaluate
from mixflight.workloads.inserted import Elementwise, Op
from mixflight.workloads.inserted_operators import operators_of
from mixflight.workloads.model import Model, TowerOf, model_named
from mixflight.workloads.operators import Operator
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.topology import Drop, Tower

__all__ = ["Formats", "Trace", "decode_traces", "prefill_trace"]

LARGEST_BATCH = 65_536  # numbers of bytes and MACs stay far inside 64 bits


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """The operators of one pass over ``batch`` sequences.

    ``tokens`` new tokens of every sequence are processed; afterwards the cache of each holds ``context`` tokens, and
    ``kept`` of the new ones are output (1 of an ordinary decode step).
    An operator that is the same in several layers stands once and names its layers.
    """

    model: str
    phase: Literal["prefill", "decode"]
    batch: int
    tokens: int
    context: int
    operators: tuple[Operator, ...]
    kept: float = 1.0

    def total(self, field: str) -> int:
        """Sum of an operator's number (``macs``, ``weight_bytes``...) over all layers, by how often it is expected."""
        certain = sum(len(op.layers) * int(getattr(op, field)) for op in self.operators if op.probability == 1)
        rare = sum(len(op.layers) * getattr(op, field) * op.probability for op in self.operators if op.probability != 1)
        return certain + round(float(rare))

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
        place, operators = 0, self.operators
        while place < len(operators):
            end = place
            while end < len(operators) and (operators[end].layers[0] >= 0) == (operators[place].layers[0] >= 0):
                end += 1
            part = operators[place:end]
            if operators[place].layers[0] < 0:
                yield from ((op, -1) for op in part for _ in op.layers)
            else:
                for layer in sorted({layer for op in part for layer in op.layers}):
                    yield from ((op, layer) for op in part if layer in op.layers)
            place = end

    def _row(self, op: Operator, layer: int) -> dict[str, Any]:
        return {
            "phase": self.phase, "context": self.context, "layer": layer, "name": op.name, "kind": op.kind,
            "count": op.count, "m": op.m, "n": op.n, "k": op.k,
            "weight_format": op.weight.name if op.weight else "", "act_format": op.act.name if op.act else "",
            "macs": op.macs, "weight_bytes": op.weight_bytes, "parameter_bytes": op.parameter_bytes,
            "kv_read_bytes": op.kv_read_bytes, "kv_write_bytes": op.kv_write_bytes,
            "keep_n": op.keep_n, "keep_m": op.keep_m, "density": op.density, "probability": op.probability,
        }  # fmt: skip


def prefill_trace(model: Model, formats: Formats, tokens: int, batch: int = 1, decode: int = 0) -> Trace:
    """Trace of a prefill of ``tokens`` tokens a sequence; logits of the last token only.

    ``decode`` tokens are to follow, where a recipe's costs depend on that.
    """
    _at_least_one("prefill", tokens)
    _fits(model, tokens)
    return _Builder(model, formats, batch, tokens, decode).prefill()


def decode_traces(model: Model, formats: Formats, prefill: int, decode: int, batch: int = 1) -> Iterator[Trace]:
    """Traces of the steps that decode ``decode`` tokens after ``prefill``.

    Without a decode table each visits one of the contexts prefill + 1 ... prefill + decode; with one, the strategy says
    how many tokens a step processes and outputs.
    """
    _at_least_one("decode", decode)
    if prefill < 0:
        raise InputError(f"prefill must be at least 0, not {prefill}")
    denoises = isinstance(formats, Recipe) and isinstance(formats.decode, Denoise)  # passes over the prefill's tokens
    _fits(model, prefill if denoises else prefill + decode)
    return _Builder(model, formats, batch, prefill, decode).decode()


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
    """Builds traces of one model; whatever does not depend on the context is built once for each shape of pass."""

    def __init__(self, model: Model, formats: Formats, batch: int, prefill: int, decode: int, prefix: str = "") -> None:
        _countable(batch)
        self.model, self.formats, self.batch = model, formats, batch
        self.e = Expansion(model, formats, batch, prefill, decode, prefix)
        self.strategy = self.e.recipe.decode if self.e.recipe else None
        self.fixed: dict[Pass, tuple[list[Operator], list[Operator]]] = {}
        self.groups: dict[tuple[Pass, tuple[bool, ...]], list[tuple[int, ...]]] = {}
        self.plain: dict[Pass, list[Operator]] = {}
        self.others: dict[str, _Builder] = {}

    def trace(self, step: Pass, kept: float = 1.0) -> Trace:
        """The trace of one pass."""
        return Trace(
            model=self.model.name, phase=step.phase, batch=self.batch, tokens=step.tokens, context=step.context,
            operators=self.operators(step), kept=kept,
        )  # fmt: skip

    def operators(self, step: Pass) -> tuple[Operator, ...]:
        """The operators of one pass, embedding and head included."""
        key = step._replace(context=step.context if step.phase == "prefill" else 0, number=0)
        if key not in self.fixed:
            layers = self.e.graph.layers.items()
            before = [(layer, before_attention(self.e, step, layer, shape)) for layer, shape in layers]
            after = [(layer, after_attention(self.e, step, layer, shape)) for layer, shape in layers]
            first = embedding(self.e, step)
            last = head(self.e, step) if step.last else []
            self.fixed[key] = [*first, *merged(before)], [*merged(after), *last]
        before_, after_ = self.fixed[key]
        return (*before_, *self._attention(step), *after_)

    def _attention(self, step: Pass) -> list[Operator]:
        """The attention of all layers; layers that see and store the same are expanded once."""
        e = self.e
        if e.recipe is None or (e.recipe.plain and not self.model.window):
            key = step._replace(context=0, number=0)
            if key not in self.plain:
                self.plain[key] = [_in_layers(op, e.layers) for op in attention(e, step, e.layers[0])]
            return at_context(self.plain[key], step.context)
        return [
            _in_layers(op, layers) for layers in self._alike(step) for op in attention(e, step, layers[0])
        ]  # fmt: skip

    def _alike(self, step: Pass) -> list[tuple[int, ...]]:
        """Groups of layers that see and store the same; in decode they do not change with the context."""
        e = self.e
        assert e.recipe is not None
        refreshed = tuple(bool(item.refresh) and step.number % item.refresh == 0 for item in e.recipe.attn)
        key = step._replace(context=step.context if step.phase == "prefill" else 0, number=0), refreshed
        if key not in self.groups:
            alike: dict[object, list[int]] = {}
            before = e.counts(e.prefill).cache if e.prefill else (0,) * len(e.layers)
            for layer in e.layers:
                cache = cache_of(e, step, layer)
                alike.setdefault((cache, before[e.place[layer]]), []).append(layer)
            self.groups[key] = [tuple(layers) for layers in alike.values()]
        return self.groups[key]

    # Prefill ----------------------------------------------------------------------------------------------------------

    def prefill(self) -> Trace:
        """The prefill, after the towers; in chunks where the strategy says so."""
        tokens, e = self.e.prefill, self.e
        causal = self.model.kind == "decoder" and not isinstance(self.strategy, Denoise)
        logits = 1 if e.graph.head_rows else 0
        chunk = (self.strategy.chunk if self.strategy else 0) or tokens
        extra = self.strategy.piggyback if self.strategy else 0
        streams = 1
        if isinstance(self.strategy, Autoregressive) and self.strategy.own_prefill:
            streams = self.strategy.streams
        operators = [op for tower in e.graph.towers for op in self._tower(tower, tokens)]
        pivot = e.kv.pivot if e.kv else None
        start = min(pivot.tokens, tokens - 1) if pivot and pivot.loaded else 0
        while start < tokens:
            end = min(start + chunk, tokens)
            operators += self.operators(Pass(
                phase="prefill", tokens=end - start, context=end, streams=streams, logits=logits, causal=causal,
                extra=extra, last=end == tokens,
            ))  # fmt: skip
            start = end
        if isinstance(self.strategy, Speculative) and self.strategy.draft and self.strategy.draft.model:
            operators += self._draft_prefill(self.strategy.draft)
        if self.strategy and self.strategy.again:
            operators += self._again(self.strategy.again)
        return Trace(
            model=self.model.name, phase="prefill", batch=self.batch, tokens=tokens, context=tokens,
            operators=tuple(operators), kept=0.0,
        )  # fmt: skip

    def _draft_prefill(self, draft: Draft) -> list[Operator]:
        """What fills the cache of a draft that is another model."""
        e = self.e
        whole = Pass(phase="prefill", tokens=e.prefill, context=e.prefill)
        symbols = {**e.symbols(whole, e.layers[0], e.graph.layers[e.layers[0]]), "x": 0, "kept": 0}
        tokens = max(1, round(evaluate(draft.context if draft.context != "" else "S", symbols)))
        builder = self._other("draft", lambda: self._draft_builder(draft))
        step = Pass(phase="prefill", tokens=tokens, context=tokens, logits=0)
        return [_renamed(op, "draft.") for op in builder.operators(step)]

    def _again(self, times: float) -> list[Operator]:
        """The prefill once more, all tokens and the model's own towers, as often as expected."""
        recipe = self.e.recipe
        assert recipe is not None
        kept = tuple(edit for edit in recipe.topology if not isinstance(edit, Tower))
        whole = msgspec.structs.replace(recipe, tokens=(), topology=kept, decode=None)
        once = _Builder(self.model, whole, self.batch, self.e.prefill, self.e.decode).prefill().operators
        return [_renamed(op, "again.", op.probability * times) for op in once]

    def _tower(self, tower: TowerOf, tokens: int) -> list[Operator]:
        model = model_named(tower.model)
        if tower.layers:
            model = msgspec.structs.replace(model, layers=tower.layers)
        length = max(1, round(tower.tokens * tokens) if tower.proportional else round(tower.tokens))
        times = max(1, round(tower.times * tokens if tower.repeated else tower.times))
        builder = _Builder(model, self.formats, self.batch * times, length, 0, prefix=f"{tower.name}.")
        step = Pass(
            phase="prefill", tokens=length, context=length, logits=min(1, tower.decode), causal=model.kind == "decoder"
        )
        found = list(builder.operators(step))
        if tower.decode and model.kind == "encoder":
            raise InputError(f"a tower that decodes must be a decoder, not {tower.model}, in tower {tower.name!r}")
        for made in range(tower.decode):
            found += builder.operators(Pass(phase="decode", tokens=1, context=length + made + 1))
        return [_renamed(op, f"{tower.name}.") for op in found]

    # Decode -----------------------------------------------------------------------------------------------------------

    def decode(self) -> Iterator[Trace]:
        """The steps, each with its draft."""
        e = self.e
        if self.strategy is None:
            if self.model.kind == "encoder":
                raise InputError(
                    f"{self.model.name} is an encoder: it must have a recipe with a decode table to decode"
                )
            return (self.trace(Pass(phase="decode", tokens=1, context=e.prefill + number + 1, number=number))
                    for number in range(e.decode))  # fmt: skip
        return (self._step(step) for step in steps(self.strategy, e.prefill, e.decode))

    def _step(self, step: Step) -> Trace:
        strategy, e = self.strategy, self.e
        phase: Literal["prefill", "decode"] = "prefill" if isinstance(strategy, Denoise) else "decode"
        wanted = Pass(
            phase=phase, tokens=step.tokens, context=step.context, streams=step.streams,
            logits=step.logits if e.graph.head_rows else 0, causal=step.causal, number=step.index,
        )  # fmt: skip
        operators = list(self._host(step).operators(wanted))
        if isinstance(strategy, Speculative) and strategy.draft and step.draft_passes:
            if strategy.draft.reuse:
                operators = [op for op in self._rest(strategy.draft).operators(wanted) if op.name != "embed"]
            operators = self._draft(strategy.draft, step) + operators
        if isinstance(strategy, Autoregressive) and strategy.reorder:
            operators += self._reorder(wanted)
        return Trace(
            model=self.model.name, phase="decode", batch=self.batch, tokens=step.tokens, context=step.context,
            operators=tuple(operators), kept=step.kept,
        )  # fmt: skip

    def _host(self, step: Step) -> "_Builder":
        """What runs the step: this model, another one of a schedule, or this one with other weights."""
        if isinstance(self.strategy, Schedule) and step.model:
            return self._other(step.model, lambda: _Builder(model_named(step.model), self.formats, self.batch,
                                                            self.e.prefill, self.e.decode, "small."))  # fmt: skip
        if not isinstance(self.strategy, Denoise) or not self.strategy.ranges:
            return self
        ends, recipe = 0, self.e.recipe
        assert recipe is not None
        for place, part in enumerate(self.strategy.ranges):
            ends += part.steps
            if step.index < ends:
                changed = msgspec.structs.replace(recipe, weight={**recipe.weight, **part.weight})
                return self._other(f"range{place}", functools.partial(
                    _Builder, self.model, changed, self.batch, self.e.prefill, self.e.decode
                ))  # fmt: skip
        return self

    def _other(self, name: str, build: "Callable[[], _Builder]") -> "_Builder":
        if name not in self.others:
            self.others[name] = build()
        return self.others[name]

    def _draft(self, draft: Draft, step: Step) -> list[Operator]:
        """All passes of the draft for one step, as the expected number of equal ones."""
        e = self.e
        seen = _plain(step.tokens, step.context + step.ahead, step.streams)
        symbols = {**e.symbols(seen, e.layers[0], e.graph.layers[e.layers[0]]), "x": 0, "kept": 0}
        found: list[Operator] = []
        if draft.model or draft.own:
            builder = self._other("draft", lambda: self._draft_builder(draft))
            context = max(1, round(evaluate(draft.context, symbols))) if draft.context != "" else seen.context
            width = min(draft.tokens, context)
            logits = width if draft.head and builder.e.graph.head_rows else 0
            own = builder.operators(Pass(phase="decode", tokens=width, context=context, logits=logits))
            passes = {False: step.draft_passes, True: step.draft_passes + draft.reuse}
            found = [_renamed(op, "draft.", op.probability * passes[not _of_head(op)]) for op in own]
        read = round(evaluate(draft.table_bytes, symbols))
        if read:
            table = Op(name="draft.table", parameter_bytes=read, elementwise=(Elementwise(elements=1),))
            found += [_in_layers(op, (-1,)) for op in operators_of(table, symbols, table.name)]
        return found

    def _draft_builder(self, draft: Draft) -> "_Builder":
        e = self.e
        if draft.model:
            return _Builder(model_named(draft.model), self.formats, self.batch, e.prefill, e.decode, "draft.")
        return self._without(draft.skip or (Drop(layers=e.layers[self._drafting(draft) :]),))

    def _drafting(self, draft: Draft) -> int:
        """Number of the target's first layers that draft."""
        layers = draft.layers or max(1, round(draft.share * len(self.e.layers)))
        if not layers < len(self.e.layers):
            raise InputError(
                f"a draft must have fewer than the {len(self.e.layers)} layers of its target, not {layers}"
            )
        return layers

    def _rest(self, draft: Draft) -> "_Builder":
        """The target without the layers whose results it takes over from the draft."""
        return self._other("rest", lambda: self._without((Drop(layers=self.e.layers[: self._drafting(draft)]),)))

    def _without(self, drops: tuple[Drop, ...]) -> "_Builder":
        recipe = self.e.recipe
        assert recipe is not None
        own = msgspec.structs.replace(recipe, decode=None, topology=(*recipe.topology, *drops))
        return _Builder(self.model, own, self.batch, self.e.prefill, self.e.decode)

    def _reorder(self, step: Pass) -> list[Operator]:
        """The cache of every stream is read and written at another's place."""
        held = sum(len(op.layers) * op.kv_read_bytes for op in self.operators(step))
        return [Operator(name="reorder", kind="elementwise", layers=(-1,), m=1, n=1, kv_read_bytes=held,
                         kv_write_bytes=held)]  # fmt: skip


def _plain(tokens: int, context: int, streams: int = 1) -> Pass:
    return Pass(phase="decode", tokens=tokens, context=context, streams=streams)


def _of_head(operator: Operator) -> bool:
    return operator.name.startswith(("final_norm", "head", "logit_cap")) or "@head." in operator.name


def _in_layers(operator: Operator, layers: tuple[int, ...]) -> Operator:
    return msgspec.structs.replace(operator, layers=layers)


def _renamed(operator: Operator, prefix: str, probability: float | None = None) -> Operator:
    """An operator of another model, outside this one's blocks."""
    return msgspec.structs.replace(
        operator, name=f"{prefix}{operator.name}", layers=(-1,) * len(operator.layers),
        probability=operator.probability if probability is None else probability,
    )  # fmt: skip
