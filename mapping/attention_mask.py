"""Block masks of attention from a file."""

from pathlib import Path

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.mapping.block_mask import Mask


def load_masks(path: Path) -> tuple[Mask, ...]:
    """The masks in the .npy file ``path``: [heads, rows, columns] for all blocks, or [blocks, heads, rows, columns].

    Entries are true or false (or 1 and 0), one for a square of tokens; what lies above the diagonal is left out.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--attention-mask must be a .npy file of numbers: {str(error).splitlines()[0]}") from None
    if not isinstance(array, np.ndarray) or array.ndim not in (3, 4) or array.shape[-1] != array.shape[-2]:
        shape = getattr(array, "shape", "an archive")
        raise InputError(f"an attention mask must be [blocks,] heads, n, n, not {shape}, in {path}")
    if array.dtype.kind not in "biu" or not array.size or array.min() < 0 or array.max() > 1:
        raise InputError(f"an attention mask must hold true and false only, in {path}")
    masks = np.tril(array.astype(bool))
    return tuple(masks) if array.ndim == 4 else (masks,)
