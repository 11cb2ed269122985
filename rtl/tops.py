"""The designs that can be emitted, by name."""

from typing import get_args

from mixflight.arch.array import Dataflow
from mixflight.arch.csd_chain import RATIOS
from mixflight.arch.errors import InputError
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_sfu import CoreSfu
from mixflight.rtl.csd_chain import CsdChain
from mixflight.rtl.pe_align import GroupAlign
from mixflight.rtl.pe_centred import CentredShiftAddPE
from mixflight.rtl.pe_dequantise import DequantisePE
from mixflight.rtl.pe_dot import dot_int8_pe, dot_w4a8_pe, dot_w4a16_pe
from mixflight.rtl.pe_float import FloatShiftAddPE, Fp16PE
from mixflight.rtl.pe_fusible import FusiblePE
from mixflight.rtl.pe_int8 import Int8PE
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE
from mixflight.rtl.sfu_functions import ExpUnit, ReciprocalUnit, RsqrtUnit
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.rtl.weight_stationary_array import WeightStationaryArray
from mixflight.rtl.widen import Widen


def balanced_lanes(*, rows: int, cols: int, group: int) -> int:
    """Fewest lanes that keep up with groups of ``group`` codes in one pass.

    That is ``rows * cols / group`` where it divides ``cols``, else the next divisor; at most a lane a column.
    """
    if min(rows, cols, group) < 1:
        raise InputError(f"rows, cols and group must be at least 1, not {rows}, {cols} and {group}, in an array")
    return next((lanes for lanes in range(1, cols) if cols % lanes == 0 and lanes * group >= rows * cols), cols)


def mixpe_array(*, dataflow: str = "output-stationary", rows: int = 8, cols: int = 8, group: int = 32,
                lanes: int | None = None, pe: str = "shift-add", group_max: int = 128, zero: str = "none",
                two_pass: bool = False, split: int = 1,
                tokens: int | None = None) -> SystolicArray | WeightStationaryArray:
    """The systolic array of a dataflow; without ``lanes`` it has those that groups of ``group`` codes keep busy.

    ``tokens`` is of weight-stationary arrays, as many as rows where it is not given; they have no ``split``.
    """
    shared = {"rows": rows, "cols": cols, "pe": pe, "group_max": group_max, "zero": zero, "two_pass": two_pass}
    if dataflow not in get_args(Dataflow):
        raise InputError(f"dataflow must be {' or '.join(get_args(Dataflow))}, not {dataflow!r}, in a systolic array")
    stationary = dataflow == "weight-stationary"
    if stationary and split != 1:
        raise InputError(f"split must be 1 in a weight-stationary array, not {split}")
    if not stationary and tokens is not None:
        raise InputError(f"tokens must not be given for an output-stationary array, as {tokens} is")
    held = (tokens or rows) if stationary else rows
    if lanes is None:
        lanes = balanced_lanes(rows=held, cols=cols, group=group)
    if stationary:
        return WeightStationaryArray(**shared, lanes=lanes, tokens=held)
    return SystolicArray(**shared, lanes=lanes, split=split)


def aligned_pe(*, group_max: int = 128, extra_bits: int = 2) -> ShiftAddPE:
    """The shift-add PE of 4-bit codes and FP16 activations that ``fp16-align`` made integers."""
    return ShiftAddPE(group_max=group_max, a_bits=12 + extra_bits)


def small_engine(
    *, dots: str = "shift-add", banks: int = 2, lanes: int = 8, together: int = 1
) -> MatrixVector:  # fmt: skip
    """The matrix engine of a core, 16 columns wide, with buffers small enough to look at."""
    return MatrixVector(columns=16, banks=banks, dots=dots, lanes=lanes, outputs=64, weight_depth=256, scale_depth=256,
                        together=together)  # fmt: skip


def generic_chain(*, length: int = 16, group: int = 2, ratios: str = ",".join(RATIOS)) -> CsdChain:
    """The sparse DSP chain without primitives: registers and operators."""
    return CsdChain(length=length, group=group, ratios=ratios, variant="generic")


def dsp58_chain(*, length: int = 16, group: int = 2, ratios: str = ",".join(RATIOS)) -> CsdChain:
    """The sparse DSP chain of Versal's DSP58."""
    return CsdChain(length=length, group=group, ratios=ratios, variant="dsp58")


TOPS = {
    "mixpe-array": mixpe_array,
    "mixpe-w4a8-pe": ShiftAddPE,
    "mixpe-w4a8-centred-pe": CentredShiftAddPE,
    "mul4x8-pe": MultiplyPE,
    "int8-pe": Int8PE,
    "dequantise-pe": DequantisePE,
    "fusible-pe": FusiblePE,
    "mixpe-w4a16-pe": FloatShiftAddPE,
    "mixpe-w4a16-aligned-pe": aligned_pe,
    "fp16-align": GroupAlign,
    "fp16-pe": Fp16PE,
    "csd-chain": CsdChain,
    "csd-chain-generic": generic_chain,
    "csd-chain-dsp58": dsp58_chain,
    "mixpe-w4a8-dot-pe": dot_w4a8_pe,
    "mixpe-w4a16-dot-pe": dot_w4a16_pe,
    "int8-dot-pe": dot_int8_pe,
    "sfu-exp": ExpUnit,
    "sfu-reciprocal": ReciprocalUnit,
    "sfu-rsqrt": RsqrtUnit,
    "widen": Widen,
    "core-sfu": CoreSfu,
    "core-mv": small_engine,
}
"""Top name -> what builds the component from keyword parameters, each with a default."""
