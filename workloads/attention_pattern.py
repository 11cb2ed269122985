"""The ``attn`` table: which cached tokens a query sees, by layer and KV head, and who decides it.

A pattern says how many of ``tokens`` visible tokens the query of the last one sees. A prefill's share of the causal
triangle follows by summing that over its tokens (of blocks of 64 x 64 where the pattern is stated in blocks).
"""

import functools
import math
from collections import Counter
from typing import Annotated, Literal

import msgspec

from mixflight.workloads.inserted import Op
from mixflight.workloads.law import Law, mean

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]


class _Pattern(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="pattern"):
    """What patterns share.

    ``layers``   only these; empty: all. The last entry that holds a layer counts.
    ``phase``    prefill, decode or both; attention is full in the other.
    ``scorer``   operators that find what to keep, at the port ``scores`` (an ``Op`` without ``at``).
    ``refresh``  every so-manieth decode step sees everything; 0: none.
    ``ring``     a head stores only the tokens that it sees (where no later query sees others: a fixed span).
    """

    layers: tuple[int, ...] = ()
    phase: Literal["both", "prefill", "decode"] = "both"
    scorer: tuple[Op, ...] = ()
    refresh: Count = 0
    ring: bool = False

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """Tokens that the query of the last of ``tokens`` tokens sees in KV head ``head``; ``length`` of the text."""
        return float(tokens)

    def density(self, tokens: int, layer: int, head: int, context: int) -> float:
        """Share of the causal pairs of a prefill of ``tokens`` of ``context`` tokens that are computed."""
        return _density(self.of_head(layer, head, context), tokens, context)

    def of_head(self, layer: int, head: int, length: int) -> "_Pattern":
        """The pattern of one head, equal for heads that see the same: its density is worked out once."""
        return self


@functools.lru_cache(maxsize=65536)
def _density(pattern: "_Pattern", tokens: int, context: int) -> float:
    first = context - tokens
    pairs = sum(min(t, pattern.seen(t, 0, 0, context)) for t in range(first + 1, context + 1))
    return float(pairs / (tokens * first + tokens * (tokens + 1) / 2))


class Full(_Pattern, frozen=True, kw_only=True, tag="full"):
    """Everything."""


class Window(_Pattern, frozen=True, kw_only=True, tag="window"):
    """The latest ``tokens`` and the first ``sink``."""

    tokens: Positive
    sink: Count = 0

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """At most window and sink."""
        return float(min(tokens, self.tokens + self.sink))


class Elastic(_Pattern, frozen=True, kw_only=True, tag="elastic"):
    """A span of alpha + beta times the length: one for all, one a layer, or one a layer and KV head.

    ``sink`` tokens are part of the span; it is rounded up to ``round`` and at least ``least``.
    """

    alpha: float | tuple[float | tuple[float, ...], ...]
    beta: float | tuple[float | tuple[float, ...], ...]
    sink: Count = 0
    round: Positive = 1
    least: Count = 0

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """At most the span, which is that of the whole text."""
        return self.of_head(layer, head, length).seen(tokens, layer, head, length)

    def of_head(self, layer: int, head: int, length: int) -> "_Pattern":
        """A window of the head's span, its own token at least."""
        span = _entry(self.alpha, layer, head) + _entry(self.beta, layer, head) * length
        return Window(tokens=max(1, self.least, self.sink, math.ceil(span / self.round) * self.round))


def _entry(table: object, layer: int, head: int) -> float:
    if isinstance(table, tuple):
        table = table[layer % len(table)]
    if isinstance(table, tuple):
        table = table[head % len(table)]
    assert isinstance(table, int | float)
    return float(table)


class HeadMap(_Pattern, frozen=True, kw_only=True, tag="headmap"):
    """``full`` KV heads of a layer see everything (one number, or one a layer; below 1: that share of the heads), the
    others the latest ``recent`` tokens and the first ``sink``. Full heads are the first ones."""

    full: float | tuple[float, ...]
    sink: Count
    recent: Positive
    heads: Positive

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """Everything, or sink and recent tokens."""
        return self.of_head(layer, head, length).seen(tokens, layer, head, length)

    def of_head(self, layer: int, head: int, length: int) -> "_Pattern":
        """No limit, or a window with its sink."""
        number = _entry(self.full, layer, 0)
        full = round(number * self.heads) if number < 1 else number
        return Full() if head < full else Window(tokens=self.recent, sink=self.sink)


