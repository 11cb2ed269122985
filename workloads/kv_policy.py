"""The ``kv`` table: how keys and values are stored, and which tokens' stay."""

from typing import Annotated, Literal, NamedTuple

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.codec import Codec, Split, check_codec, widths_apart

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class KvLayers(_Strict, frozen=True, kw_only=True):
    """Layers whose keys and values are stored otherwise: those named, or the next ``count`` that nobody named."""

    k: Codec
    v: Codec
    layers: tuple[int, ...] = ()
    count: int = 0

    def __post_init__(self) -> None:
        if bool(self.layers) == bool(self.count):
            raise ValueError("an entry of kv.layers must have either layers or count")


class Segment(_Strict, frozen=True, kw_only=True):
    """``tokens`` at an end of the cache that are stored otherwise. ``loaded``: the prefill does not compute them."""

    tokens: int
    k: Codec = "f16"
    v: Codec = "f16"
    loaded: bool = False


class Latent(_Strict, frozen=True, kw_only=True):
    """Latents in place of keys and values: shares of all KV heads' channels that are kept.

    Down-projections replace the weights ``k`` and ``v``. What is in ``absorb`` is multiplied into the query or the
    output projection; the others are projected up for every cached token that a pass reads.
    """

    k: Share
    v: Share
    absorb: tuple[Literal["k", "v"], ...] = ("v",)


class Evict(_Strict, frozen=True, kw_only=True):
    """Tokens that stay: at most ``slots``, or the share ``keep`` of them (one number, or one a layer)."""

    slots: int = 0
    keep: Share | tuple[Share, ...] = 1.0

    def kept(self, tokens: int, layer: int) -> int:
        """Tokens of ``tokens`` that the cache of ``layer`` holds."""
        share = self.keep if isinstance(self.keep, float | int) else self.keep[layer % len(self.keep)]
        kept = max(1, round(tokens * share)) if tokens else 0
        return min(kept, self.slots) if self.slots else kept


class Part(NamedTuple):
    """``tokens`` of a cache that are stored by ``codec``; ``side_bits`` a value say which tokens they are. ``apart``:
    at an end of the cache, in full where others are latents."""

    tokens: int
    codec: Codec
    side_bits: float = 0.0
    apart: bool = False


class Kv(_Strict, frozen=True, kw_only=True):
    """Keys and values of all layers, per token and head.

    ``k``, ``v``   codecs. ``layers``  others for some layers.
    ``window``     the latest tokens, stored otherwise; ``residual`` is short for a window of so many FP16 tokens.
    ``pivot``      the first tokens, stored otherwise.
    ``flush``      tokens are compressed that many at a time: up to flush - 1 more of them wait in the window.
    ``latent``     latents in place of keys and values.
    ``evict``      how many tokens stay.
    """

    k: Codec
    v: Codec
    layers: tuple[KvLayers, ...] = ()
    window: Segment | None = None
    residual: int = 0
    pivot: Segment | None = None
    flush: int = 1
    latent: Latent | None = None
    evict: Evict | None = None

    def __post_init__(self) -> None:
        if self.residual and self.window:
            raise ValueError("kv must have either residual or window")
        if self.flush < 1 or self.residual < 0:
            raise ValueError("flush must be at least 1 and residual at least 0")

    @property
    def plain(self) -> bool:
        """Whether all tokens of all layers are stored alike in named formats."""
        extras = self.layers or self.window or self.residual or self.pivot or self.latent or self.evict
        return not extras and self.flush == 1 and isinstance(self.k, str) and isinstance(self.v, str)

    def check(self, where: str) -> None:
        """Refuse names of formats that do not exist."""
        for name, place in (("k", self), ("v", self), *((n, s) for s in self._segments() for n in ("k", "v"))):
            check_codec(getattr(place, name), f"{where}, kv.{name}")

    def _segments(self) -> list[KvLayers | Segment]:
        return [*self.layers, *(segment for segment in (self.window, self.pivot) if segment)]

    def codecs(self, layer: int, layers: int) -> tuple[Codec, Codec]:
        """Codecs of keys and values of ``layer`` of ``layers``."""
        for entry, held in zip(self.layers, self._held(layers), strict=True):
            if layer in held:
                return entry.k, entry.v
        return self.k, self.v

    def _held(self, layers: int) -> list[set[int]]:
        named = {layer for entry in self.layers for layer in entry.layers}
        if wrong := [layer for layer in named if not 0 <= layer < layers]:
            raise InputError(f"kv.layers must name layers 0 ... {layers - 1}, not {min(wrong)}")
        free = [layer for layer in range(layers) if layer not in named]
        counted = sum(entry.count for entry in self.layers)
        if counted > len(free):
            raise InputError(f"the counts of kv.layers must be at most {len(free)} in sum, not {counted}")
        held = []
        for entry in self.layers:
            held.append(set(entry.layers or free[: entry.count]))
            free = free[entry.count :]
        return held

    def kept(self, tokens: int, layer: int) -> int:
        """Tokens of ``tokens`` that the cache of ``layer`` holds."""
        return self.evict.kept(tokens, layer) if self.evict else tokens

    def parts(self, which: Literal["k", "v"], codec: Codec, tokens: int, waiting: int) -> list[Part]:
        """``tokens`` kept tokens by how they are stored; ``waiting`` of them have not been compressed yet."""
        window = self.window or (Segment(tokens=self.residual) if self.residual or self.flush > 1 else None)
        first = min(tokens, self.pivot.tokens) if self.pivot else 0
        latest = min(tokens - first, window.tokens + waiting % self.flush) if window else 0
        found = []
        if self.pivot and first:
            found.append(Part(first, getattr(self.pivot, which), apart=True))
        found += _by_token(codec, tokens - first - latest)
        if window and latest:
            found.append(Part(latest, getattr(window, which), apart=True))
        return [part for part in found if part.tokens]


def _by_token(codec: Codec, tokens: int) -> list[Part]:
    codec = widths_apart(codec)
    if not isinstance(codec, Split) or codec.axis != "token":
        return [Part(tokens, codec)]
    edges = [round(tokens * sum(share for share, _ in codec.parts[:i])) for i in range(len(codec.parts) + 1)]
    return [Part(edges[i + 1] - edges[i], part, codec.side_bits) for i, (_, part) in enumerate(codec.parts)]
