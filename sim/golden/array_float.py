"""What systolic arrays of FP16 activations output, bit for bit: aligned integers, and FP32 sums. Plain NumPy.

The text is in ``arch/numerics.md``, *Arrays of FP16 activations*.
"""

from typing import NamedTuple

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero
from mixflight.sim.golden.array import Array, array_outputs, group_count
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.pe_float import aligned_integers, group_exponent, sequential_sum

FP16_MAX = 65504


def group_exponents(a: Array, group: int) -> Array:
    """The exponent to which each group of FP16 activations [M, K] is aligned: uint8 [M, K/group]."""
    m, k = a.shape
    if group < 1 or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}, in the array's operands")
    return group_exponent(_patterns(a).reshape(m, k // group, group)).astype(np.uint8)


def aligned_outputs(*, a: Array, w: Array, d: Array, z: Array | None, group: int, zero: Zero,
                    extra_bits: int = 2) -> Array:
    """Outputs of an array that aligns its activations, float32 [M, N].

    ``a`` float16 [M, K], finite; ``w`` [N, K] codes 0..15 or -8..7 (0..15 with zero ``int4``); ``d`` and ``z`` as in
    :func:`mixflight.sim.golden.array.array_outputs`, whose groups and steps these are: the activations are integers
    in units of ``2**(E - 25 - extra_bits)``, E the largest exponent field of row and group, and the unit is the scale.
    """
    exponents = group_exponents(a, group)
    integers = aligned_integers(_patterns(a), np.repeat(exponents, group, axis=1), extra_bits=extra_bits)
    units = np.ldexp(np.float32(1), exponents.astype(np.int64) - 25 - extra_bits).astype(np.float32)
    return array_outputs(a=integers, w=w, s_a=units, d=d, z=z, group=group, zero=zero)


def float_outputs(*, a: Array, w: Array, d: Array, z: Array | None, group: int, zero: Zero) -> Array:
    """Outputs of an array with FP32 group sums, float32 [M, N].

    ``a`` float16 [M, K]; ``w`` float16 or integers of at most 11 bits [N, K] (differences q - z of codes and integer
    zero points); ``d`` float16 [N, K/group]; ``z`` None, or float16 minima with zero ``f16-min``. All finite.
    """
    if zero == "int4":
        raise InputError("zero must be none or f16-min, not int4, with FP32 group sums: weights are differences q - z")
    groups = group_count(a, w, None, d, z, group, zero)
    total: F32 = np.zeros((a.shape[0], w.shape[0]), np.float32)
    activations, weights = a.astype(np.float32), w.astype(np.float32)
    for g in range(groups):
        span = slice(g * group, (g + 1) * group)
        # [k, M, N]: a sum for every output, over ascending k; every product is exact in FP32.
        terms = activations[:, span].T[:, :, None] * weights[:, span].T[:, None, :]
        total = total + d[None, :, g].astype(np.float32) * sequential_sum(terms)
        if z is not None:
            total = total + z[None, :, g].astype(np.float32) * sequential_sum(activations[:, span].T)[:, None]
    return total


def weight_integers(w: Array, group: int) -> tuple[Array, Array]:
    """FP16 weights [N, K] as 12-bit integers and their groups' FP16 scales [N, K/group]: aligned without extra bits."""
    exponents = group_exponents(w, group)
    integers = aligned_integers(_patterns(w), np.repeat(exponents, group, axis=1), extra_bits=0)
    return integers, np.ldexp(1.0, exponents.astype(np.int64) - 25).astype(np.float16)


class DigitGroups(NamedTuple):
    """Operands of an array of 4-bit weights, a group for each digit of what were groups of wider weights."""

    a: Array
    w: Array
    d: Array
    z: Array | None
    signed: tuple[bool, ...]
    """Of each group's codes."""


def digit_groups(*, a: Array, w: Array, d: Array, z: Array | None, group: int, bits: int,
                 magnitudes: bool = False) -> DigitGroups:
    """Groups of signed ``bits``-bit weights as groups of their digits of 4 bits, low digits first.

    Digit i has the scale ``16**i * d``, which must be an FP16 value; a zero point or minimum goes with digit 0. The top
    digit is two's complement, the others are unsigned; with ``magnitudes`` each has the weight's sign.
    """
    (m, k), groups, digits = a.shape, d.shape[1], -(-bits // 4)
    wide, places = w.astype(np.int64).reshape(len(w), groups, 1, group), 4 * np.arange(digits)[:, None]
    if magnitudes:
        parts = np.sign(wide) * (np.abs(wide) >> places & 15)
    else:
        parts = np.where(places == places[-1], wide >> places, wide >> places & 15)
    scales = d.astype(np.float64)[:, :, None] * 16.0 ** np.arange(digits)
    if np.abs(scales).max() > FP16_MAX:
        raise InputError(f"scales of {digits} digits must be at most {FP16_MAX:,}, not {np.abs(scales).max():,.0f}, "
                         "in the array's operands")
    scales = scales.astype(np.float16)
    zeros = None
    if z is not None:
        zeros = np.zeros(scales.shape, z.dtype)
        zeros[:, :, 0] = z
    return DigitGroups(
        a=np.repeat(a.reshape(m, groups, group), digits, axis=1).reshape(m, k * digits),
        w=parts.reshape(len(w), k * digits), d=scales.reshape(len(w), groups * digits),
        z=None if zeros is None else zeros.reshape(len(w), groups * digits),
        signed=((False,) * (digits - 1) + (True,)) * groups)


def sign_magnitude_words(w: Array, w_bits: int = 5) -> Array:
    """Integers as the words of a PE that takes a sign (top bit) and a magnitude."""
    wide = w.astype(np.int64)
    return np.where(wide < 0, 1 << (w_bits - 1), 0) | np.abs(wide)


def _patterns(a: Array) -> Array:
    """The bits of float16 values."""
    if a.dtype != np.float16:
        raise InputError(f"activations must be float16, not {a.dtype}, in an array of FP16 activations")
    return np.ascontiguousarray(a).view(np.uint16)
