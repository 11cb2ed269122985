"""N:M pruning by magnitude: what is left of a stored weight when so many of each few values along K are kept."""

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.workloads.tensor import Tensor, pack_tensor

PRUNED = "q8_0"
"""The format of pruned weights: one in which a code of 0 is zero."""


def pruned(tensor: Tensor, n: int, m: int) -> Tensor:
    """``tensor`` with the ``n`` largest of each ``m`` values along K, of equal ones the first; the others are 0.

    What is kept is quantised to INT8 in groups of 32 with an FP16 scale, the largest of a group over 127; a Q8_0 tensor
    keeps its codes. ``m`` that does not divide K and ``n`` outside 1 ... m are an InputError.
    """
    if m < 1 or tensor.k % m or not 1 <= n <= m:
        raise InputError(f"N:M must keep 1 ... M of M values and divide K, not {n}:{m} of {tensor.k}, in "
                         f"{tensor.name!r}")  # fmt: skip
    values = tensor.dequantise()
    kept = _largest(values, n, m)
    if tensor.format.name == PRUNED:
        return pack_tensor(tensor.name, PRUNED, codes=np.where(kept, tensor.codes(), 0), scales=tensor.scales())
    groups = np.where(kept, values, np.float32(0)).reshape(tensor.n, -1, 32)
    scales = (np.abs(groups).max(axis=-1) / np.float32(127)).astype(np.float16)
    wide = scales.astype(np.float32)[..., None]
    codes = np.divide(groups, wide, out=np.zeros_like(groups), where=wide > 0)
    codes = np.clip(np.rint(codes), -127, 127).astype(np.int8).reshape(tensor.n, tensor.k)
    return pack_tensor(tensor.name, PRUNED, codes=codes, scales=scales)


def _largest(values: NDArray[np.float32], n: int, m: int) -> NDArray[np.bool_]:
    """Whether each value is among the ``n`` largest of its ``m``."""
    blocks = np.abs(values).reshape(len(values), -1, m)
    order = np.argsort(-blocks, axis=-1, kind="stable")[..., :n]
    kept = np.zeros(blocks.shape, np.bool_)
    np.put_along_axis(kept, order, True, axis=-1)
    return kept.reshape(values.shape)
