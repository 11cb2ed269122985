"""What the parts of an expansion share: the model after edits, the recipe's tables, and operators that stand alone."""

import functools
from typing import Literal, NamedTuple, Protocol

import msgspec

from mixflight.arch.formats import FORMATS, Format
from mixflight.workloads.codec import Codec, Split, operand_format, widths_apart
from mixflight.workloads.codec_products import Product, assignment, products
from mixflight.workloads.codec_size import Stored
from mixflight.workloads.expression import Number
from mixflight.workloads.inserted import Op
from mixflight.workloads.kv_policy import Kv
from mixflight.workloads.layer_shape import Graph, LayerShape, graph_of
from mixflight.workloads.model import Model
from mixflight.workloads.operators import Operator, VectorKind
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.token_flow import Counts, counts, generated_share
from mixflight.workloads.weight_names import layer_named

F32 = FORMATS["f32"]
SHARED = "shared."  # before the names of the shared experts' weights and operators
Phase = Literal["prefill", "decode"]


class Formats(Protocol):
    """Where a trace gets its formats from: a recipe, or the tensors of a file."""

    def weight_format(self, operator: str) -> Format:
        """Stored format of a weight."""

    def act_format(self, operator: str) -> Format:
        """Format of a linear's input; ``attention`` for queries and probabilities."""

    def kv_formats(self) -> tuple[Format, Format]:
        """Formats of cached keys and values."""


class Pass(NamedTuple):
    """One pass: ``tokens`` new ones a sequence, after which ``context`` are seen, of ``streams`` sequences for each of
    the batch; ``logits`` rows of the head a sequence; ``extra`` rows of other sequences in the linears; ``number`` of
    the decode step; ``last`` chunk of a prefill."""

    phase: Phase
    tokens: int
    context: int
    streams: int = 1
    logits: int = 1
    causal: bool = True
    extra: int = 0
    number: int = 0
    last: bool = True


