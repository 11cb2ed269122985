"""Number formats as data: what a stored code means, and what it costs to store one."""

import functools
import math
import re
import struct
from typing import Any, Literal

import msgspec

from mixflight.arch.errors import InputError

Kind = Literal["int", "float"]
Zero = Literal["none", "int2", "int3", "int4", "int8", "f16-min"]
Scale = Literal["none", "f16", "bf16", "f32", "u8", "e8m0-half"]

SCALE_BITS = {"none": 0, "f16": 16, "bf16": 16, "f32": 32, "u8": 8, "e8m0-half": 8}
ZERO_BITS = {"none": 0, "int2": 2, "int3": 3, "int4": 4, "int8": 8, "f16-min": 16}
EXPONENT_BITS = {16: 5, 32: 8}


class TwoLevel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scales of groups that are integers of their own, times a scale that a block of several groups shares.

    The scale of a group is ``scale of the block * (scale code - scale_offset)`` and its minimum
    ``-(minimum of the block * minimum code)``; the format's ``scale`` and ``zero`` say how the block's are stored.

    ``block``         codes along K in a block.
    ``scale_bits``    stored bits of a group's scale code, ``signed`` in two's complement.
    ``minimum_bits``  stored bits of a group's minimum code, 0 where there is none.
    """

    block: int
    scale_bits: int
    signed: bool = False
    scale_offset: int = 0
    minimum_bits: int = 0


class Format(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a code means: ``value = scale * (code - offset - zero) + minimum``, or ``scale * table[code]``.

    ``bits``          stored bits of one code.
    ``kind``          ``int`` for codes that stand for integers, ``float`` for codes that stand for floating-point
                      values: IEEE of 16 or 32 bits, or as ``exponent_bits`` or ``table`` say.
    ``signed``        codes are two's complement; unsigned otherwise.
    ``offset``        constant subtracted from every code (8 for GGUF Q4_0).
    ``group``         codes along K that share scale and zero point; 0: one scale for the whole row (per output channel
                      for a weight, per token for an activation, per token and head for a cached key or value).
    ``scale``         how the scale is stored; ``e8m0-half`` is a byte e that stands for 2^(e - 128), half of the OCP
                      microscaling scale, which makes the FP4 values of a table integers; ``u8`` a code of a scale that
                      is quantised itself, whose own scale (32 bits for 256 groups, across rows) is not counted.
    ``zero``          ``none``; ``int4`` and the like, an integer zero point per group; ``f16-min``, an FP16 minimum
                      added after scaling (GGUF Q4_1), which is not an integer zero point.
    ``table``         the value of each code, for formats that are no grid; integers where ``kind`` is ``int``.
    ``exponent_bits`` of a float that is not IEEE (8 of 16 bits: BF16; 4 of 8 bits: FP8 E4M3), else 0.
    ``two_level``     scales of groups within blocks (the K-quants of GGUF), else None.
    ``packed_bits``   stored bits of ``packed_codes`` codes (0: of a group) that are stored in other than their bits:
                      five ternary digits a byte, or two values of four and a mask of four bits; else 0.
    """

    name: str
    bits: int
    kind: Kind = "int"
    signed: bool = True
    offset: int = 0
    group: int = 0
    scale: Scale = "none"
    zero: Zero = "none"
    table: tuple[float, ...] = ()
    exponent_bits: int = 0
    two_level: TwoLevel | None = None
    packed_bits: int = 0
    packed_codes: int = 0

    def __post_init__(self) -> None:
        plain = not self.table and not self.exponent_bits
        if self.kind == "float" and plain and self.bits not in (16, 32):
            raise InputError(f"a float format must have 16 or 32 bits, not {self.bits}, in format {self.name!r}")
        if self.exponent_bits and (self.kind != "float" or not 1 < self.exponent_bits < self.bits):
            raise InputError(
                f"exponent_bits must lie in 2..bits - 1 of a float format, not {self.exponent_bits}, "
                f"in format {self.name!r}"
            )
        if self.kind == "int" and not 1 <= self.bits <= 16:
            raise InputError(f"an integer format must have 1 to 16 bits, not {self.bits}, in format {self.name!r}")
        if self.table and len(self.table) != 1 << self.bits:
            raise InputError(
                f"a table must have {1 << self.bits} values, not {len(self.table)}, in format {self.name!r}"
            )
        if self.kind == "int" and any(value != int(value) for value in self.table):
            raise InputError(f"the table of an integer format must hold integers, in format {self.name!r}")
        if self.group < 0:
            raise InputError(f"group must be at least 0, not {self.group}, in format {self.name!r}")
        if self.two_level and (not self.group or self.two_level.block % self.group):
            raise InputError(
                f"a block must be a multiple of the group: {self.two_level.block} is none of {self.group}, "
                f"in format {self.name!r}"
            )

    @property
    def block(self) -> int:
        """Codes along K that must be stored whole: the block of two-level scales, or the group."""
        return self.two_level.block if self.two_level else self.group

    @property
    def overhead_bits_per_group(self) -> int:
        """Bits of scale and zero point stored with each group; what a block of groups shares is not among them."""
        if self.two_level:
            return self.two_level.scale_bits + self.two_level.minimum_bits
        return SCALE_BITS[self.scale] + ZERO_BITS[self.zero]

    @property
    def operand_bits(self) -> int:
        """Bits of the operand that an integer PE gets: those of the code, or those that hold the table's values."""
        if self.kind == "int" and self.table:
            low, high = self.code_range()
            return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
        return self.bits

    @property
    def exact_in_f16(self) -> bool:
        """Whether every operand is an FP16 value."""
        if self.kind == "int":
            return self.operand_bits <= 11
        if self.table:
            return all(_rounded("<e", value) == value for value in self.table)
        exponent = self.exponent_bits or EXPONENT_BITS[self.bits]
        return exponent <= 5 and self.bits - 1 - exponent <= 10

    def groups(self, k: int) -> int:
        """Number of groups in a row of ``k`` codes; a group that does not divide ``k`` is an error."""
        if self.group == 0:
            return 1
        if k % self.group:
            raise InputError(f"group must divide K: {self.group} does not divide {k} in format {self.name!r}")
        return k // self.group

    def row_bits(self, k: int) -> int:
        """Stored bits of a row of ``k`` codes, scales and zero points included."""
        return self._code_bits(k) + self.groups(k) * self.overhead_bits_per_group + self._block_bits(k)

    def _code_bits(self, k: int) -> int:
        if not self.packed_bits:
            return k * self.bits
        together = self.packed_codes or self.group
        if k % together:
            raise InputError(f"K must be a multiple of {together}, not {k}, in format {self.name!r}")
        return k // together * self.packed_bits

    def _block_bits(self, k: int) -> int:
        """Bits of the scales and minima that blocks of groups share in a row of ``k`` codes."""
        if self.two_level is None:
            return 0
        if k % self.two_level.block:
            raise InputError(f"block must divide K: {self.two_level.block} does not divide {k} in {self.name!r}")
        return k // self.two_level.block * (SCALE_BITS[self.scale] + ZERO_BITS[self.zero])

    def code_range(self) -> tuple[int, int]:
        """Smallest and largest value of ``code - offset``, or of the table."""
        if self.table:
            return math.floor(min(self.table)), math.ceil(max(self.table))
        low, high = (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)
        return low - self.offset, high - self.offset


