"""Random operands of array tiles for the benches."""

import numpy as np


def finite_halves(rng, *shape):
    """FP16 values over their whole finite range, subnormals included."""
    bits = rng.integers(0, 1 << 16, shape, np.uint16)
    return np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits).astype(np.uint16).view(np.float16)


def random_operands(rng, *, rows, cols, k, group, w_bits, signed, zero, extreme=False):
    """Operands of one tile of ``rows`` tokens and ``cols`` channels; ``w_bits`` in all passes together."""
    low, high = (-(1 << w_bits - 1), 1 << w_bits - 1) if signed else (0, 1 << w_bits)
    w = rng.integers(low, high, (cols, k))
    a = rng.integers(-128, 128, (rows, k)).astype(np.int8)
    if extreme:
        w = np.where(w < (low + high) / 2, low, high - 1)
        a[:] = -128
    z = {"none": None, "int4": rng.integers(0, 16, (cols, k // group)).astype(np.uint8),
         "f16-min": finite_halves(rng, cols, k // group)}[zero]
    return {"a": a, "w": w, "s_a": finite_halves(rng, rows, k // group), "d": finite_halves(rng, cols, k // group), "z": z,
            "group": group, "zero": zero}
