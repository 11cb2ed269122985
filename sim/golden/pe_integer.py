"""What the integer PEs add up, exactly: one term a step, and the identities by which the lane corrects group sums."""

import numpy as np

from mixflight.arch.array_pipeline import ZERO_CODE_MAX
from mixflight.arch.errors import InputError
from mixflight.sim.golden.array import Array

CENTRE = 8
"""What a centred PE subtracts from an unsigned 4-bit code."""


def twos_complement(codes: Array, bits: int) -> Array:
    """The values of ``bits``-bit two's complement codes given as unsigned integers, int64."""
    wide = codes.astype(np.int64)
    return wide - (wide >> (bits - 1) << bits)


def centred_terms(a: Array, w: Array, signed: Array | int = 0) -> Array:
    """``(w - 8) * a`` of 4-bit codes; where ``signed``, w is two's complement and stands for itself."""
    weights = np.where(signed, twos_complement(w, 4), w.astype(np.int64) - CENTRE)
    return weights * a.astype(np.int64)


def uncentred(centred: Array, row_sum: Array, zero: Array | int = 0) -> Array:
    """``I - zero * R`` from the centred sum ``Ic = I - 8 R``: ``Ic - (zero - 8) * R``.

    With ``zero`` = 0 it is I itself, which a code with an FP16 minimum needs. With ``zero`` in 0..15 the factor
    ``zero - 8`` is a 4-bit two's complement number.
    """
    zeros = np.asarray(zero)
    if ((zeros < 0) | (zeros > ZERO_CODE_MAX)).any():
        raise InputError(f"zero points must be in 0..{ZERO_CODE_MAX}, not {zeros.min()}..{zeros.max()}")
    return centred - (zeros.astype(np.int64) - CENTRE) * row_sum


def dequantised_weights(q: Array, z: Array, s: Array) -> Array:
    """INT8 weights of two-level codes: the low 8 bits of ``(q - z) * s`` as two's complement, int64.

    4-bit code q, 4-bit zero z and unsigned 8-bit group scale s. A quantiser must choose s so that nothing is
    lost; what does not fit wraps.
    """
    product = (q.astype(np.int64) - z.astype(np.int64)) * s.astype(np.int64)
    return twos_complement(product & 255, 8)


FUSED_MODES = {"8x8": 0, "4x8": 1, "4x4": 2}
"""Weight bits x activation bits of a fusible unit → the code of its ``mode`` port."""


def fused_terms(a: Array, w: Array, mode: Array, a_signed: Array, w_signed: Array) -> Array:
    """The sum of the products that a fusible unit of sixteen 2 x 2 bit bricks forms in a step.

    ``mode`` 0: one product of 8-bit ``w[7:0]`` and ``a[7:0]``. 1: two products of 4-bit ``w[4i+3:4i]`` and 8-bit
    ``a[8i+7:8i]``. 2: four products of 4-bit ``w[4i+3:4i]`` and ``a[4i+3:4i]``. Operands are two's complement
    where their ``signed`` is 1, else unsigned.
    """
    def part(words: Array, index: int, bits: int, signed: Array) -> Array:
        codes = words.astype(np.int64) >> (index * bits) & ((1 << bits) - 1)
        return np.where(signed, twos_complement(codes, bits), codes)

    def products(count: int, w_bits: int, a_bits: int) -> Array:
        total: Array = np.zeros(a.shape, np.int64)
        for i in range(count):
            total = total + part(w, i, w_bits, w_signed) * part(a, i, a_bits, a_signed)
        return total

    return np.choose(mode.astype(np.int64), [products(1, 8, 8), products(2, 4, 8), products(4, 4, 4)])


def dot_terms(a: Array, w: Array, *, products: int, act_bits: int, code_bits: int, code_signed: bool) -> Array:
    """The sum of ``products`` products of the parts of words ``a`` and ``w``, lowest parts first, int64.

    Parts of ``a`` are two's complement; those of ``w`` are where ``code_signed``, else unsigned.
    """
    total: Array = np.zeros(a.shape, np.int64)
    for i in range(products):
        act = a.astype(np.int64) >> (i * act_bits) & ((1 << act_bits) - 1)
        code = w.astype(np.int64) >> (i * code_bits) & ((1 << code_bits) - 1)
        total = total + twos_complement(act, act_bits) * (twos_complement(code, code_bits) if code_signed else code)
    return total
