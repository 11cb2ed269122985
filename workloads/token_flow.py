"""The ``tokens`` table: how many tokens reach each layer, and how many of them stay in the cache."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.law import Law, mean

_SITE = re.compile(r"pre_llm|cache|generated|layer:\d+")


class Flow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens of one class are reduced at one site.

    ``site``  ``pre_llm`` before the first layer, ``layer:N`` before layer N, ``cache`` after the prefill (only what
              stays is read in decode), ``generated`` for tokens of the decode as they enter the cache.
    ``of``    ``visual`` tokens (the model's, before anything is reduced), ``text`` tokens or ``all``.
    ``keep``  the share that goes on, a law of the number of tokens; or ``to``, a number of tokens; or ``add``, tokens
              that join them (memory tokens, registers; at ``cache``: keys and values that another model made).

    A prefill in chunks: each chunk is what its end adds to the counts of its beginning, visual tokens first.
    """

    site: str
    of: Literal["visual", "text", "all"] = "visual"
    keep: Law | None = None
    to: Annotated[int, msgspec.Meta(ge=0)] | None = None
    add: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if not _SITE.fullmatch(self.site):
            raise ValueError(f"site must be pre_llm, cache, generated or layer:N, not {self.site!r}")
        if [self.keep, self.to, self.add].count(None) != 2:
            raise ValueError("a flow must have exactly one of keep, to and add")
        if self.site == "generated" and self.keep is None:
            raise ValueError("a flow of generated tokens must have keep")

    def after(self, tokens: int) -> int:
        """What is left of ``tokens``."""
        if self.to is not None:
            return min(tokens, self.to)
        if self.add is not None:
            return tokens + self.add
        assert self.keep is not None
        return min(tokens, round(tokens * mean(self.keep, tokens)))


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of a prefill: in each ``layer``, and of those that stay in its ``cache``."""

    layer: tuple[int, ...]
    cache: tuple[int, ...]


def counts(flows: tuple[Flow, ...], layers: Sequence[int], of: int, tokens: int, visual: int) -> Counts:
    """Tokens in each of ``layers`` (of a model of ``of`` layers) of a prefill of ``tokens``, ``visual`` of them visual
    (0 ... tokens)."""
    sites = {flow.site for flow in flows}
    for site in sites:
        if site.startswith("layer:") and not 0 <= int(site[6:]) < of:
            raise InputError(f"a flow's site must be layer:0 ... layer:{of - 1}, not {site!r}")
    now = {"visual": min(visual, tokens), "text": tokens - min(visual, tokens)}
    now = _apply(flows, "pre_llm", now)
    by_layer, cached = [], []
    done = 0
    for layer in layers:
        for reached in range(done, layer + 1):
            now = _apply(flows, f"layer:{reached}", now)
        done = layer + 1
        by_layer.append(max(1, sum(now.values())))
        cached.append(max(1, sum(_apply(flows, "cache", now).values())))
    return Counts(layer=tuple(by_layer), cache=tuple(cached))


def _apply(flows: tuple[Flow, ...], site: str, now: dict[str, int]) -> dict[str, int]:
    for flow in flows:
        if flow.site != site:
            continue
        if flow.of == "all":
            total = sum(now.values())
            left = flow.after(total)
            visual = round(left * now["visual"] / total) if total else 0
            now = {"visual": visual, "text": left - visual}
        else:
            now = {**now, flow.of: flow.after(now[flow.of])}
    return now


def generated_share(flows: tuple[Flow, ...]) -> float:
    """Share of the generated tokens whose keys and values stay."""
    share = 1.0
    for flow in flows:
        if flow.site == "generated" and flow.keep is not None:
            share *= mean(flow.keep)
    return share
