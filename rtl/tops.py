"""The designs that can be emitted, by name."""

from mixflight.arch.errors import InputError
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE
from mixflight.rtl.systolic_array import SystolicArray


def balanced_lanes(*, rows: int, cols: int, group: int) -> int:
    """Fewest lanes that keep up with groups of ``group`` codes in one pass.

    That is ``rows * cols / group`` where it divides ``cols``, else the next divisor; at most a lane a column.
    """
    if min(rows, cols, group) < 1:
        raise InputError(f"rows, cols and group must be at least 1, not {rows}, {cols} and {group}, in an array")
    return next((lanes for lanes in range(1, cols) if cols % lanes == 0 and lanes * group >= rows * cols), cols)


def mixpe_array(*, rows: int = 8, cols: int = 8, group: int = 32, lanes: int | None = None,
                pe: str = "shift-add", group_max: int = 128, zero: str = "none",
                two_pass: bool = False) -> SystolicArray:
    """The systolic array; without ``lanes`` it has those that groups of ``group`` codes keep busy."""
    if lanes is None:
        lanes = balanced_lanes(rows=rows, cols=cols, group=group)
    return SystolicArray(rows=rows, cols=cols, lanes=lanes, pe=pe, group_max=group_max, zero=zero,
                         two_pass=two_pass)


TOPS = {
    "mixpe-array": mixpe_array,
    "mixpe-w4a8-pe": ShiftAddPE,
    "mul4x8-pe": MultiplyPE,
}
"""Top name -> what builds the component from keyword parameters, each with a default."""
