"""Codes packed into the words of a checkpoint.

    unpack_codes       codes of any width along the last axis of little-endian 32-bit words
    unpack_nibbles     the 4-bit codes of bytes, the low or the high nibble first
    e4m3_values        FP8 E4M3 codes as FP32
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD = 32


def unpack_codes(words: NDArray[Any], bits: int, count: int) -> NDArray[np.uint8]:
    """The first ``count`` codes of ``bits`` bits [..., count]: code i at bit ``i * bits`` of the words [..., words].

    A code may straddle two words.
    """
    if 8 % bits == 0:
        octets = np.ascontiguousarray(words, "<u4").view(np.uint8)[..., : -(-count * bits // 8)]
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = np.right_shift(octets[..., None], shifts)
        codes &= np.uint8((1 << bits) - 1)
        return codes.reshape(*octets.shape[:-1], octets.shape[-1] * len(shifts))[..., :count]
    at = np.arange(count) * bits
    first, shift = at // WORD, at % WORD
    unsigned = np.ascontiguousarray(words, "<u4").astype(np.uint64)
    second = np.minimum(first + 1, unsigned.shape[-1] - 1)
    both = unsigned[..., first] | unsigned[..., second] << np.uint64(WORD)
    return ((both >> shift.astype(np.uint64)) & np.uint64((1 << bits) - 1)).astype(np.uint8)


def unpack_nibbles(octets: NDArray[np.uint8], *, high_first: bool) -> NDArray[np.uint8]:
    """The codes [..., 2 * bytes] of bytes [..., bytes]."""
    codes = np.empty((*octets.shape, 2), np.uint8)
    codes[..., int(high_first)] = octets & 15
    codes[..., int(not high_first)] = octets >> 4
    return codes.reshape(*octets.shape[:-1], 2 * octets.shape[-1])


@functools.cache
def e4m3_values() -> NDArray[np.float32]:
    """The value of each FP8 E4M3 code (1 sign, 4 exponent bits of bias 7, 3 fraction bits; no infinities)."""
    codes = np.arange(256)
    exponent, fraction = codes >> 3 & 15, codes & 7
    magnitude = np.where(exponent, np.ldexp(8.0 + fraction, exponent - 10), np.ldexp(fraction * 1.0, -9))
    magnitude[(codes & 127) == 127] = np.nan
    values: NDArray[np.float32] = np.where(codes >> 7, -magnitude, magnitude).astype(np.float32)
    return values
