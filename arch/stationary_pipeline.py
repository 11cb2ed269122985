"""The pipeline of the weight-stationary array as data: what its hardware implements and its timing formula counts.

``mixflight.rtl.weight_stationary_array`` is built from these numbers, ``mixflight.sim.stationary_timing`` derives
cycles from them. The lanes are those of :mod:`mixflight.arch.array_pipeline`, and so is the word *step*.

Rows hold inputs k, columns hold output channels; M tokens, at most the array's ``tokens``, are sent past each weight
tile, one a step. A weight tile is up to R codes of one group. A group of G codes is ``ceil(G / R)`` tiles a pass, the
last with the rest of the codes, and its sums of integers gather in accumulators below the columns, one a token and
column, until the group is whole; only then do the lanes scale them. So G need not fit R, either way.

An activation accepted in step ``t`` is multiplied in PE(r, c) in step ``t + STATIONARY_INPUT_STAGES + r + c``, the
column's sum is added to its accumulator in step ``t + STATIONARY_INPUT_STAGES + R + c`` and can be read from the next
step on.
"""

from mixflight.arch.array_pipeline import columns_per_lane, loop_latency
from mixflight.arch.formats import Zero

STATIONARY_INPUT_STAGES = 2
"""Registers between the activation stream and PE(0, 0): one more than the bit that tells a PE to take its next weight,
which so comes a step before the first activation that needs it."""

ACCUMULATE_STAGES = 1
"""Steps from a column's sum to its reading from the accumulator below the column."""


def visit_steps(k: int, rows: int, tokens: int, passes: int) -> int:
    """Steps from the first activation of ``k`` codes of a group to the first one of what follows, PEs' time alone.

    Tile i + 1 is loaded from the step on in which tile i starts, a row a step, and starts when it is loaded and tile
    i's M tokens are in. Loading r rows thus hides behind M >= r tokens, else it sets the time: max(M, r) a tile. Over a
    whole group, tile after tile in turn, that is

        passes * (floor(k / R) * max(M, R) + (max(M, k mod R) where R does not divide k))

    All are at least 1. With ``rows`` = ``tokens`` = 1 it is passes * k, what an output-stationary array takes.
    """
    rest = k % rows
    return passes * (k // rows * max(tokens, rows) + (max(tokens, rest) if rest else 0))


def stationary_gap(*, cols: int, lanes: int, tokens: int, zero: Zero) -> int:
    """Least distance from the end of a group of ``tokens`` tokens to the next group's end: a lane's elements, or its
    accumulator's loop."""
    return max(tokens * columns_per_lane(cols=cols, lanes=lanes), loop_latency(zero))


def stationary_banks(*, cols: int, lanes: int) -> int:
    """Group sums held for each token and column: two where a lane serves several columns, else one.

    A group ends in step T. Its lane reads token m of its column j in step T + s + j * M + m, with s common to a lane,
    and the next group's first tile, from step T + 1 on, writes there in T + s + j + m or later: never too early for j =
    0, too early for others. With two banks the group after the next writes there, at least M * w steps later.
    """
    return 1 if columns_per_lane(cols=cols, lanes=lanes) == 1 else 2


def stationary_select(*, rows: int, cols: int, lanes: int, tokens: int) -> int:
    """Steps from a group's last activation to the last lane's selection of its last element."""
    columns = columns_per_lane(cols=cols, lanes=lanes)
    return STATIONARY_INPUT_STAGES + rows + ACCUMULATE_STAGES + (cols - columns) + columns * tokens - 1


def stationary_params_depth(*, rows: int, cols: int, lanes: int, zero: Zero) -> int:
    """Groups whose scales must be held at once, a power of two and at least 2, whatever the tokens.

    Written in the step that ends a group of M tokens, they are read last ``stationary_select`` steps later and may be
    replaced in that step. The next group ends M * w steps later or more, those that follow after the gap of one token
    or more each, which must cover the rest of ``stationary_select``.
    """
    rest = stationary_select(rows=rows, cols=cols, lanes=lanes, tokens=0)
    groups = 1 + -(-rest // stationary_gap(cols=cols, lanes=lanes, tokens=1, zero=zero))
    return max(2, 1 << (groups - 1).bit_length())
