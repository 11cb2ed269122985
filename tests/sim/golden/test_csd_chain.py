"""Sums of the sparse DSP chain by hand and against a dense matrix product; the packing of N:M rows."""

import numpy as np
import pytest

from mixflight.sim.golden.csd_chain import chain_sums, kept_weights


def test_two_sums_of_two_by_hand():
    sums = chain_sums(activations=np.array([[1, 10], [2, 20], [3, 30], [4, 40]]), weights=np.array([[5, -6, 7, 8]]),
                      indices=np.array([[0, 3, 1, 1]]), segment=2)
    assert sums.tolist() == [[[5 - 24, 50 - 240], [14 + 16, 140 + 160]]]


@pytest.mark.parametrize(("kept", "block"), [(2, 16), (4, 16), (8, 16), (2, 4), (4, 8), (16, 16)])
def test_kept_weights_give_the_dense_product(kept, block):
    random = np.random.default_rng(kept)
    weights = random.integers(-128, 128, (48, block))
    dropped = np.argsort(random.random(weights.shape), axis=1)[:, kept:]
    np.put_along_axis(weights, dropped, 0, axis=1)
    activations = random.integers(-128, 128, (block, 2))
    values, indices = kept_weights(weights, kept=kept, block=block)
    sums = chain_sums(activations=activations, weights=values.reshape(-1, 16), indices=indices.reshape(-1, 16),
                      segment=kept)
    np.testing.assert_array_equal(sums.reshape(-1, 2), weights @ activations)


def test_blocks_with_fewer_are_filled_with_their_own_zeros_and_more_are_refused():
    values, indices = kept_weights(np.array([[0, 9, 0, 0, 0, 0, 7, 6]]), kept=2, block=4)
    assert (values.tolist(), indices.tolist()) == ([[0, 9, 7, 6]], [[0, 1, 6, 7]])
    with pytest.raises(ValueError, match="at most 2 of 4 neighbours may differ from 0"):
        kept_weights(np.array([[1, 2, 3, 0]]), kept=2, block=4)
