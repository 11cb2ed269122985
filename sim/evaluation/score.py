"""How surprised a model is by a text: losses token by token, and perplexity with its interval.

    losses       a text's tokens to -ln p of each, in windows, by any function that gives logits
    golden       logits in golden arithmetic
    Perplexity   exp of the mean loss, with a 95 % interval

The text is cut into windows of nearly equal length, at most WINDOW tokens. Each window starts with an empty cache; its
first token is given, and every other token is predicted from those before it in the window.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.kernels import in_parts
from mixflight.sim.golden.llama import Llama, Session
from mixflight.sim.golden.numerics import Numerics

WINDOW = 512
CHUNK = 128  # tokens whose logits are held at once
BLOCK = 64  # tokens of one sample of the interval: neighbours are not independent
NORMAL_95 = 1.959964

Losses = NDArray[np.float64]
Logits = Callable[[Sequence[int]], Iterator[F32]]


class Perplexity(msgspec.Struct, frozen=True, kw_only=True):
    """exp of the mean loss of ``tokens`` predicted tokens; ``low`` to ``high`` is a 95 % interval.

    The interval is the mean plus and minus 1.96 standard errors of the means of blocks of 64 consecutive tokens, before
    exp: it says how much another text of the kind would move the value. Two recipes on the same text move together, so
    their ratio is known much better: ``ratio`` takes it block by block.
    """

    value: float
    low: float
    high: float
    tokens: int

    @staticmethod
    def of(losses: Losses) -> "Perplexity":
        """Of the losses of a text in order."""
        value, low, high = _interval(losses)
        return Perplexity(value=value, low=low, high=high, tokens=len(losses))

    @staticmethod
    def ratio(losses: Losses, reference: Losses) -> tuple[float, float, float]:
        """Perplexity over that of ``reference`` on the same tokens, with its 95 % interval."""
        if len(losses) != len(reference):
            raise InputError(f"both must have predicted the same tokens, not {len(losses)} and {len(reference)}")
        return _interval(losses - reference)


def _interval(losses: Losses) -> tuple[float, float, float]:
    if not np.isfinite(losses).all():
        raise InputError("every loss must be finite")
    blocks = len(losses) // BLOCK
    if blocks < 2:
        raise InputError(f"an interval needs at least {2 * BLOCK} predicted tokens, not {len(losses)}")
    means = np.array([part.mean() for part in np.array_split(losses, blocks)])
    mean = float(losses.mean())
    error = NORMAL_95 * float(means.std(ddof=1)) / math.sqrt(blocks)
    return tuple(math.exp(min(x, 700.0)) for x in (mean, mean - error, mean + error))  # type: ignore[return-value]


def windows(tokens: Sequence[int]) -> list[list[int]]:
    """The tokens in as few windows as WINDOW allows, their lengths equal to within one."""
    if len(tokens) < 2:
        raise InputError(f"a text must have at least 2 tokens, not {len(tokens)}")
    count = -(-len(tokens) // WINDOW)
    edges = [len(tokens) * i // count for i in range(count + 1)]
    return [list(tokens[first:end]) for first, end in zip(edges, edges[1:], strict=False)]


def losses(tokens: Sequence[int], logits: Logits, on_tokens: Callable[[int], None] | None = None) -> Losses:
    """-ln p of every predicted token; ``logits(window)`` gives rows for the window's tokens, some at a time.

    ``on_tokens`` is told how many tokens each step was.
    """
    found = []
    for window in windows(tokens):
        at = 0
        for rows in logits(window):
            wanted = np.array(window[at + 1 : at + 1 + len(rows)], np.int64)
            found.append(_losses(rows[: len(wanted)], wanted))
            at += len(rows)
            if on_tokens is not None:
                on_tokens(len(rows))
    return np.concatenate(found)


def _losses(rows: F32, wanted: NDArray[np.int64]) -> Losses:
    found = np.empty(len(rows), np.float64)

    def run(first: int, end: int) -> None:
        found[first:end] = _row_losses(rows[first:end], wanted[first:end])

    in_parts(len(rows), rows.size, run)
    return found


def _row_losses(rows: F32, wanted: NDArray[np.int64]) -> Losses:
    highest = rows.max(axis=1, keepdims=True)
    total = np.exp(rows - highest).sum(axis=1, dtype=np.float64)
    picked = rows[np.arange(len(wanted)), wanted].astype(np.float64)
    result: Losses = highest[:, 0].astype(np.float64) + np.log(total) - picked
    return result


def golden(llama: Llama, numerics: Numerics) -> Logits:
    """Logits in golden arithmetic under ``numerics``."""

    def logits(window: Sequence[int]) -> Iterator[F32]:
        session = Session(llama, numerics=numerics)
        for at in range(0, len(window), CHUNK):
            yield session.extend(window[at : at + CHUNK], every=True)

    return logits
