"""FP32 activations to integers with FP16 scales, and keys and values of the cache likewise (``arch/numerics.md``).

    quantise              symmetric: INT8, or fewer levels
    quantise_asymmetric   UINT4 with a minimum, per row
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.checks import F32, finite_f32

I8 = NDArray[np.int8]
F16 = NDArray[np.float16]
LEVELS = 127  # the largest code of INT8; INT4 has 7
UINT4 = np.float32(15)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Symmetric INT8 (or narrower) codes [M, K] and their FP16 scales [M, K/group]."""

    codes: I8
    scales: F16
    group: int

    def values(self) -> F32:
        """The FP32 numbers that the codes stand for."""
        scales = np.repeat(self.scales.astype(np.float32), self.group, axis=-1)
        return self.codes.astype(np.float32) * scales


@dataclass(frozen=True, kw_only=True, eq=False)
class Asymmetric:
    """UINT4 codes [..., n], held as int8, and an FP16 scale and minimum for each row of n."""

    codes: I8
    scales: F16
    minima: F16


def quantise(x: F32, group: int, levels: int = LEVELS) -> Quantised:
    """Per ``group`` values along K: inv = 127/amax, q = clamp(RNE(x·inv)), s = FP16(amax/127), 127 being ``levels``."""
    finite_f32(x, "quantise")
    most = np.float32(levels)
    k = x.shape[-1]
    if group < 1 or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}")
    grouped = x.reshape(*x.shape[:-1], k // group, group)
    amax = np.abs(grouped).max(axis=-1)
    scales = to_f16(amax / most, "activation scale")
    live = scales > 0
    inverse = most / np.where(live, amax, most)
    scaled = np.clip(np.rint(grouped * inverse[..., None]), -most, most)
    codes = np.where(live[..., None], scaled, np.float32(0)).astype(np.int8).reshape(x.shape)
    return Quantised(codes=codes, scales=scales, group=group)


def quantise_asymmetric(x: F32) -> Asymmetric:
    """UINT4 per row: w = max - min, s = FP16(w/15), m = FP16(min), q = clamp(RNE((x - min)·(15/w)))."""
    finite_f32(x, "quantise_asymmetric")
    low = x.min(axis=-1)
    width = x.max(axis=-1) - low
    scales = to_f16(width / UINT4, "scale of a cached vector")
    live = scales > 0
    inverse = UINT4 / np.where(live, width, UINT4)
    scaled = np.clip(np.rint((x - low[..., None]) * inverse[..., None]), np.float32(0), UINT4)
    codes = np.where(live[..., None], scaled, np.float32(0)).astype(np.int8)
    return Asymmetric(codes=codes, scales=scales, minima=to_f16(low, "minimum of a cached vector"))


def to_f16(x: F32, what: str) -> F16:
    """FP16(x), round to nearest even; a magnitude that FP16 cannot hold is an error."""
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise InputError(f"{what} must fit FP16 (at most 65504), not {np.abs(x).max()}")
    return rounded
