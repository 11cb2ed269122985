"""Rotary position embedding on adjacent pairs, angles from integer phases (``arch/numerics.md``, RoPE)."""

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.control_constants import PHASE_BITS, phase_steps
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import cosine_of_phase, sine_of_phase


def rotation(base: float, width: int, positions: NDArray[np.int64]) -> tuple[F32, F32]:
    """Cosines and sines [positions, width/2]."""
    steps = np.array(phase_steps(base, width), np.int64)
    phase = (positions[:, None] * steps) & ((1 << PHASE_BITS) - 1)
    return cosine_of_phase(phase), sine_of_phase(phase)


def rotate(x: F32, cosine: F32, sine: F32) -> F32:
    """Rotate the pairs (2i, 2i+1) of the last axis; ``cosine``, ``sine`` broadcast against [..., width/2]."""
    out = np.empty_like(x)
    even, odd = x[..., 0::2], x[..., 1::2]
    out[..., 0::2] = even * cosine - odd * sine
    out[..., 1::2] = even * sine + odd * cosine
    return out
