"""The tables of the special functions as integers, and the registers of the units that read them.

The golden functions (:mod:`mixflight.sim.golden.functions`) and the hardware (:mod:`mixflight.rtl.sfu_functions`) take
their tables from here. ``arch/numerics.md``, Functions, says how they are read. Everything is integer arithmetic, so
no library's rounding can be seen: each entry is the integer nearest to the exact value.
"""

from math import isqrt

ENTRIES = 256
"""Intervals of a table; it has one entry more, so that every interval has its end."""

_GUARD = 128
"""Fraction bits of the sines' recurrence, of which it loses fewer than 20."""


def _exp2_entry(i: int) -> int:
    root = 1 << ENTRIES * 24 + i
    for _ in range(8):
        root = isqrt(root)
    return (root + 1) // 2                          # floor(2 * 2^23 * 2^(i/256)), halved to the nearest


def _sines() -> tuple[int, ...]:
    """2^24 sin(k * angle) for the 256th part of a right angle: halved from the right angle's cosine, then by steps."""
    one = 1 << _GUARD
    cosine = 0
    for _ in range(8):
        cosine = isqrt((one + cosine) * one // 2)
    values = [0, isqrt(one * one - cosine * cosine)]
    while len(values) <= ENTRIES:
        values.append((2 * cosine * values[-1] >> _GUARD) - values[-2])
    return tuple((value >> _GUARD - 25) + 1 >> 1 for value in values)


EXP2 = tuple(_exp2_entry(i) for i in range(ENTRIES + 1))
"""2^23 * 2^(i/256)."""

RECIPROCAL = tuple(((1 << 33) // (ENTRIES + i) + 1) // 2 for i in range(ENTRIES + 1))
"""2^24 / (1 + i/256)."""

RSQRT_EVEN = tuple((isqrt((1 << 58) // (ENTRIES + i)) + 1) // 2 for i in range(ENTRIES + 1))
"""2^24 / sqrt(1 + i/256)."""

RSQRT_ODD = tuple((isqrt((1 << 57) // (ENTRIES + i)) + 1) // 2 for i in range(ENTRIES + 1))
"""2^24 / sqrt(2 * (1 + i/256))."""

SINE = _sines()
"""2^24 * sin(i/256 * pi/2)."""

LOG2_E_SIGNIFICAND = 0xB8AA3B
"""The FP32 number nearest to log2 e, times 2^23."""

GELU_LINEAR = 0x3FCC422A
"""The FP32 number nearest to 2 sqrt(2 / pi), as its bits."""

GELU_CUBIC = 0x3D922279
"""The FP32 number nearest to 0.044715 times that."""

INTERPOLATION_STAGES = 5
"""Registers of an interpolation: table, operands, product, sum, result."""

FIXED_POINT_STAGES = 9
"""Registers from an operand of exp to its exponent of two in fixed point: operand, two products, their results, sum,
normalised, rounded, two shifts, negated."""

STAGES = {
    "exp": FIXED_POINT_STAGES + INTERPOLATION_STAGES,
    "reciprocal": INTERPOLATION_STAGES,
    "rsqrt": INTERPOLATION_STAGES,
}
"""Function → cycles from the one in which an operand is taken to the one in which its result is offered."""
