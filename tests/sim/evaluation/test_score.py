"""Losses, windows and intervals, on models small enough to know the answer."""

import math

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation.score import WINDOW, Perplexity, losses, windows


def test_windows_are_nearly_equal_and_hold_every_token_once():
    tokens = list(range(2436))
    cut = windows(tokens)
    assert [token for window in cut for token in window] == tokens
    assert len(cut) == 5
    assert {len(window) for window in cut} == {487, 488}
    assert len(windows(tokens[:WINDOW])) == 1 and len(windows(tokens[: WINDOW + 1])) == 2
    with pytest.raises(InputError, match="at least 2"):
        windows([1])


def test_a_model_that_knows_nothing_has_the_perplexity_of_the_vocabulary():
    def logits(window):
        for at in range(0, len(window), 100):
            yield np.zeros((len(window[at : at + 100]), 37), np.float32)

    steps = []
    found = losses([3] * 700, logits, steps.append)
    assert sum(steps) == 700
    assert len(found) == 700 - len(windows([3] * 700))
    measured = Perplexity.of(found)
    assert measured.value == pytest.approx(37)
    assert measured.low == pytest.approx(37) == measured.high
    assert measured.tokens == len(found)


def test_each_token_is_predicted_by_the_row_before_it():
    tokens = [int(t) for t in np.random.default_rng(0).integers(0, 9, 300)]

    def logits(window):
        rows = np.zeros((len(window), 9), np.float32)
        rows[np.arange(len(window) - 1), window[1:]] = 4
        yield from np.array_split(rows, 7)

    assert losses(tokens, logits) == pytest.approx(math.log(math.exp(4) + 8) - 4)


def test_the_interval_covers_what_it_says():
    """Of 400 texts of independent losses, 95 % of the intervals hold the true mean, to within sampling error."""
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(400):
        found = Perplexity.of(rng.exponential(3.0, 2560))
        held += found.low <= math.exp(3.0) <= found.high
    assert 0.91 <= held / 400 <= 0.98


def test_the_ratio_of_a_constant_difference_is_exact():
    one = np.random.default_rng(1).exponential(3.0, 640)
    assert Perplexity.ratio(one + math.log(1.02), one) == pytest.approx((1.02, 1.02, 1.02))
    with pytest.raises(InputError, match="same tokens"):
        Perplexity.ratio(one, one[:-1])


def test_refusals():
    with pytest.raises(InputError, match="at least 128"):
        Perplexity.of(np.ones(100))
    with pytest.raises(InputError, match="finite"):
        Perplexity.of(np.full(200, np.nan))
