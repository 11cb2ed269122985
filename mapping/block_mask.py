"""Block masks of attention: drawn for a density, or brought to another size of block."""

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError

Mask = NDArray[np.bool_]
"""[heads, rows, columns] in blocks of tokens: what is computed; nothing right of the diagonal."""

MASK_BLOCK = 64
"""Tokens of a block, as in FlightLLM (arXiv 2401.03868)."""
_SEED = 20240301


def block_mask(heads: int, tokens: int, block: int, density: float) -> Mask:
    """A causal mask of ``density``: the diagonal and first column, then random blocks, each head its own.

    It has ``density`` of the causal blocks, to the nearest whole block, unless diagonal and first column are more.
    """
    edge = -(-tokens // block)
    causal = np.tril(np.ones((edge, edge), bool))
    fixed = np.eye(edge, dtype=bool)
    fixed[:, 0] = True
    want = round(density * causal.sum())
    free = np.argwhere(causal & ~fixed)
    random = np.random.default_rng(_SEED)
    mask = np.broadcast_to(fixed, (heads, edge, edge)).copy()
    for head in range(heads):
        chosen = free[random.permutation(len(free))[: max(0, want - int(fixed.sum()))]]
        mask[head, chosen[:, 0], chosen[:, 1]] = True
    return mask


def is_dense(mask: Mask) -> bool:
    """Whether every causal block is computed."""
    return bool(mask[:, np.tri(mask.shape[1], dtype=bool)].all())


def in_units(mask: Mask, tokens: int, unit: int) -> Mask:
    """The corner of ``mask`` for ``tokens``, in blocks of ``unit`` tokens: larger blocks are computed where any part
    is. An InputError unless it covers the tokens and has the whole diagonal."""
    edge = -(-tokens // MASK_BLOCK)
    if mask.shape[1] < edge:
        raise InputError(
            f"an attention mask must cover {tokens} tokens, {edge} blocks of {MASK_BLOCK}, not {mask.shape[1]} blocks"
        )
    mask = mask[:, :edge, :edge]
    holes = np.argwhere(~mask[:, range(edge), range(edge)])
    if len(holes):
        raise InputError(f"an attention mask must have every block of the diagonal, but block {holes[0][1]} of "
                         f"head {holes[0][0]} is left out")  # fmt: skip
    if unit <= MASK_BLOCK:
        found: Mask = mask.repeat(MASK_BLOCK // unit, 1).repeat(MASK_BLOCK // unit, 2)
    else:
        each = unit // MASK_BLOCK
        padded = np.pad(mask, ((0, 0), (0, -edge % each), (0, -edge % each)))
        wide = padded.shape[1] // each
        found = np.logical_or.reduce(padded.reshape(len(mask), wide, each, wide, each), axis=(2, 4))
    count = -(-tokens // unit)
    return np.tril(found[:, :count, :count])
