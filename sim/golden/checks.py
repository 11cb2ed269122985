"""What every golden function asks of its input: FP32, and finite."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError

F32 = NDArray[np.float32]


def finite_f32(x: NDArray[Any], what: str) -> F32:
    """``x`` itself, once it is known to be FP32 without infinities and NaN."""
    if x.dtype != np.float32:
        raise InputError(f"golden arithmetic needs float32, not {x.dtype}, in {what}")
    if not np.isfinite(x).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
        raise InputError(f"every value must be finite, not {x[at]} at {at}, in {what}")
    return x
