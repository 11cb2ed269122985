"""How many cycles the systolic array takes: the closed form its hardware meets exactly when nothing stalls
it."""

from mixflight.arch.array_pipeline import (
    GROUP_SUM_STAGES,
    INPUT_STAGES,
    columns_per_lane,
    group_gap,
    lane_latency,
)
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero


def group_period(*, rows: int, cols: int, lanes: int, group: int, passes: int, zero: Zero) -> int:
    """Cycles from one group's end to the next one's: the PEs' time for a group, or the lanes' if that is
    longer."""
    return max(passes * group, group_gap(rows=rows, cols=cols, lanes=lanes, zero=zero))


def drain(*, rows: int, cols: int, lanes: int, zero: Zero) -> int:
    """Cycles a tile needs beyond its groups and the array's skew R + C - 2.

    An element waits at most ``(w - 1) * (R - 1)`` steps for its turn in its lane of ``w`` columns, and passes
    the input register, the group sum's register and the lane.
    """
    columns = columns_per_lane(cols=cols, lanes=lanes)
    return (columns - 1) * (rows - 1) + INPUT_STAGES + GROUP_SUM_STAGES + lane_latency(zero)


def array_cycles(*, rows: int, cols: int, lanes: int, k: int, group: int, passes: int, tiles: int = 1,
                 zero: Zero) -> int:
    """Unstalled cycles of ``tiles`` tiles of ``rows`` x ``cols`` outputs over ``k``, back to back.

    Counted from the cycle in which the first ``act`` beat is accepted to the cycle in which the last output
    is, both included. With N = tiles * k / group groups and P the group period, the last group ends in cycle
    ``T = (N - 1) * P + passes * group - 1`` after the first: every group but the first ends P after the one
    before, the first needs its beats only. The last lane's last element is selected ``INPUT_STAGES +
    GROUP_SUM_STAGES + (C - w) + (R * w - 1)`` cycles later and offered ``lane_latency`` after that; both ends
    counted, one more. Since ``(C - w) + (R * w - 1) = (R + C - 2) + (w - 1) * (R - 1)``,

        cycles = (N - 1) * P + passes * group + R + C - 2 + drain

    which is ``N * max(...) + R + C - 2 + drain`` wherever the PEs and not the lanes set the period.

    A split tile (``array_pipeline.tile_shape``) takes the same: its lanes visit the same ``R * C`` elements a group.
    """
    if group < 1 or k < group or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}, in the array's timing")
    if passes < 1 or tiles < 1:
        raise InputError(f"passes and tiles must be at least 1, not {passes} and {tiles}, "
                         "in the array's timing")
    shape = {"rows": rows, "cols": cols, "lanes": lanes}
    groups = tiles * (k // group)
    period = group_period(**shape, group=group, passes=passes, zero=zero)
    return (groups - 1) * period + passes * group + rows + cols - 2 + drain(**shape, zero=zero)
