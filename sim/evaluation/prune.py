"""Weights that are absent: the largest of every few along K stay."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation.compression import Pruning


def kept(values: NDArray[Any], pruning: Pruning, where: str) -> NDArray[np.bool_]:
    """Which of ``values`` [N, K] stay: the n largest magnitudes of every m along K, the first of equals."""
    rows, k = values.shape
    if k % pruning.m:
        raise InputError(f"m must divide K: {pruning.m} does not divide {k}, in {where}")
    groups = np.abs(values).reshape(rows, k // pruning.m, pruning.m)
    order = np.argsort(-groups, axis=-1, kind="stable")
    mask = np.zeros(groups.shape, np.bool_)
    np.put_along_axis(mask, order[..., : pruning.n], True, axis=-1)
    return mask.reshape(rows, k)
