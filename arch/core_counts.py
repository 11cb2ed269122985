"""Resources that synthesis found for the parts of whole cores, with the hash of what was synthesised.

The rows are data in ``arch/synthesis/core.toml``, written by ``python -m mixflight.rtl.record_core``.
"""

import functools
from typing import Any

import msgspec

from mixflight.arch.strict_toml import convert, read_toml
from mixflight.arch.synthesis_counts import COUNTS as ARRAYS

COUNTS = ARRAYS.with_name("core.toml")


class CorePart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the core of a machine, or the ``whole``, on UltraScale+.

    ``bram``        in blocks of 36 Kib; ``carry`` in units of 4 bits
    ``lut_levels``  of its longest path: a part's ports taken for registers, the whole from register to register
    ``text_sha256`` of the Verilog that was synthesised
    """

    machine: str
    part: str
    lut: int
    ff: int
    dsp: int
    bram: float
    uram: int
    lutram: int
    carry: int
    muxf: int
    lut_levels: int
    text_sha256: str
    yosys: str

    def as_dict(self) -> dict[str, Any]:
        """The row as the file has it."""
        return {name: getattr(self, name) for name in self.__struct_fields__}


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rows: list[CorePart]


@functools.cache
def core_counts() -> dict[str, dict[str, CorePart]]:
    """Machine → part → its row."""
    file: _File = convert(read_toml(COUNTS), _File, COUNTS.name)
    found: dict[str, dict[str, CorePart]] = {}
    for row in file.rows:
        found.setdefault(row.machine, {})[row.part] = row
    return found
