"""FP32 activations to INT8 with FP16 scales, and values of the KV cache likewise (``arch/numerics.md``)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.checks import F32, finite_f32

I8 = NDArray[np.int8]
F16 = NDArray[np.float16]
LEVELS = np.float32(127)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """Symmetric INT8 codes [M, K] and their FP16 scales [M, K/group]."""

    codes: I8
    scales: F16
    group: int

    def values(self) -> F32:
        """The FP32 numbers that the codes stand for."""
        scales = np.repeat(self.scales.astype(np.float32), self.group, axis=-1)
        return self.codes.astype(np.float32) * scales


def quantise(x: F32, group: int) -> Quantised:
    """Per ``group`` values along K: inv = 127/amax, q = clamp(RNE(x·inv)), s = FP16(amax/127)."""
    finite_f32(x, "quantise")
    k = x.shape[-1]
    if group < 1 or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}")
    grouped = x.reshape(*x.shape[:-1], k // group, group)
    amax = np.abs(grouped).max(axis=-1)
    scales = to_f16(amax / LEVELS, "activation scale")
    live = scales > 0
    inverse = LEVELS / np.where(live, amax, LEVELS)
    scaled = np.clip(np.rint(grouped * inverse[..., None]), -LEVELS, LEVELS)
    codes = np.where(live[..., None], scaled, np.float32(0)).astype(np.int8).reshape(x.shape)
    return Quantised(codes=codes, scales=scales, group=group)


def to_f16(x: F32, what: str) -> F16:
    """FP16(x), round to nearest even; a magnitude that FP16 cannot hold is an error."""
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float16)
    if not np.isfinite(rounded).all():
        raise InputError(f"{what} must fit FP16 (at most 65504), not {np.abs(x).max()}")
    return rounded
