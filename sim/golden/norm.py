"""Normalisation of vectors (``arch/numerics.md``, RMSNorm and LayerNorm)."""

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


def layer_norm(x: F32, weight: F32, epsilon: np.float32) -> F32:
    """y = f32(f32(d·rsqrt(mean(d^2) + epsilon))·weight) of d = f32(x - mean(x)) over the last axis; a bias is added to
    it as to anything else."""
    finite_f32(x, "layer_norm")
    over_n = np.float32(1.0 / x.shape[-1])
    d = x - (reduce_sum(x) * over_n)[..., None]
    r = rsqrt(reduce_sum(d * d) * over_n + epsilon)
    return (d * r[..., None]) * weight
