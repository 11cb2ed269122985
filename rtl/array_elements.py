"""The PEs an output-stationary array can be made of: their operands on the streams, and what their group sums are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mixflight.arch.array_pipeline import LANE_ZEROS
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero
from mixflight.rtl.pe_align import aligned_bits
from mixflight.rtl.pe_centred import CentredShiftAddPE
from mixflight.rtl.pe_dequantise import DequantisePE
from mixflight.rtl.pe_float import FloatShiftAddPE, Fp16PE
from mixflight.rtl.pe_int8 import Int8PE
from mixflight.rtl.pe_multiply import MultiplyPE
from mixflight.rtl.pe_shift_add import ShiftAddPE

FP16_BITS = 16


@dataclass(frozen=True, kw_only=True)
class Element:
    """A kind of PE in an array.

    ``arithmetic`` says what the array around it does: ``integer`` and ``aligned`` sums go to lanes that scale integers,
    the latter after an alignment in each row has made integers of FP16 activations; ``float`` sums are FP32.
    """

    build: Callable[..., Any]
    """From ``group_max``, ``w_bits``, ``a_bits`` and ``two_pass`` (integer PEs), or from nothing."""
    w_bits: int
    """Of a weight on the stream."""
    a_bits: int
    """Of an activation on the stream."""
    code_bits: int
    """Of the weight that is multiplied: bounds the integer a lane scales. 0 for ``float``."""
    arithmetic: Literal["integer", "aligned", "float"] = "integer"
    two_pass: bool = False
    """Whether 8-bit weights can come as two passes."""
    zeros: tuple[Zero, ...] = LANE_ZEROS
    """The kinds of zero points that its lanes can correct."""

    @property
    def digits(self) -> bool:
        """Whether wider weights come as groups of digits, each with a scale of its own."""
        return self.arithmetic != "integer" and self.w_bits < FP16_BITS

    def operand_bits(self, extra_bits: int) -> int:
        """Bits of an activation as the PE gets it."""
        return aligned_bits(extra_bits) if self.arithmetic == "aligned" else self.a_bits


def _sized(kind: type) -> Callable[..., Any]:
    """A PE whose weights have one width: it takes none, nor a second pass."""
    def build(*, w_bits: int, two_pass: bool, **widths: int) -> Any:
        return kind(**widths)

    return build


def _float(kind: type) -> Callable[..., Any]:
    """A PE with an FP32 accumulator, which has no widths to choose."""
    def build(**widths: int) -> Any:
        return kind()

    return build


ELEMENTS: Mapping[str, Element] = {
    "shift-add": Element(build=ShiftAddPE, w_bits=4, a_bits=8, code_bits=4, two_pass=True),
    "multiply": Element(build=MultiplyPE, w_bits=4, a_bits=8, code_bits=4, two_pass=True),
    "centred": Element(build=CentredShiftAddPE, w_bits=4, a_bits=8, code_bits=4, two_pass=True),
    "int8": Element(build=_sized(Int8PE), w_bits=8, a_bits=8, code_bits=8),
    "dequantise": Element(build=_sized(DequantisePE), w_bits=16, a_bits=8, code_bits=8, zeros=("none",)),
    "aligned": Element(build=ShiftAddPE, w_bits=4, a_bits=FP16_BITS, code_bits=4, arithmetic="aligned"),
    "float": Element(build=_float(FloatShiftAddPE), w_bits=5, a_bits=FP16_BITS, code_bits=0, arithmetic="float",
                     zeros=("none", "f16-min")),
    "fp16": Element(build=_float(Fp16PE), w_bits=16, a_bits=FP16_BITS, code_bits=0, arithmetic="float",
                    zeros=("none", "f16-min")),
}
"""The array's ``pe`` → what it is made of."""


def element_named(pe: str, *, zero: str, two_pass: bool) -> Element:
    """The element ``pe``, with zero points and passes that its array has hardware for."""
    if pe not in ELEMENTS:
        raise InputError(f"pe must be one of {', '.join(ELEMENTS)}, not {pe!r}, in a systolic array")
    element = ELEMENTS[pe]
    if zero not in LANE_ZEROS:
        raise InputError(f"zero must be one of {', '.join(LANE_ZEROS)}, not {zero!r}, in a systolic array")
    if zero not in element.zeros:
        raise InputError(f"zero must be {' or '.join(element.zeros)}, not {zero!r}, in a systolic array of {pe} PEs")
    if two_pass and not element.two_pass:
        raise InputError(f"two_pass must be off, not on, in a systolic array of {pe} PEs")
    if pe == "centred" and zero == "none" and two_pass:
        raise InputError("two_pass must be off for centred PEs without zero points, not on, in a systolic array")
    return element
