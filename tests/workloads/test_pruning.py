"""Pruning by magnitude keeps the largest, in a format in which 0 is zero."""

import numpy as np
import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.pruning import pruned
from mixflight.workloads.tensor import pack_tensor


def tensor(form="q8_0", n=7, k=96, seed=0):
    rng = np.random.default_rng(seed)
    if form == "q8_0":
        return pack_tensor("w", form, codes=rng.integers(-127, 128, (n, k)).astype(np.int8),
                           scales=rng.uniform(0.01, 1, (n, k // 32)).astype(np.float16))
    return pack_tensor("w", form, codes=rng.integers(0, 16, (n, k)).astype(np.uint8),
                       scales=rng.uniform(0.01, 1, (n, k // 32)).astype(np.float16),
                       minima=rng.uniform(-4, 0, (n, k // 32)).astype(np.float16))


@pytest.mark.parametrize(("n", "m"), [(8, 16), (4, 16), (2, 4), (4, 8), (32, 96)])
def test_the_largest_are_kept(n, m):
    dense = tensor()
    kept = pruned(dense, n, m).codes().reshape(7, -1, m) != 0
    values = np.abs(dense.dequantise()).reshape(kept.shape)
    assert (kept.sum(-1) == np.minimum(n, (values > 0).sum(-1))).all()
    least = np.where(kept, values, np.inf).min(-1)
    assert (np.where(kept, 0, values).max(-1) <= least).all()
    assert np.array_equal(pruned(dense, n, m).codes()[kept.reshape(7, -1)], dense.codes()[kept.reshape(7, -1)])


def test_other_formats_become_q8_0():
    dense = tensor("q4_1")
    found = pruned(dense, 8, 16)
    assert found.format.name == "q8_0" and (found.codes().reshape(7, -1, 16) != 0).sum(-1).max() == 8
    kept = found.codes() != 0
    step = np.repeat(found.scales().astype(np.float32), 32, axis=1)
    assert (np.abs(found.dequantise() - dense.dequantise())[kept] <= 0.51 * step[kept] + 1e-3).all()


@pytest.mark.parametrize(("n", "m"), [(0, 16), (17, 16), (1, 36), (1, 0)])
def test_refusals(n, m):
    with pytest.raises(InputError, match=f"must keep 1 ... M of M values and divide K, not {n}:{m} of 96, in 'w'"):
        pruned(tensor(), n, m)
