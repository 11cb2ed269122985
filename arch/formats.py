"""Number formats as data: what a stored code means, and what it costs to store one."""

from typing import Literal

import msgspec

from mixflight.arch.errors import InputError

Kind = Literal["int", "float"]
Zero = Literal["none", "int4", "f16-min"]

SCALE_BITS = {"none": 0, "f16": 16, "f32": 32}
ZERO_BITS = {"none": 0, "int4": 4, "f16-min": 16}


class Format(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a code means: ``value = scale * (code - offset - zero) + minimum``.

    ``bits``      stored bits of one code.
    ``kind``      ``int`` for codes on an integer grid, ``float`` for IEEE values (bits 16 or 32).
    ``signed``    codes are two's complement; unsigned otherwise.
    ``offset``    constant subtracted from every code (8 for GGUF Q4_0).
    ``group``     codes along K that share scale and zero point; 0: one scale for the whole row (per output channel
                  for a weight, per token for an activation, per token and head for a cached key or value).
    ``scale``     how the scale is stored.
    ``zero``      ``none``; ``int4``, an integer zero point of 4 bits per group; ``f16-min``, an FP16 minimum added
                  after scaling (GGUF Q4_1), which is not an integer zero point.
    """

    name: str
    bits: int
    kind: Kind = "int"
    signed: bool = True
    offset: int = 0
    group: int = 0
    scale: Literal["none", "f16", "f32"] = "none"
    zero: Zero = "none"

    def __post_init__(self) -> None:
        if self.kind == "float" and self.bits not in (16, 32):
            raise InputError(f"a float format must have 16 or 32 bits, not {self.bits}, in format {self.name!r}")
        if self.kind == "int" and not 1 <= self.bits <= 16:
            raise InputError(f"an integer format must have 1 to 16 bits, not {self.bits}, in format {self.name!r}")
        if self.group < 0:
            raise InputError(f"group must be at least 0, not {self.group}, in format {self.name!r}")

    @property
    def overhead_bits_per_group(self) -> int:
        """Bits of scale and zero point stored with each group."""
        return SCALE_BITS[self.scale] + ZERO_BITS[self.zero]

    def groups(self, k: int) -> int:
        """Number of groups in a row of ``k`` codes; a group that does not divide ``k`` is an error."""
        if self.group == 0:
            return 1
        if k % self.group:
            raise InputError(f"group must divide K: {self.group} does not divide {k} in format {self.name!r}")
        return k // self.group

    def row_bits(self, k: int) -> int:
        """Stored bits of a row of ``k`` codes, scales and zero points included."""
        return k * self.bits + self.groups(k) * self.overhead_bits_per_group

    def code_range(self) -> tuple[int, int]:
        """Smallest and largest value of ``code - offset``."""
        low, high = (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) if self.signed else (0, (1 << self.bits) - 1)
        return low - self.offset, high - self.offset


def _table(*formats: Format) -> dict[str, Format]:
    return {item.name: item for item in formats}


# Group, scale and offset of the Q types: GGUF block layouts (ggml), 32 codes a block.
FORMATS: dict[str, Format] = _table(
    Format(name="f32", bits=32, kind="float"),
    Format(name="f16", bits=16, kind="float"),
    Format(name="q4_0", bits=4, signed=False, offset=8, group=32, scale="f16"),
    Format(name="q4_1", bits=4, signed=False, group=32, scale="f16", zero="f16-min"),
    Format(name="q8_0", bits=8, group=32, scale="f16"),
    Format(name="int8", bits=8, scale="f16"),
    Format(name="int8-g32", bits=8, group=32, scale="f16"),
    Format(name="uint4-g128-z4", bits=4, signed=False, group=128, scale="f16", zero="int4"),
    Format(name="uint4-asym", bits=4, signed=False, scale="f16", zero="f16-min"),
)


def format_named(name: str, where: str) -> Format:
    """The preset format ``name``; ``where`` names the place for the error message."""
    if name not in FORMATS:
        raise InputError(f"format must be one of {', '.join(FORMATS)}, not {name!r}, in {where}")
    return FORMATS[name]
