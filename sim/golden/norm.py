"""RMS normalisation (``arch/numerics.md``, RMSNorm)."""

import numpy as np

from mixflight.sim.golden.checks import F32, finite_f32
from mixflight.sim.golden.functions import rsqrt
from mixflight.sim.golden.reduce import reduce_sum


def rms_norm(x: F32, weight: F32, epsilon: np.float32) -> F32:
    """y = f32(f32(x·rsqrt(mean(x^2) + epsilon))·weight) over the last axis."""
    finite_f32(x, "rms_norm")
    mean = reduce_sum(x * x) * np.float32(1.0 / x.shape[-1])
    r = rsqrt(mean + epsilon)
    return (x * r[..., None]) * weight
