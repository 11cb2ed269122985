"""Processing elements: which operand widths one takes, and what a wider operand costs on it."""

from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format

PeKind = Literal[
    "shift-add-4x8",
    "centred-4x8",
    "multiply-4x8",
    "multiply-8x8",
    "shift-add-4x16-aligned",
    "shift-add-4x16-float",
    "fp16-mac",
]

Arithmetic = Literal["integer", "aligned", "float"]

SIGNIFICAND_BITS = 12
"""Bits of an FP16 significand as a two's complement integer: 11 and a sign."""

ALIGN_GROUP = 128
"""Most values along K that are aligned to one exponent."""


class Pe(msgspec.Struct, frozen=True, kw_only=True):
    """One multiply-accumulate a cycle of a ``weight_bits`` weight and an ``act_bits`` activation.

    ``arithmetic``  ``integer``: exact integer sums of a group. ``aligned``: FP16 activations become integers in units
                    of their group's largest exponent at the array's edge, the rest is ``integer``. ``float``: exact
                    products of FP16 activations, an FP32 accumulator.
    """

    kind: PeKind
    weight_bits: int
    act_bits: int
    arithmetic: Arithmetic = "integer"

    @property
    def scales_floats(self) -> bool:
        """Whether FP16 weights enter as scaled integers too, digit by digit: on PEs of narrower weights and FP16
        activations."""
        return self.act_bits == 16 and self.weight_bits < 16

    def digit_groups(self, weight: Format) -> int:
        """Groups that one group of weights wider than the PE becomes, each of digits with a scale of its own; 1 where
        the digits are passes over one group's accumulator, or there is but one.

        PEs of FP16 activations have no room for a second digit in their accumulators (or no exact one), so a digit of
        weight 16^i enters as a group whose scale is 16^i times as large.
        """
        return self._digits(weight) if self.scales_floats else 1

    def mac_action(self, weight: Format) -> str:
        """What a MAC of ``weight`` is charged as: ``mac``, or ``mac_4bit`` where unsigned codes of at most 4 bits leave
        the upper half of an 8-bit multiplier still."""
        codes = weight.kind == "int" and not weight.signed and weight.operand_bits <= 4
        return "mac_4bit" if codes and self.arithmetic == "integer" and self.weight_bits == 8 else "mac"

    def group_of(self, weight: Format, k: int) -> int:
        """Values along ``k`` that share a scale on this PE: the weight's group, or what is aligned together."""
        group = weight.group or k
        return min(group, ALIGN_GROUP) if self.scales_floats else group

    def _digits(self, weight: Format) -> int:
        bits = SIGNIFICAND_BITS if weight.kind == "float" else weight.operand_bits
        return -(-bits // self.weight_bits)


PES: dict[str, Pe] = {
    pe.kind: pe
    for pe in (
        Pe(kind="shift-add-4x8", weight_bits=4, act_bits=8),
        Pe(kind="centred-4x8", weight_bits=4, act_bits=8),
        Pe(kind="multiply-4x8", weight_bits=4, act_bits=8),
        Pe(kind="multiply-8x8", weight_bits=8, act_bits=8),
        Pe(kind="shift-add-4x16-aligned", weight_bits=4, act_bits=16, arithmetic="aligned"),
        Pe(kind="shift-add-4x16-float", weight_bits=4, act_bits=16, arithmetic="float"),
        Pe(kind="fp16-mac", weight_bits=16, act_bits=16, arithmetic="float"),
    )
}


def passes(pe: Pe, weight: Format, act: Format, operator: str) -> int:
    """How often ``pe`` must visit each (weight, activation) pair: the promotion table of ``arch/numerics.md``.

    Integer PEs: weights wider than the PE run as ``ceil(bits / weight_bits)`` passes, low part first; narrower operands
    are extended at full cost. A code that stands for an integer of a table is looked up before it enters, so the width
    of the integer counts. The FP16 PE takes in one pass whatever is exact in FP16: FP16, FP8, any integer of at most 11
    bits. The PEs of 4-bit weights and FP16 activations take such activations; integer weights run digit by digit, and
    FP16 ones (keys, values, a head) as the digits of their significands, aligned to their group: three passes.
    Everything else (BF16, tables of other values) is an error that names the operator and the formats.
    """
    if pe.kind == "fp16-mac":
        if weight.exact_in_f16 and act.exact_in_f16:
            return 1
    elif pe.scales_floats:
        if act.exact_in_f16 and (weight.kind == "int" or _is_fp16(weight)):
            return pe.digit_groups(weight)
    elif weight.kind == act.kind == "int" and act.operand_bits <= pe.act_bits:
        return -(-weight.operand_bits // pe.weight_bits)
    refused = [item for item in (weight, act) if item.kind == "float" and not item.exact_in_f16]
    floats = "float" in (weight.kind, act.kind) if pe.arithmetic == "integer" else bool(refused)
    hint = " (--float-operands int8 converts them)" if floats else ""
    raise InputError(
        f"a {pe.kind} PE must get operands it can promote, not {weight.name} weights with {act.name} activations, "
        f"in operator {operator!r}{hint}"
    )


def _is_fp16(form: Format) -> bool:
    return form.kind == "float" and form.bits == 16 and not form.exponent_bits
