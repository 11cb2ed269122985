"""The ``topology`` table: edits of the model's graph, applied in order.

Numbers may be expressions over the layer's own symbols (see ``inserted``): ``"0.7*f"``, ``"H/2"``.
"""

from typing import Annotated, Literal

import msgspec

Positive = Annotated[int, msgspec.Meta(ge=1)]
Expr = str | int | float
Router = Literal["linear", "swiglu_probe", "none"]


class _Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="edit"):
    pass


class Drop(_Edit, frozen=True, kw_only=True, tag="drop"):
    """Remove blocks, or one sublayer of them: ``layers``, or ``count`` or the share ``share`` of them spread evenly."""

    layers: tuple[int, ...] = ()
    count: int = 0
    share: float = 0.0
    sublayer: Literal["block", "attention", "ffn"] = "block"

    def __post_init__(self) -> None:
        if sum(map(bool, (self.layers, self.count, self.share))) != 1:
            raise ValueError("drop must have exactly one of layers, count and share")


class ShareLayers(_Edit, frozen=True, kw_only=True, tag="share_layers"):
    """Groups of ``group`` consecutive blocks have one set of weights (0: all blocks one). ``resident``: it is read once
    a group and pass; otherwise every block reads it again."""

    group: int
    resident: bool = True


class Resize(_Edit, frozen=True, kw_only=True, tag="resize"):
    """Other dimensions of blocks (``layers``; empty: all): heads, KV heads, widths of queries and keys, of values, FFN.

    ``ffn`` and the like may be lists, one number a layer.
    """

    layers: tuple[int, ...] = ()
    heads: Expr | tuple[int, ...] = ""
    kv_heads: Expr | tuple[int, ...] = ""
    qk_dim: Expr | tuple[int, ...] = ""
    v_dim: Expr | tuple[int, ...] = ""
    ffn: Expr | tuple[int, ...] = ""


class Carve(_Edit, frozen=True, kw_only=True, tag="carve"):
    """Dense FFNs cut into ``experts`` of equal width: ``shared`` run always, ``active`` of the others a token."""

    experts: Positive
    active: Positive
    shared: int = 0
    router: Router = "linear"


class Experts(_Edit, frozen=True, kw_only=True, tag="experts"):
    """FFNs replaced by ``experts`` of width ``width`` (empty: as the FFN), ``active`` for each token.

    ``active`` may be a mean below a whole number (a second expert that is dropped for some tokens).
    """

    experts: Positive
    active: float
    shared: int = 0
    width: Expr = ""
    router: Router = "linear"


class Head(_Edit, frozen=True, kw_only=True, tag="head"):
    """The LM head has ``rows`` outputs (0: none at all), spread to the vocabulary by a map of ``map_bits`` a token."""

    rows: Expr
    map_bits: int = 0


class Tower(_Edit, frozen=True, kw_only=True, tag="tower"):
    """Another model (a preset) that runs in the prefill over ``tokens``, ``times`` of them; ``layers`` of it (0: all).
    Then it decodes ``decode`` tokens itself (a caption), one after the other.

    A tower of the same ``name`` that the model has is replaced; ``tokens`` 0 removes it. ``tokens`` and ``times`` may
    name T, the tokens of the prefill.
    """

    name: str
    tokens: Expr
    model: str = ""
    times: Expr = 1
    layers: int = 0
    decode: Annotated[int, msgspec.Meta(ge=0)] = 0


class Cross(_Edit, frozen=True, kw_only=True, tag="cross"):
    """Cross-attention over ``tokens`` cached tokens after self-attention in ``layers`` (empty: all).

    ``kv``: each layer has its own keys and values of them, or ``shared`` ones that no layer projects. ``queries``: only
    so many of a pass's tokens (the text) attend; 0: all.
    """

    tokens: Expr
    layers: tuple[int, ...] = ()
    kv: Literal["own", "shared"] = "own"
    queries: int = 0


class ShareKv(_Edit, frozen=True, kw_only=True, tag="share_kv"):
    """``layers`` read the cache of an earlier layer: they project, write and store no keys and values."""

    layers: tuple[int, ...]


Edit = Drop | ShareLayers | Resize | Carve | Experts | Head | Tower | Cross | ShareKv
