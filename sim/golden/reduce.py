"""FP32 sums in the one order that every hardware width can follow (``arch/numerics.md``, Reductions)."""

import numpy as np

from mixflight.sim.golden.checks import F32

PARTIALS = 128


def reduce_sum(x: F32) -> F32:
    """Sum over the last axis: element i goes to partial i mod 128, then the partials are folded by halves.

    A row is padded with zeros up to a multiple of 128. That changes no bit: a partial starts at +0 and a sum
    rounded to nearest is never -0 unless both terms are, so adding +0 leaves every partial as it is.
    """
    length = x.shape[-1]
    rows = -(-length // PARTIALS)
    padded = np.zeros((*x.shape[:-1], rows * PARTIALS), np.float32)
    padded[..., :length] = x
    partials = np.zeros((*x.shape[:-1], PARTIALS), np.float32)
    for row in range(rows):
        partials = partials + padded[..., row * PARTIALS : (row + 1) * PARTIALS]
    width = PARTIALS // 2
    while width:
        partials = partials[..., :width] + partials[..., width:]
        width //= 2
    return partials[..., 0]
