"""What the engine's loop must know of an array's tiles, for either dataflow."""

import msgspec

from mixflight.arch.array import Array
from mixflight.arch.array_pipeline import group_gap
from mixflight.arch.commands import MatrixCommand
from mixflight.arch.stationary_pipeline import stationary_gap, visit_steps
from mixflight.sim.array_timing import drain
from mixflight.sim.stationary_timing import stationary_ends


class TileSteps(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles of a command's tiles, as ``arch.stationary_pipeline.visit_steps`` counts them.

    ``depth``      codes loaded before any of them is used: the rows of a weight-stationary array, else 1
    ``tokens``     tokens sent past each load; 1 on an output-stationary array, where all rows work at once
    ``gap``        least cycles from a group's end to the next one's: the lanes' time
    ``rest_...``   the same of a row block's last tile, with the tokens that are left
    ``tail``       cycles beyond the groups' periods: first load, skew, drain
    """

    depth: int
    tokens: int
    rest_tokens: int
    gap: int
    rest_gap: int
    tail: int


def tile_steps(command: MatrixCommand, array: Array) -> TileSteps:
    """Of the array's dataflow. A weight-stationary array's tail is that of tiles of equal tokens."""
    if array.dataflow == "weight-stationary":
        return _stationary(command, array)
    shape = {"rows": array.rows, "cols": array.cols, "lanes": array.lanes}
    gap = group_gap(**shape, zero=command.zero)
    waiting = max(0, gap - command.passes * command.group)
    tail = array.rows + array.cols - 2 + drain(**shape, zero=command.zero) - waiting
    return TileSteps(depth=1, tokens=1, rest_tokens=1, gap=gap, rest_gap=gap, tail=tail)


def _stationary(command: MatrixCommand, array: Array) -> TileSteps:
    most, _ = array.tile(command.split)
    tokens = min(most, command.m)
    rest = command.m % most or most

    def gap(tokens: int) -> int:
        return stationary_gap(cols=array.cols, lanes=array.lanes, tokens=tokens, zero=command.zero)

    tail = stationary_ends(
        rows=array.rows, cols=array.cols, lanes=array.lanes, zero=command.zero, tokens=tokens,
        group=command.group, passes=command.passes,
    )  # fmt: skip
    return TileSteps(
        depth=array.rows, tokens=tokens, rest_tokens=rest, gap=gap(tokens),
        rest_gap=gap(rest), tail=tail,
    )  # fmt: skip


def group_steps(command: MatrixCommand, steps: TileSteps) -> int:
    """Cycles of the PEs for a group of a command's fullest tile, before the lanes are asked."""
    return visit_steps(command.group, steps.depth, steps.tokens, command.passes)
