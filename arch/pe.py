"""Processing elements: which operand widths one takes, and what a wider operand costs on it."""

from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format

PeKind = Literal["shift-add-4x8", "multiply-4x8", "multiply-8x8", "fp16-mac"]


class Pe(msgspec.Struct, frozen=True, kw_only=True):
    """One multiply-accumulate a cycle of a ``weight_bits`` weight and an ``act_bits`` activation.

    ``floating``  operands are FP16 and the accumulator is FP32; integer operands are extended to FP16.
    """

    kind: PeKind
    weight_bits: int
    act_bits: int
    floating: bool = False


PES: dict[str, Pe] = {
    pe.kind: pe
    for pe in (
        Pe(kind="shift-add-4x8", weight_bits=4, act_bits=8),
        Pe(kind="multiply-4x8", weight_bits=4, act_bits=8),
        Pe(kind="multiply-8x8", weight_bits=8, act_bits=8),
        Pe(kind="fp16-mac", weight_bits=16, act_bits=16, floating=True),
    )
}


def passes(pe: Pe, weight: Format, act: Format, operator: str) -> int:
    """How often ``pe`` must visit each (weight, activation) pair: the promotion table of ``arch/numerics.md``.

    Integer PEs: weights wider than the PE run as ``ceil(bits / weight_bits)`` passes, low part first; narrower operands
    are extended at full cost. A code that stands for an integer of a table is looked up before it enters, so the width
    of the integer counts. The FP16 PE takes in one pass whatever is exact in FP16: FP16, FP8, any integer of at most 11
    bits. Everything else (BF16, tables of other values) is an error that names the operator and the formats.
    """
    if pe.floating:
        if weight.exact_in_f16 and act.exact_in_f16:
            return 1
    elif weight.kind == act.kind == "int" and act.operand_bits <= pe.act_bits:
        return -(-weight.operand_bits // pe.weight_bits)
    raise InputError(
        f"a {pe.kind} PE must get operands it can promote, not {weight.name} weights with {act.name} activations, "
        f"in operator {operator!r}"
    )