def _rounded(code: str, value: float) -> float:
    """``value`` rounded to the float that ``struct`` calls ``code``."""
    rounded: float = struct.unpack(code, struct.pack(code, value))[0]
    return rounded


def _table(*formats: Format) -> dict[str, Format]:
    return {item.name: item for item in formats}


# ggml's table of IQ4_NL and IQ4_XS; the FP4 values (E2M1) of the OCP microscaling formats, doubled; the quantiles of
# NF4 and the FP4 values of bitsandbytes, both scaled to a largest magnitude of 1.
IQ4_TABLE = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
E2M1_TWICE = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
NF4_TABLE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
FP4_TWELFTHS = (0, 0.0625, 8, 12, 4, 6, 2, 3)
FP4_TABLE = tuple(sign * _rounded("<f", value / 12) for sign in (1, -1) for value in FP4_TWELFTHS)

GROUPS = (16, 32, 64, 128, 256)

# Group, scale and offset of the Q, IQ, TQ and MX types: GGUF block layouts (ggml).
FORMATS: dict[str, Format] = _table(
    Format(name="f32", bits=32, kind="float"),
    Format(name="f16", bits=16, kind="float"),
    Format(name="bf16", bits=16, kind="float", exponent_bits=8),
    Format(name="q4_0", bits=4, signed=False, offset=8, group=32, scale="f16"),
    Format(name="q4_1", bits=4, signed=False, group=32, scale="f16", zero="f16-min"),
    Format(name="q5_0", bits=5, signed=False, offset=16, group=32, scale="f16"),
    Format(name="q5_1", bits=5, signed=False, group=32, scale="f16", zero="f16-min"),
    Format(name="q8_0", bits=8, group=32, scale="f16"),
    Format(name="q2_k", bits=2, signed=False, group=16, scale="f16", zero="f16-min",
           two_level=TwoLevel(block=256, scale_bits=4, minimum_bits=4)),
    Format(name="q3_k", bits=3, signed=False, offset=4, group=16, scale="f16",
           two_level=TwoLevel(block=256, scale_bits=6, scale_offset=32)),
    Format(name="q4_k", bits=4, signed=False, group=32, scale="f16", zero="f16-min",
           two_level=TwoLevel(block=256, scale_bits=6, minimum_bits=6)),
    Format(name="q5_k", bits=5, signed=False, group=32, scale="f16", zero="f16-min",
           two_level=TwoLevel(block=256, scale_bits=6, minimum_bits=6)),
    Format(name="q6_k", bits=6, signed=False, offset=32, group=16, scale="f16",
           two_level=TwoLevel(block=256, scale_bits=8, signed=True)),
    Format(name="iq4_nl", bits=4, signed=False, group=32, scale="f16", table=IQ4_TABLE),
    Format(name="iq4_xs", bits=4, signed=False, group=32, scale="f16", table=IQ4_TABLE,
           two_level=TwoLevel(block=256, scale_bits=6, scale_offset=32)),
    Format(name="tq1_0", bits=2, signed=False, offset=1, group=256, scale="f16", packed_bits=416),
    Format(name="tq2_0", bits=2, signed=False, offset=1, group=256, scale="f16"),
    Format(name="mxfp4", bits=4, signed=False, group=32, scale="e8m0-half", table=E2M1_TWICE),
    Format(name="int8", bits=8, scale="f16"),
    *(Format(name=f"int8-g{group}", bits=8, group=group, scale="f16") for group in GROUPS),
    Format(name="uint4-g128-z4", bits=4, signed=False, group=128, scale="f16", zero="int4"),
    Format(name="f8_e4m3", bits=8, kind="float", exponent_bits=4),
    Format(name="f16-2of4", bits=16, kind="float", packed_codes=4, packed_bits=36),
    Format(name="bf16-2of4", bits=16, kind="float", exponent_bits=8, packed_codes=4, packed_bits=36),
    Format(name="f32-2of4", bits=32, kind="float", packed_codes=4, packed_bits=68),
    Format(name="uint4-asym", bits=4, signed=False, scale="f16", zero="f16-min"),
)  # fmt: skip