class Expansion:
    """One model under one recipe. ``prefix`` stands before the names of weights (of a tower, a draft)."""

    def __init__(
        self, model: Model, formats: Formats, batch: int, prefill: int = 0, decode: int = 0, prefix: str = ""
    ) -> None:
        self.model, self.formats, self.batch = model, formats, batch
        self.prefill, self.decode, self.prefix = prefill, decode, prefix
        self.recipe = formats if isinstance(formats, Recipe) and not prefix else None
        self.codecs_from = formats if isinstance(formats, Recipe) else None
        self.kv: Kv | None = self.recipe.kv if self.recipe else None
        self.graph: Graph = graph_of(model, self.recipe.topology if self.recipe else ())
        self.layers = tuple(self.graph.layers)
        self.place = {layer: place for place, layer in enumerate(self.layers)}
        self.query = formats.act_format("attention")
        self._check_layers()
        self._counts: dict[int, Counts] = {}
        self._acts: dict[str, tuple[Format, bool]] = {}
        self._weights = self._assigned()

    def _check_layers(self) -> None:
        from mixflight.arch.errors import InputError

        if self.recipe is None:
            return
        named = [layer for item in (*self.recipe.ops, *self.recipe.attn) for layer in item.layers]
        patterns = (layer_named(pattern) for pattern in (*self.recipe.weight, *self.recipe.act))
        named += [layer for layer in patterns if layer is not None]
        wrong = [layer for layer in named if not 0 <= layer < self.model.layers]
        if wrong:
            raise InputError(
                f"a recipe must name layers 0 ... {self.model.layers - 1} of {self.model.name}, not {wrong[0]}, "
                f"in recipe {self.recipe.name!r}"
            )

    # Tokens -----------------------------------------------------------------------------------------------------------

    def counts(self, tokens: int) -> Counts:
        """Tokens by layer of a prefill of ``tokens``."""
        if tokens not in self._counts:
            flows = self.recipe.tokens if self.recipe else ()
            if flows and tokens:
                found = counts(flows, self.layers, self.model.layers, tokens, self.model.visual_tokens)
            else:
                found = Counts(layer=(tokens,) * len(self.layers), cache=(tokens,) * len(self.layers))
            self._counts[tokens] = found
        return self._counts[tokens]

    def tokens(self, step: Pass, layer: int) -> int:
        """New tokens of a sequence that reach ``layer``."""
        if step.phase == "decode" or self.recipe is None or not self.recipe.tokens:
            return step.tokens
        before, place = self._before(step), self.place[layer]
        done = self.counts(before).layer[place] if before else 0
        return max(1, self.counts(before + step.tokens).layer[place] - done)

    def _before(self, step: Pass) -> int:
        """Tokens of earlier chunks of a prefill, before any flow."""
        return step.context - step.tokens if step.causal else 0

    def context(self, step: Pass, layer: int) -> int:
        """Tokens of a sequence that ``layer`` has seen after the pass, before anything is evicted."""
        if self.recipe is None or not self.recipe.tokens:
            return step.context
        source = self._cached_by(layer)
        if step.phase == "prefill":
            before = self._before(step)
            stay = self.counts(before).cache[self.place[source]] if before else 0
            return stay + self.tokens(step, source)
        before = self.counts(self.prefill).cache[self.place[source]] if self.prefill else 0
        return before + max(step.tokens, round((step.context - self.prefill) * generated_share(self.recipe.tokens)))

    def _cached_by(self, layer: int) -> int:
        """The layer whose cache ``layer`` reads: itself, or the last one before it that projects keys and values."""
        if self.graph.layers[layer].projects_kv:
            return layer
        before = self.layers[: self.place[layer]]
        shapes = self.graph.layers
        return next((i for i in reversed(before) if shapes[i].attention and shapes[i].projects_kv), layer)

    # Weights ----------------------------------------------------------------------------------------------------------

    def linears(self, shape: LayerShape) -> dict[str, tuple[int, int]]:
        """Weight matrices of a block in order of execution: name -> (N outputs, K inputs)."""
        d, found = self.model.hidden, {}
        latent = self.kv.latent if self.kv else None
        k_width, v_width = shape.kv_heads * shape.qk_dim, shape.kv_heads * shape.v_dim
        if shape.attention:
            found["q"] = (shape.heads * shape.qk_dim, d)
            if shape.projects_kv:
                found["k"] = (round(latent.k * k_width) if latent else k_width, d)
                found["v"] = (round(latent.v * v_width) if latent else v_width, d)
            found["o"] = (d, shape.heads * shape.v_dim)
        if shape.feed_forward:
            if self.model.ffn_kind == "gated":
                found["gate"] = (shape.ffn, d)
            found["up"] = (shape.ffn, d)
            found["down"] = (d, shape.ffn)
        return found

    def full_name(self, layer: int, name: str) -> str:
        """Name of a weight in a recipe."""
        return f"{self.prefix}layers.{layer}.{name}"

    def _assigned(self) -> dict[str, Codec]:
        """Weights that a split by operator gives one of its parts."""
        if self.codecs_from is None or not _any_split(self.codecs_from):
            return {}
        members: dict[Split, list[tuple[str, int]]] = {}
        for layer, shape in self.graph.layers.items():
            for name, (n, k) in self.linears(shape).items():
                full = self.full_name(layer, name)
                if (codec := _by_operator(self.codecs_from.weight_codec(full))) is not None:
                    members.setdefault(codec, []).append((full, n * k))
        found: dict[str, Codec] = {}
        for codec, named in members.items():
            for (full, _), part in zip(named, assignment(codec, [size for _, size in named]), strict=True):
                found[full] = codec.parts[part][1]
        return found

    def weight(self, full: str) -> Codec | Format:
        """How the weight ``full`` is stored; a split by operator gives shared experts the part of the routed ones."""
        if full in self._weights:
            return self._weights[full]
        if self.codecs_from is None:
            return self.formats.weight_format(full)
        codec = self.codecs_from.weight_codec(full)
        routed = full.replace(f".{SHARED}", ".")
        return self._weights[routed] if routed in self._weights and _by_operator(codec) else codec

    def act(self, full: str) -> tuple[Format, bool]:
        """Format of its input, and whether the scale of that is known beforehand."""
        if full not in self._acts:
            static = self.codecs_from.act_static(full) if self.codecs_from else False
            self._acts[full] = self.formats.act_format(full), static
        return self._acts[full]

    # Operators --------------------------------------------------------------------------------------------------------

    def vector(
        self, name: str, kind: VectorKind, m: int, n: int, parameter_bytes: int = 0, kv_write_bytes: int = 0
    ) -> Operator:
        """A vector operator."""
        return Operator(
            name=name, kind=kind, layers=(), m=m, n=n, parameter_bytes=parameter_bytes, kv_write_bytes=kv_write_bytes
        )

    def quantise(self, name: str, linear: str, m: int, n: int) -> list[Operator]:
        """The quantisation of an input, unless ``linear`` takes it as a float."""
        act, static = self.act(linear)
        if act.kind == "float":
            return []
        variant = "static" if static else ""
        return [Operator(name=name, kind="quantise", layers=(), m=m, n=n, act=act, variant=variant)]

    def linear(
        self, name: str, full: str, n: int, k: int, rows: int, *, count: int = 1, reads: bool = True
    ) -> list[Operator]:
        """The linear ``full``: ``count`` weights of its kind, ``rows`` rows each."""
        act, _ = self.act(full)
        act.groups(k)
        found = weighted(name, self.weight(full), act, n, k, rows, count=count, reads=reads)
        if self.model.biases or name in self.model.biased:
            found.append(self.vector(f"{name}_bias", "bias", rows, n, parameter_bytes=n * F32.bits // 8))
        return found

    def symbols(self, step: Pass, layer: int, shape: LayerShape) -> dict[str, Number]:
        """What expressions of operators may name, but the width ``x`` of a port and ``kept``."""
        model = self.model
        tokens = self.tokens(step, layer)
        return {
            "d": model.hidden, "f": shape.ffn, "H": shape.heads, "K": shape.kv_heads, "h": shape.qk_dim,
            "L": len(self.layers), "V": model.vocab, "E": shape.experts, "B": self.batch * step.streams, "n": tokens,
            "rows": self.batch * step.streams * tokens, "T": self.prefill or step.tokens,
            "S": self.context(step, layer), "G": self.decode,
        }  # fmt: skip

    def ops_at(self, port: str, layer: int, phase: Phase) -> list[Op]:
        """Inserted operators of a port."""
        ops = self.recipe.ops if self.recipe else ()
        return [
            op for op in ops
            if port in op.at and op.phase in ("both", phase) and (not op.layers or layer in op.layers)
        ]  # fmt: skip


def weighted(
    name: str, codec: Codec | Format, act: Format, n: int, k: int, rows: int, *, count: int = 1, reads: bool = True
) -> list[Operator]:
    """Operators of a linear whose weight is stored by ``codec``: lookups, products and the adds of their results."""
    found = []
    for product in products(codec, n, k) if not isinstance(codec, Format) else [_of_format(codec, n, k)]:
        full = f"{name}.{product.suffix}" if product.suffix else name
        for vectors, length in product.lookups:
            found.append(Operator(name=f"{full}.lookup", kind="lookup", layers=(), m=vectors, n=length, count=count))
        if len(product.lookups) > 1:
            found[-1] = msgspec.structs.replace(found[-1], adds=len(product.lookups) - 1)
        keep_n, keep_m = product.keep
        found.append(Operator(
            name=full, kind="linear", layers=(), m=rows * product.streams, n=product.n, k=product.k, count=count,
            weight=product.format, act=act,
            weight_bytes=count * product.bytes if reads else 0, keep_n=keep_n, keep_m=keep_m,
            index_bytes=count * product.index_bytes if reads else 0, density=product.density,
            adds_only=product.adds_only,
        ))  # fmt: skip
        if product.adds:
            found.append(Operator(name=f"{full}.add", kind="elementwise", layers=(), m=rows, n=product.adds,
                                  count=count, adds=1))  # fmt: skip
    return found


def _of_format(item: Format, n: int, k: int) -> Product:
    return Product("", n, k, item, Stored(codes=float(n * item.row_bits(k) // 8 * 8)))


def _by_operator(codec: Codec) -> Split | None:
    """The split that gives whole matrices their parts, if ``codec`` is one."""
    apart = widths_apart(codec)
    return apart if isinstance(apart, Split) and apart.axis == "operator" else None


def _any_split(recipe: Recipe) -> bool:
    return any(isinstance(widths_apart(codec), Split) for codec in recipe.weight.values())


@functools.lru_cache(maxsize=4096)
def decoded(codec: Codec | Format) -> Format:
    """The operand format of a codec or of a format."""
    return codec if isinstance(codec, Format) else operand_format(codec)


def merged(by_layer: list[tuple[int, list[Operator]]]) -> list[Operator]:
    """One operator for each that is the same in several layers; in the order of execution within a layer."""
    order: list[str] = []
    groups: dict[str, dict[Operator, list[int]]] = {}
    for layer, operators in by_layer:
        place = 0
        for operator in operators:
            if operator.name not in groups:
                groups[operator.name] = {}
                order.insert(place, operator.name)
            place = order.index(operator.name) + 1
            groups[operator.name].setdefault(operator, []).append(layer)
    return [
        msgspec.structs.replace(operator, layers=tuple(layers))
        for name in order
        for operator, layers in groups[name].items()
    ]
