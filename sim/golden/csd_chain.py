"""Exact sums of the sparse DSP chain."""

import numpy as np
from numpy.typing import NDArray


def chain_sums(*, activations: NDArray[np.int64], weights: NDArray[np.int64], indices: NDArray[np.int64],
               segment: int) -> NDArray[np.int64]:
    """The sums of one slab's steps: [steps, length / segment, 2].

    ``activations`` [entries, 2] of both rows, ``weights`` and ``indices`` [steps, length]: product i of a step takes
    weight i and the activations of entry ``indices[i]``. ``segment`` neighbouring products make one sum.
    """
    products = weights[..., None] * activations[indices]
    steps, length = weights.shape
    sums: NDArray[np.int64] = products.reshape(steps, length // segment, segment, 2).sum(axis=2)
    return sums


def kept_weights(weights: NDArray[np.int64], *, kept: int, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Values and indices of N:M rows, both [rows, columns * kept / block], ``columns`` a multiple of ``block``.

    Of every ``block`` neighbours of ``weights`` [rows, columns] at most ``kept`` may differ from 0; a block with fewer
    is filled up with zeros of its own. Indices count within the row.
    """
    rows, columns = weights.shape
    blocks = weights.reshape(rows, columns // block, block)
    if (np.count_nonzero(blocks, axis=2) > kept).any():
        raise ValueError(f"at most {kept} of {block} neighbours may differ from 0")
    order = np.sort(np.argsort(blocks == 0, axis=2, kind="stable")[..., :kept], axis=2)
    values = np.take_along_axis(blocks, order, axis=2)
    base = np.arange(columns // block)[:, None] * block
    return values.reshape(rows, -1), (order + base).reshape(rows, -1)
