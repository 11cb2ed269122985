"""The ``decode`` table: control flow that turns a model into steps.

Every step is one pass of the target over ``tokens`` query tokens at a context, of which ``kept`` become output; what
drafts them runs before it. Speculation, parallel decoding, diffusion and beams differ in these numbers only.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.law import Draws, Law, mean
from mixflight.workloads.topology import Drop

Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Expr = str | int | float


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What proposes tokens: any of a ``model`` (a preset; it has a cache of its own and a prefill that fills it), the
    target's own first ``layers`` or share ``share`` of its layers, the target without what ``skip`` drops, or a table.

    ``passes``      of the draft for each step of the target; ``tokens`` that a pass processes.
    ``context``     tokens in its cache, an expression of S; empty: as the target.
    ``head``        the draft's layers are followed by the LM head.
    ``reuse``       the target's pass takes over what its first ``layers`` made of the drafted tokens and runs the
                    others; the newest token passes the first ones once more than is drafted.
    ``table_bytes`` read from a table for each step, an expression; ``state_bytes`` the table's size.
    """

    model: str = ""
    layers: Count = 0
    share: float = 0.0
    skip: tuple[Drop, ...] = ()
    passes: Law = 1.0
    tokens: Positive = 1
    context: Expr = ""
    head: bool = True
    reuse: bool = False
    table_bytes: Expr = 0
    state_bytes: Expr = 0

    def __post_init__(self) -> None:
        if sum(map(bool, (self.model, self.layers, self.share, self.skip))) > 1:
            raise ValueError("a draft must have at most one of model, layers, share and skip")
        if self.reuse and not (self.layers or self.share):
            raise ValueError("a draft with reuse must have layers or share")

    @property
    def own(self) -> bool:
        """Whether it is a part of the target."""
        return bool(self.layers or self.share or self.skip)


class _Strategy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What strategies share: a prefill in chunks of ``chunk`` tokens (0: at once), each with ``piggyback`` tokens of
    other sequences' decode steps. ``again``: expected times that the prefill is repeated without token flows and with
    the model's own towers (a second look at the whole image)."""

    chunk: Count = 0
    piggyback: Count = 0
    again: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Autoregressive(_Strategy, frozen=True, kw_only=True, tag="autoregressive"):
    """One token a step for each of ``streams`` that share the prefill (samples, beams, guidance).

    ``own_prefill``  the streams have prefills of their own. ``reorder``  their caches are permuted in every step.
    ``early``        the first stream to end stops all: steps are this share of the tokens wanted.
    ``superposed``   the streams are weighted sums of embeddings in one pass: they cost one.
    """

    streams: Positive = 1
    own_prefill: bool = False
    reorder: bool = False
    early: Law = 1.0
    superposed: bool = False


class Speculative(_Strategy, frozen=True, kw_only=True, tag="speculative"):
    """Each step verifies ``width`` tokens (a chain or the nodes of a tree) and keeps ``kept`` of them.

    ``parallel``  the draft runs beside the target and is a step ahead: it drafts the tokens after those that the target
                  verifies (one more set of passes before the first step). The target verifies a single token until
                  it is accepted, then ``width`` tokens a step as long as all are; what the draft made after a token
                  that is refused is lost. ``kept`` above the number of tokens verified means that all are accepted.
    """

    width: Law
    kept: Law
    draft: Draft | None = None
    parallel: bool = False

    def __post_init__(self) -> None:
        if self.parallel and self.draft is None:
            raise ValueError("a speculative strategy with parallel must have a draft")


class Diffusion(_Strategy, frozen=True, kw_only=True, tag="diffusion"):
    """Masked diffusion: ``length`` tokens after the prompt (0: those wanted), in blocks of ``block`` (0: one; a law
    where the text decides where a block ends).

    A step processes the whole canvas (``cache`` none), the block and all after it (``prefix``) or the block (``dual``)
    and commits ``kept`` tokens. With a cache, every block begins with a pass over the whole canvas that counts as a
    step. ``truncate``: share of the answer after which its end is found; the blocks after that are never processed.
    """

    kept: Law
    length: Count = 0
    block: Law = 0.0
    cache: Literal["none", "prefix", "dual"] = "none"
    truncate: float = 1.0


class Denoise(_Strategy, frozen=True, kw_only=True, tag="denoise"):
    """``steps`` passes over the tokens of the prefill without a cache (an image or video diffusion model).

    ``streams``  passes for each step (2: guidance). ``ranges``  other weights in some steps: see ``StepRange``.
    ``cheap``    steps that process only the share ``queries`` of the tokens against cached features, evenly spread
                 behind the first one, which has nothing to reuse.
    """

    steps: Positive
    streams: Positive = 1
    ranges: "tuple[StepRange, ...]" = ()
    cheap: Count = 0
    queries: float = 1.0

    def __post_init__(self) -> None:
        if self.cheap >= self.steps:
            raise ValueError(f"cheap must be less than the {self.steps} steps, not {self.cheap}")


class StepRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights that have other formats in ``steps`` of the steps, which stand in the order of the ranges."""

    steps: Positive
    weight: dict[str, str]


class Schedule(_Strategy, frozen=True, kw_only=True, tag="schedule"):
    """Steps of given widths, as next-scale image models have: ``widths[i]`` tokens, all kept.

    ``small``  a preset model that runs the steps from ``small_from`` on, in place of the target; its cache holds these
               steps' tokens alone.
    """

    widths: tuple[Positive, ...]
    small: str = ""
    small_from: Count = 0


Decode = Autoregressive | Speculative | Diffusion | Denoise | Schedule


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One pass of the target: ``tokens`` query tokens, after which ``context`` tokens are seen; ``kept`` are output.

    ``streams`` sequences for each of the batch; ``logits`` rows of the head a sequence; ``causal`` or not;
    ``model`` runs it in place of the target. The draft makes ``draft_passes`` passes, ``ahead`` tokens further on than
    the target. ``index`` counts the steps from 0.
    """

    index: int
    tokens: int
    context: int
    kept: float
    logits: int
    streams: int = 1
    causal: bool = True
    draft_passes: float = 0.0
    ahead: int = 0
    model: str = ""


def steps(strategy: Decode, prefill: int, decode: int) -> Iterator[Step]:
    """Steps that output at least ``decode`` tokens after ``prefill`` (a denoiser or a schedule: all of its steps)."""
    if isinstance(strategy, Autoregressive):
        count = max(1, round(decode * mean(strategy.early, decode)))
        streams = 1 if strategy.superposed else strategy.streams
        for i in range(count):
            yield Step(index=i, tokens=1, context=prefill + i + 1, kept=1.0, logits=1, streams=streams)
    elif isinstance(strategy, Speculative):
        yield from _speculative(strategy, prefill, decode)
    elif isinstance(strategy, Diffusion):
        yield from _diffusion(strategy, prefill, decode)
    elif isinstance(strategy, Schedule):
        context = prefill
        for i, width in enumerate(strategy.widths):
            small = strategy.small if strategy.small and i >= strategy.small_from else ""
            context = width if small and i == strategy.small_from else context + width
            yield Step(index=i, tokens=width, context=context, kept=width, logits=width, causal=False, model=small)
    else:
        yield from _denoise(strategy, prefill)


def _speculative(strategy: Speculative, prefill: int, decode: int) -> Iterator[Step]:
    widths, kepts = Draws(strategy.width), Draws(strategy.kept)
    passes = Draws(strategy.draft.passes) if strategy.draft else None
    done, index, exact = 0.0, 0, isinstance(strategy.kept, int | float)
    single = strategy.parallel
    while done < decode - 1e-9:
        width = max(1, round(widths.next(index)))
        kept = kepts.next(index)
        if kept <= 0 or kept > width + strategy.parallel and exact:
            raise InputError(f"a step must keep more than 0 and at most its {width} tokens, not {kept:g}")
        tokens = 1 if single else width
        accepted = kept > tokens
        drafted = passes.next(index) if passes else 0.0
        yield Step(
            index=index, tokens=tokens, context=prefill + int(done) + tokens, kept=min(kept, tokens, decode - done),
            logits=tokens, draft_passes=drafted * (2 if strategy.parallel and not index else 1),
            ahead=width if strategy.parallel else 0,
        )  # fmt: skip
        done, index = done + min(kept, tokens, decode - done), index + 1
        single = strategy.parallel and not accepted


def _diffusion(strategy: Diffusion, prefill: int, decode: int) -> Iterator[Step]:
    length = strategy.length or decode
    canvas, end = prefill + length, max(1, round(length * strategy.truncate))
    blocks, kepts, index, start, block = Draws(strategy.block or length), Draws(strategy.kept), 0, 0, 0
    while start + block < end:
        start += block
        block = min(round(blocks.next(start)), length - start)
        if block < 1:
            raise InputError(f"a block must have at least 1 token, not {block}")
        left, fresh = float(block), True
        while left > 1e-9:
            kept = min(left, kepts.next(index))
            if kept <= 0:
                raise InputError(f"a diffusion step must commit more than 0 tokens, not {kept:g}")
            tokens = canvas
            if strategy.cache != "none" and not fresh:
                tokens = block if strategy.cache == "dual" else canvas - prefill - start
            tokens = max(1, min(tokens, canvas))
            yield Step(index=index, tokens=tokens, context=canvas, kept=kept, logits=tokens, causal=False)
            left, index, fresh = left - kept, index + 1, False


def _denoise(strategy: Denoise, prefill: int) -> Iterator[Step]:
    cheap = {math.ceil((i + 1) * strategy.steps / strategy.cheap) - 1 for i in range(strategy.cheap)}
    for i in range(strategy.steps):
        tokens = max(1, round(prefill * strategy.queries)) if i in cheap else prefill
        yield Step(
            index=i, tokens=tokens, context=prefill, kept=prefill / strategy.steps, logits=0, causal=False,
            streams=strategy.streams,
        )  # fmt: skip