class TopK(_Pattern, frozen=True, kw_only=True, tag="topk"):
    """At most ``budget`` tokens (a law of the length), or the share ``keep``, in blocks of ``block``; ``sink`` and
    ``local`` tokens are among them."""

    budget: Law = 0.0
    keep: Law = 1.0
    block: Positive = 1
    sink: Count = 0
    local: Count = 0

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """The budget in whole blocks."""
        budget = mean(self.budget, length)
        budget = budget or mean(self.keep, length) * tokens
        budget = max(budget, self.sink + self.local)
        return float(min(tokens, math.ceil(budget / self.block) * self.block))


class Block(_Pattern, frozen=True, kw_only=True, tag="block"):
    """A share ``share`` of the causal blocks of ``block`` x ``block`` tokens, as a law of the length."""

    share: Law
    block: Positive = 64

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """That share of the tokens."""
        return max(1.0, tokens * mean(self.share, length))

    def density(self, tokens: int, layer: int, head: int, context: int) -> float:
        """The law itself."""
        return mean(self.share, context)


class Hierarchical(_Pattern, frozen=True, kw_only=True, tag="hier"):
    """``topk`` blocks of ``block`` tokens, found on ``levels`` of means; ``coarse`` means are attended to as well."""

    block: Positive
    topk: Positive
    levels: Positive = 1
    coarse: Count = 0

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """Chosen blocks and means."""
        return float(min(tokens, self.block * self.topk * self.levels + self.coarse))


class Chunk(_Pattern, frozen=True, kw_only=True, tag="chunk"):
    """Chunks of ``chunk`` tokens: all tokens of the query's own, the share ``earlier`` of those before."""

    chunk: Positive
    earlier: Law = 0.0

    def seen(self, tokens: int, layer: int, head: int, length: int) -> float:
        """Its own chunk so far, and a share of the earlier ones."""
        own = (tokens - 1) % self.chunk + 1
        return own + (tokens - own) * mean(self.earlier, length)


Pattern = Full | Window | Elastic | HeadMap | TopK | Block | Hierarchical | Chunk
FULL = Full()


def pattern_of(patterns: tuple[Pattern, ...], layer: int, phase: Literal["prefill", "decode"], step: int) -> Pattern:
    """The pattern of ``layer`` in decode step ``step`` (or the prefill); a refreshing step sees everything."""
    found: Pattern = FULL
    for pattern in patterns:
        if (not pattern.layers or layer in pattern.layers) and pattern.phase in ("both", phase):
            found = pattern
    if phase == "decode" and found.refresh and step % found.refresh == 0:
        return FULL
    return found


def spans(pattern: Pattern, tokens: int, layer: int, heads: int, length: int) -> list[tuple[int, int]]:
    """(tokens seen, KV heads that see so many) of a decode step, widest first."""
    if isinstance(pattern, Full):
        return [(tokens, heads)]
    counts = Counter(max(1, round(pattern.seen(tokens, layer, head, length))) for head in range(heads))
    return sorted(counts.items(), reverse=True)


def densities(
    pattern: Pattern, tokens: int, layer: int, heads: int, context: int, causal: bool = True
) -> list[tuple[float, int]]:
    """(share of the pairs, KV heads that compute it) of a pass over ``tokens`` tokens, densest first.

    The pairs are the causal ones; without a causal mask every query sees what the last one does.
    """
    if isinstance(pattern, Full):
        return [(1.0, heads)]

    def share(head: int) -> float:
        if causal or isinstance(pattern, Block):
            return pattern.density(tokens, layer, head, context)
        return pattern.seen(context, layer, head, context) / context

    counts = Counter(min(1.0, share(head)) for head in range(heads))
    return sorted(counts.items(), reverse=True)