PATTERN = "intB, uintB, nf4, fp4 or f8_e4m3, then -gGROUP, -zB, -bf16 or -f32 or -u8"
_SYSTEMATIC = re.compile(
    r"(?P<code>u?int(?P<bits>[1-8])|nf4|fp4|f8_e4m3)(-g(?P<group>[1-9]\d{0,4}))?(-z(?P<zero>[2348]))?"
    r"(-(?P<scale>bf16|f32|u8))?"
)


def format_named(name: str, where: str) -> Format:
    """The format ``name``: a preset, or a systematic name; ``where`` names the place for the error message.

    A systematic name is the code (``int4``, ``uint3``, ``nf4``, ``fp4``, ``f8_e4m3``), the group if it is not the row
    (``-g128``), the bits of an integer zero point if there is one (``-z4``) and how the scale is stored if not in FP16
    (``-bf16``, ``-f32``, ``-u8``): ``uint4-g128-z4``, ``int4-g64-bf16``, ``nf4-g64-f32``.
    """
    if name in FORMATS:
        return FORMATS[name]
    found = _systematic(name)
    if found is None:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, or {PATTERN}, not {name!r}, in {where}")
    return found


@functools.cache
def _systematic(name: str) -> Format | None:
    match = _SYSTEMATIC.fullmatch(name)
    if match is None:
        return None
    code, group = match["code"], int(match["group"] or 0)
    scale: Any = match["scale"] or "f16"
    zero: Any = f"int{match['zero']}" if match["zero"] else "none"
    if match["bits"] is None and match["zero"]:
        return None
    if match["bits"]:
        signed = code[0] == "i"
        return Format(name=name, bits=int(match["bits"]), signed=signed, group=group, scale=scale, zero=zero)
    if code == "f8_e4m3":
        return Format(name=name, bits=8, kind="float", exponent_bits=4, group=group, scale=scale)
    table = NF4_TABLE if code == "nf4" else FP4_TABLE
    return Format(name=name, bits=4, kind="float", signed=False, group=group, scale=scale, table=table)
