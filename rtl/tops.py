"""The designs that can be emitted, by name."""

from mixflight.arch.errors import InputError
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE
from mixflight.rtl.systolic_array import SystolicArray


def mixpe_array(*, rows: int = 8, cols: int = 8, group: int = 32, lanes: int | None = None,
                pe: str = "shift-add", group_max: int = 128, zero: str = "none",
                two_pass: bool = False) -> SystolicArray:
    """The systolic array; without ``lanes`` as many as keep up with groups of ``group``: rows * cols /
    group."""
    if lanes is None:
        if group < 1:
            raise InputError(f"group must be at least 1, not {group}, in top mixpe-array")
        lanes = max(1, rows * cols // group)
        lanes = next(count for count in range(lanes, cols + 1) if cols % count == 0) if lanes < cols else cols
    return SystolicArray(rows=rows, cols=cols, lanes=lanes, pe=pe, group_max=group_max, zero=zero,
                         two_pass=two_pass)


TOPS = {
    "mixpe-array": mixpe_array,
    "mixpe-w4a8-pe": ShiftAddPE,
    "mul4x8-pe": MultiplyPE,
}
"""Top name -> what builds the component from keyword parameters, each with a default."""
