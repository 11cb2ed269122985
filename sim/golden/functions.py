"""Special functions by integer table and linear interpolation (``arch/numerics.md``, Functions).

Each table holds 257 integers, so that entry i + 1 exists for every index i < 256. All of them are read by the
one rule of ``interpolate``; the result is a significand in [2^23, 2^24] whose carry moves into the exponent
field by plain integer addition, so no function rounds twice.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixflight.arch import special_functions as tables
from mixflight.arch.errors import InputError
from mixflight.sim.golden.checks import F32, finite_f32

I64 = NDArray[np.int64]


def _array(table: Sequence[int]) -> I64:
    array = np.array(table, np.int64)
    array.setflags(write=False)
    return array


EXP2 = _array(tables.EXP2)                  # 2^23 .. 2^24
RECIPROCAL = _array(tables.RECIPROCAL)      # 2^24 .. 2^23
RSQRT_EVEN = _array(tables.RSQRT_EVEN)      # 2^24 .. 2^23.5
RSQRT_ODD = _array(tables.RSQRT_ODD)        # 2^23.5 .. 2^23
SINE = _array(tables.SINE)                  # 0 .. 2^24
TABLES = {
    "exp2": EXP2, "reciprocal": RECIPROCAL, "rsqrt_even": RSQRT_EVEN, "rsqrt_odd": RSQRT_ODD, "sine": SINE,
}

LOG2_E = np.float32(math.log2(math.e))
GELU_LINEAR = np.uint32(tables.GELU_LINEAR).view(np.float32)
GELU_CUBIC = np.uint32(tables.GELU_CUBIC).view(np.float32)
GELU_LIMIT = np.float32(16.0)  # beyond, sigmoid is exactly 0 or 1
ONE = np.float32(1.0)


def interpolate(table: I64, index: I64, rest: I64, bits: int) -> I64:
    """``T[i] + floor(((T[i+1] - T[i])·rest + 2^(bits-1)) / 2^bits)``, in integers."""
    low = table[index]
    step: I64 = (table[index + 1] - low) * rest + (1 << (bits - 1))
    return low + (step >> bits)


def _assemble(exponent_field: I64, significand: I64) -> F32:
    """FP32 from an exponent field and a significand in [2^23, 2^24]; below the smallest normal number +0."""
    fields = (exponent_field << 23) + (significand - (1 << 23))
    return np.where(fields < (1 << 23), 0, fields).astype(np.uint32).view(np.float32)


def _fields(x: F32) -> tuple[I64, I64]:
    """Unbiased exponent and the 23 fraction bits."""
    bits = x.view(np.uint32).astype(np.int64)
    return ((bits >> 23) & 0xFF) - 127, bits & 0x7FFFFF


def exp(x: F32) -> F32:
    """e^x for x <= 0; below about -87.34, where the result is under 2^-126, it is +0."""
    x = np.atleast_1d(finite_f32(x, "exp"))
    if (x > 0).any():
        raise InputError(f"exp needs x <= 0, not {x.max()}")
    near = np.where(x > -128, x, np.float32(-128))
    t = near * LOG2_E
    fixed = np.floor(t.astype(np.float64) * 2.0**24).astype(np.int64)  # exact: a power of two and a floor
    significand = interpolate(EXP2, (fixed >> 16) & 0xFF, fixed & 0xFFFF, 16)
    whole = fixed >> 24
    return np.where(whole < -126, np.float32(0), _assemble(np.maximum(whole, -126) + 127, significand))


def reciprocal(x: F32) -> F32:
    """1/x for positive normal x; below 2^-126 the result is +0."""
    x = np.atleast_1d(_positive_normal(x, "reciprocal"))
    exponent, fraction = _fields(x)
    significand = interpolate(RECIPROCAL, fraction >> 15, fraction & 0x7FFF, 15)
    return _assemble(126 - exponent, significand)


def rsqrt(x: F32) -> F32:
    """1/sqrt(x) for positive normal x."""
    x = np.atleast_1d(_positive_normal(x, "rsqrt"))
    exponent, fraction = _fields(x)
    index, rest = fraction >> 15, fraction & 0x7FFF
    even = interpolate(RSQRT_EVEN, index, rest, 15)
    odd = interpolate(RSQRT_ODD, index, rest, 15)
    return _assemble(126 - (exponent >> 1), np.where(exponent & 1, odd, even))


def sigmoid(x: F32) -> F32:
    """1/(1 + e^-x), through e = exp(-|x|) and r = reciprocal(1 + e): r for x >= 0, else e·r."""
    x = np.atleast_1d(finite_f32(x, "sigmoid"))
    e = exp(-np.abs(x))
    r = reciprocal(ONE + e)
    return np.where(x >= 0, r, e * r)


def silu(x: F32) -> F32:
    """x·sigmoid(x)."""
    return np.atleast_1d(x) * sigmoid(x)


def silu_gate(gate: F32, up: F32) -> F32:
    """silu(gate)·up, each product rounded."""
    return silu(gate) * up


def gelu(x: F32) -> F32:
    """The tanh form of GELU, as x·sigmoid(2·sqrt(2/pi)·(x + 0.044715·x^3))."""
    x = np.atleast_1d(finite_f32(x, "gelu"))
    near = np.clip(x, -GELU_LIMIT, GELU_LIMIT)
    return x * sigmoid(((near * near) * GELU_CUBIC + GELU_LINEAR) * near)


def softcap(x: F32, double_inverse: np.float32, cap: np.float32) -> F32:
    """cap·tanh(x / cap), as (1 - v) / (1 + v) with v = exp(-|x|·``double_inverse``), f32(2 / cap)."""
    x = np.atleast_1d(finite_f32(x, "softcap"))
    v = exp(-np.abs(x * double_inverse))
    return ((ONE - v) * reciprocal(ONE + v)) * np.copysign(cap, x)


def sine_of_phase(phase: I64) -> F32:
    """sin(2·pi·phase/2^40): quarter-wave table over 24 bits of the phase within its quadrant."""
    quadrant = (phase >> 38) & 3
    within = (phase >> 14) & 0xFFFFFF
    within = np.where(quadrant & 1, (1 << 24) - within, within)
    index = np.minimum(within >> 16, 255)
    magnitude = interpolate(SINE, index, within - (index << 16), 16)
    signed = np.where(quadrant & 2, -magnitude, magnitude)
    return (signed.astype(np.float64) * 2.0**-24).astype(np.float32)  # exact: at most 25 bits, a power of two


def cosine_of_phase(phase: I64) -> F32:
    """cos(2·pi·phase/2^40): the sine a quarter turn on."""
    return sine_of_phase(phase + (1 << 38))


def _positive_normal(x: F32, what: str) -> F32:
    finite_f32(x, what)
    if (x < np.finfo(np.float32).tiny).any():
        raise InputError(f"{what} needs x >= 2^-126, not {x.min()}")
    return x
