"""The dimensions of one block, after the edits of a recipe's topology."""

from collections.abc import Mapping

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.expression import Number, evaluate, parse
from mixflight.workloads.model import Model, TowerOf
from mixflight.workloads.topology import (
    Carve,
    Cross,
    Drop,
    Edit,
    Experts,
    Expr,
    Head,
    Resize,
    Router,
    ShareKv,
    ShareLayers,
    Tower,
)


class LayerShape(msgspec.Struct, frozen=True, kw_only=True):
    """One block. ``reads_weights``: a pass reads them here (not where an earlier block's are still on chip);
    ``stores_weights``: they are its own. ``cross`` tokens of a cross-attention (0: none). ``active`` experts a token
    may be a mean."""

    heads: int
    kv_heads: int
    qk_dim: int
    v_dim: int
    ffn: int
    experts: int = 0
    active: float = 0.0
    shared: int = 0
    router: Router = "linear"
    attention: bool = True
    feed_forward: bool = True
    reads_weights: bool = True
    stores_weights: bool = True
    projects_kv: bool = True
    cross: Expr = 0
    cross_kv: str = "own"
    cross_queries: int = 0
    window: int = 0

    @property
    def queries_per_kv_head(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks by their number in the model, rows of the head with bits of a map to the vocabulary, and towers."""

    layers: dict[int, LayerShape]
    head_rows: int
    map_bits: int
    towers: tuple[TowerOf, ...]


def graph_of(model: Model, edits: tuple[Edit, ...]) -> Graph:
    """The blocks of ``model`` after ``edits``."""
    builder = _Graph(model)
    for edit in edits:
        builder.apply(edit)
    if not builder.layers:
        raise InputError(f"topology must leave at least one layer of {model.name}")
    return Graph(
        layers=builder.layers, head_rows=builder.head_rows, map_bits=builder.map_bits, towers=tuple(builder.towers)
    )


class _Graph:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.head_rows, self.map_bits = model.vocab, 0
        self.towers = list(model.towers)
        self.layers = {index: self._first(index) for index in range(model.layers)}

    def _first(self, index: int) -> LayerShape:
        model = self.model
        seen_all = index in model.global_layers or (model.global_every and (index + 1) % model.global_every == 0)
        return LayerShape(
            heads=model.heads, kv_heads=model.kv_heads, qk_dim=model.head_dim, v_dim=model.head_dim,
            ffn=model.expert_ffn if model.experts else model.ffn, experts=model.experts,
            active=float(model.active_experts), shared=model.shared_experts,
            window=0 if seen_all else model.window,
        )  # fmt: skip

    def symbols(self, shape: LayerShape) -> dict[str, Number]:
        """What an expression of an edit may name."""
        model = self.model
        return {
            "d": model.hidden, "f": shape.ffn, "H": shape.heads, "K": shape.kv_heads, "h": shape.qk_dim,
            "L": model.layers, "V": model.vocab, "E": shape.experts,
        }  # fmt: skip

    def apply(self, edit: Edit) -> None:
        if isinstance(edit, Drop):
            self._drop(edit)
        elif isinstance(edit, ShareLayers):
            self._share(edit)
        elif isinstance(edit, Head):
            self.head_rows = round(evaluate(edit.rows, self.symbols(next(iter(self.layers.values())))))
            self.map_bits = edit.map_bits
        elif isinstance(edit, Tower):
            self._tower(edit)
        else:
            named = () if isinstance(edit, Carve | Experts) else edit.layers
            for place, index in enumerate(self._chosen(named)):
                self.layers[index] = self._edited(edit, self.layers[index], index if named else place)

    def _chosen(self, layers: tuple[int, ...]) -> list[int]:
        for layer in layers:
            if layer not in self.layers:
                raise InputError(f"topology must name layers of {self.model.name} that are there, not {layer}")
        return list(layers) or list(self.layers)

    def _drop(self, edit: Drop) -> None:
        count = edit.count or round(edit.share * len(self.layers))
        there = list(self.layers)
        if count > len(there):
            raise InputError(f"topology must drop at most {len(there)} layers, not {count}")
        spread = [there[int((i + 0.5) * len(there) / count)] for i in range(count)] if not edit.layers else []
        for index in edit.layers and self._chosen(edit.layers) or spread:
            if edit.sublayer == "block":
                del self.layers[index]
            elif edit.sublayer == "attention":
                self.layers[index] = msgspec.structs.replace(self.layers[index], attention=False)
            else:
                self.layers[index] = msgspec.structs.replace(self.layers[index], feed_forward=False)

    def _share(self, edit: ShareLayers) -> None:
        for place, index in enumerate(self.layers):
            if place % (edit.group or len(self.layers)):
                self.layers[index] = msgspec.structs.replace(
                    self.layers[index], stores_weights=False, reads_weights=not edit.resident
                )

    def _tower(self, edit: Tower) -> None:
        symbols = self.symbols(next(iter(self.layers.values())))
        proportional, repeated = _names_length(edit.tokens), _names_length(edit.times)
        tokens, times = (float(evaluate(text, {**symbols, "T": 1})) for text in (edit.tokens, edit.times))
        self.towers = [tower for tower in self.towers if tower.name != edit.name]
        if tokens:
            self.towers.append(TowerOf(
                name=edit.name, model=edit.model, tokens=tokens, times=times,
                layers=edit.layers, decode=edit.decode, proportional=proportional, repeated=repeated,
            ))  # fmt: skip

    def _edited(self, edit: Resize | Carve | Experts | Cross | ShareKv, shape: LayerShape, place: int) -> LayerShape:
        symbols = self.symbols(shape)
        replace = msgspec.structs.replace
        if isinstance(edit, Resize):
            return _resized(edit, shape, symbols, place)
        if isinstance(edit, Carve):
            if shape.ffn % edit.experts or edit.active + edit.shared > edit.experts:
                raise InputError(
                    f"carve must cut the FFN evenly into at least active + shared experts, not {shape.ffn} into "
                    f"{edit.experts}"
                )
            return replace(shape, ffn=shape.ffn // edit.experts, experts=edit.experts - edit.shared,
                           active=float(edit.active), shared=edit.shared, router=edit.router)  # fmt: skip
        if isinstance(edit, Experts):
            if not 0 < edit.active <= edit.experts:
                raise InputError(f"active must lie in 1 ... {edit.experts} experts, not {edit.active:g}")
            width = round(evaluate(edit.width, symbols)) if edit.width != "" else shape.ffn
            return replace(shape, ffn=width, experts=edit.experts, active=float(edit.active), shared=edit.shared,
                           router=edit.router)  # fmt: skip
        if isinstance(edit, Cross):
            return replace(shape, cross=edit.tokens, cross_kv=edit.kv, cross_queries=edit.queries)
        return replace(shape, projects_kv=False)


def _names_length(expression: Expr) -> bool:
    return isinstance(expression, str) and "T" in parse(expression).symbols()


def _resized(edit: Resize, shape: LayerShape, symbols: Mapping[str, Number], place: int) -> LayerShape:
    changes = {}
    for field in ("heads", "kv_heads", "qk_dim", "v_dim", "ffn"):
        wanted = getattr(edit, field)
        if wanted == "":
            continue
        if isinstance(wanted, tuple):
            wanted = wanted[place % len(wanted)]
        changes[field] = round(evaluate(wanted, symbols))
        if changes[field] < 1:
            raise InputError(f"resize must leave {field} at least 1, not {changes[field]}")
    found = msgspec.structs.replace(shape, **changes)
    if found.heads % found.kv_heads:
        raise InputError(f"resize must leave heads a multiple of kv_heads, not {found.heads} and {found.kv_heads}")
    return found
