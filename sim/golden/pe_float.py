"""What the PEs of FP16 activations compute, bit for bit: exact products, FP32 sums, and the group-aligned integers."""

import numpy as np
from numpy.typing import NDArray

from mixflight.sim.golden.array import Array
from mixflight.sim.golden.checks import F32

NAN = 0x7FC00000
"""The one NaN that hardware produces."""


def fp16_values(bits: Array, *, specials: bool) -> F32:
    """The values of FP16 patterns, in FP32.

    Without ``specials`` an all-ones exponent is an ordinary one: ``±(1024 + fraction) * 2**6``.
    """
    words = bits.astype(np.uint16)
    values: F32 = words.view(np.float16).astype(np.float32)
    if specials:
        return values
    next_binade = np.where(words >> 15, -1, 1) * (1024 + (words & 1023).astype(np.int64)) * 64
    return np.where(words >> 10 & 31 == 31, next_binade, values).astype(np.float32)


def sign_magnitude(codes: Array, bits: int) -> NDArray[np.int64]:
    """The integers of ``bits``-bit words of a sign (top bit) and a magnitude."""
    wide = codes.astype(np.int64)
    magnitude = wide & ((1 << (bits - 1)) - 1)
    return np.where(wide >> (bits - 1), -magnitude, magnitude)


def integer_terms(a: Array, w: Array, *, w_bits: int = 5, specials: bool = False) -> F32:
    """Products of FP16 patterns ``a`` and sign-magnitude words ``w``: exact in FP32."""
    with np.errstate(invalid="ignore"):
        return fp16_values(a, specials=specials) * sign_magnitude(w, w_bits).astype(np.float32)


def fp16_terms(a: Array, w: Array, *, specials: bool = False) -> F32:
    """Products of two FP16 patterns: 22 bits, exact in FP32."""
    with np.errstate(invalid="ignore"):
        return fp16_values(a, specials=specials) * fp16_values(w, specials=specials)


def fp32_bits(values: F32) -> NDArray[np.uint32]:
    """The words of FP32 values as hardware gives them: one NaN, no minus zero."""
    words = (values + np.float32(0)).view(np.uint32)
    return np.where(np.isnan(values), np.uint32(NAN), words)


def sequential_sum(terms: F32) -> F32:
    """FP32 sums from +0 along the first axis, each step rounded."""
    total: F32 = np.zeros(terms.shape[1:], np.float32)
    with np.errstate(invalid="ignore"):
        for term in terms:
            total = total + term
    return total


def aligned_integers(bits: Array, exponent: Array | int, *, extra_bits: int = 2) -> NDArray[np.int64]:
    """Activations of a group as integers in units of ``2**(exponent - 25 - extra_bits)``, rounded to nearest even.

    ``exponent`` is the largest exponent field of the group, at least 1: :func:`group_exponent`. A pattern
    ``±significand * 2**(e - 25)`` becomes ``±RNE(significand * 2**extra_bits / 2**(exponent - e))``. With 29
    extra bits nothing is ever rounded. An all-ones exponent is an ordinary one.
    """
    words = bits.astype(np.int64)
    field = words >> 10 & 31
    significand = (words & 1023) + np.where(field, 1024, 0)
    distance = np.asarray(exponent, np.int64) - np.maximum(field, 1)
    wide = significand << extra_bits
    floor = wide >> distance
    rest = wide - (floor << distance)
    half = (1 << distance) >> 1
    up = (rest > half) | ((rest == half) & (half > 0) & (floor & 1 == 1))
    magnitude = floor + up
    signed: NDArray[np.int64] = np.where(words >> 15, -magnitude, magnitude)
    return signed


def group_exponent(bits: Array) -> NDArray[np.int64]:
    """The largest exponent field along the last axis, a subnormal's or zero's counted as 1."""
    largest: NDArray[np.int64] = np.maximum((bits.astype(np.int64) >> 10 & 31).max(axis=-1), 1)
    return largest


def aligned_group(codes: Array, bits: Array, *, extra_bits: int = 2) -> F32:
    """One group's FP32 sum of ``codes * a`` with aligned activations: an exact integer sum, rounded once.

    ``codes`` [..., G] integers, ``bits`` [..., G] FP16 patterns. Each activation is off by at most half a unit
    ``2**(exponent - 25 - extra_bits)``, that is 2**-(11 + extra_bits) of the group's largest activation where
    that is normal.
    """
    exponent = group_exponent(bits)
    total = (codes.astype(np.int64) * aligned_integers(bits, exponent[..., None], extra_bits=extra_bits)).sum(axis=-1)
    value: F32 = np.ldexp(total.astype(np.float64), exponent - 25 - extra_bits).astype(np.float32)
    return value
