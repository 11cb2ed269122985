"""The pipeline of the systolic array as data: what its hardware implements and its timing formula counts.

``mixflight.rtl.systolic_array`` is built from these numbers and refuses to elaborate if its register stages
do not add up to them; ``mixflight.sim.array_timing`` derives cycles from them. A *step* is a cycle in which
the array advances; an unstalled array advances in every cycle.

A step accepted in step ``t`` is multiplied in PE(r, c) in step ``t + INPUT_STAGES + r + c``, and the group
sum it closes can be read there from the step after. Lane ``l`` serves the ``w = cols / lanes`` columns from
``l * w`` on, an element a step in column-major order, and selects its first element ``l * w`` steps after
lane 0.
"""

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero

INPUT_STAGES = 1
"""Registers between the input streams and PE(0, 0)."""

GROUP_SUM_STAGES = 1
"""Registers between a PE's inputs and its readable group sum."""

SELECT_TO_PRODUCT = 6
"""Registers of a dequantisation lane from its input to the scaled FP32 product: select, scale product,
zero-point subtraction, product, normalise, round."""

ADD_STAGES = 4
"""Registers of one FP32 addition: align, add, normalise, round."""

WRITE_BACK_STAGES = 1
"""Steps from a sum's register to its reading from the accumulator memory."""

EXACT_FP32_INTEGER_BITS = 24
"""Integers of smaller magnitude than two to this power are FP32 values."""

LANE_ZEROS: tuple[Zero, ...] = ("none", "int4", "f16-min")
"""The kinds of zero points that a dequantisation lane corrects."""

ZERO_CODE_MAX = 15
"""Largest 4-bit zero point."""


def columns_per_lane(*, cols: int, lanes: int) -> int:
    """Columns a dequantisation lane serves; ``lanes`` must divide ``cols``."""
    if lanes < 1 or cols % lanes:
        raise InputError(f"lanes must divide the array's columns: {lanes} does not divide {cols}")
    return cols // lanes


def tile_shape(*, rows: int, cols: int, split: int) -> tuple[int, int]:
    """(Tokens, output channels) of a tile: ``rows`` x ``cols``, or with ``split`` blocks of rows that each have
    their own columns ``rows / split`` x ``cols * split``.

    ``split`` must be a power of two and divide ``rows``. A tile has ``rows * cols`` outputs either way, and
    every number of this module is the same for both.
    """
    if split < 1 or split & (split - 1) or rows % split:
        raise InputError(f"split must be a power of two that divides the array's rows: not {split} for {rows} rows")
    return rows // split, cols * split


def add_latency(zero: Zero) -> int:
    """Steps of an element's additions: one, or two in a row with an FP16 minimum."""
    return ADD_STAGES * (2 if zero == "f16-min" else 1)


def loop_latency(zero: Zero) -> int:
    """Steps from reading an element's accumulator to reading it with the sum in it."""
    return add_latency(zero) + WRITE_BACK_STAGES


def lane_latency(zero: Zero) -> int:
    """Steps from selecting an element to offering its output."""
    return SELECT_TO_PRODUCT + add_latency(zero)


def group_gap(*, rows: int, cols: int, lanes: int, zero: Zero) -> int:
    """Least distance of two steps that end a group: a lane's elements, or its accumulator's loop."""
    return max(rows * columns_per_lane(cols=cols, lanes=lanes), loop_latency(zero))


def params_depth(*, rows: int, cols: int, lanes: int, zero: Zero) -> int:
    """Groups whose scales must be held at once, a power of two and at least 2.

    Written in the step ``t`` that ends a group, the scales of the last column are read last in step
    ``t + INPUT_STAGES + GROUP_SUM_STAGES + (cols - w) + (rows * w - 1)``; the slot may be written again in
    that step, as ``depth`` groups later means at least ``depth * group_gap`` steps later.
    """
    columns = columns_per_lane(cols=cols, lanes=lanes)
    last_read = INPUT_STAGES + GROUP_SUM_STAGES + (cols - columns) + rows * columns - 1
    groups = -(-last_read // group_gap(rows=rows, cols=cols, lanes=lanes, zero=zero))
    return max(2, 1 << (groups - 1).bit_length())


def sum_magnitude(*, group_max: int, w_bits: int, a_bits: int, passes: int) -> int:
    """Largest magnitude of a group sum of ``group_max`` codes, whether weights are signed or unsigned.

    A weight of ``passes * w_bits`` bits has at most the magnitude ``2**(passes * w_bits) - 1`` (unsigned;
    signed ones are smaller), an activation ``2**(a_bits - 1)``.
    """
    return group_max * ((1 << passes * w_bits) - 1) * (1 << (a_bits - 1))


def sum_bits(*, group_max: int, w_bits: int, a_bits: int, passes: int) -> int:
    """Bits of the signed group accumulator: 19 for 128 codes of 4 x 8 bits in one pass, 23 in two."""
    return sum_magnitude(group_max=group_max, w_bits=w_bits, a_bits=a_bits, passes=passes).bit_length() + 1


def row_sum_bits(*, group_max: int, a_bits: int) -> int:
    """Bits of the two's complement sum of ``group_max`` activations."""
    return (group_max << (a_bits - 1)).bit_length() + 1


def scaled_bits(*, group_max: int, w_bits: int, a_bits: int, passes: int, zero: Zero,
                signed_codes: bool = True) -> int:
    """Bits of the largest magnitude a lane scales; more than an FP32 holds exactly are refused."""
    bits = scaled_magnitude(group_max=group_max, w_bits=w_bits, a_bits=a_bits, passes=passes, zero=zero,
                            signed_codes=signed_codes).bit_length()
    if bits > EXACT_FP32_INTEGER_BITS:
        raise InputError(f"group sums must stay below 2**{EXACT_FP32_INTEGER_BITS}, not need {bits} bits, with "
                         f"groups of {group_max} codes in {passes} passes")
    return bits


def scaled_magnitude(*, group_max: int, w_bits: int, a_bits: int, passes: int, zero: Zero,
                     signed_codes: bool = True) -> int:
    """Largest magnitude of the integer a lane scales: a group sum of codes, or of their distances from a zero.

    Unsigned codes are at most ``2**(passes * w_bits) - 1`` from a zero point, signed ones half a range plus
    ``ZERO_CODE_MAX``; the latter do not come with zero points where not ``signed_codes``.
    """
    bits = passes * w_bits
    code = (1 << bits) - 1
    if zero == "int4" and signed_codes:
        code = max(code, (1 << (bits - 1)) + ZERO_CODE_MAX)
    return group_max * code * (1 << (a_bits - 1))
