"""Resources that synthesis of our own RTL found, with the hash of what was synthesised.

The rows are data in ``arch/synthesis/counts.toml``, written by ``python -m mixflight.rtl.record_synthesis``;
whoever needs areas reads them here without the RTL or a synthesis tool.
"""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

COUNTS = Path(__file__).with_name("synthesis") / "counts.toml"


class SynthesisCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One top with its parameters on one target.

    ``dsp_allowed``  whether multipliers could use DSP blocks
    ``bram``         in blocks of 36 Kib
    ``carry``        in units of 4 bits
    ``text_sha256``  of the Verilog that was synthesised
    """

    name: str
    top: str
    parameters: dict[str, int | str | bool]
    target: str
    dsp_allowed: bool
    lut: int
    ff: int
    dsp: int
    bram: float
    uram: int
    lutram: int
    carry: int
    muxf: int
    text_sha256: str
    script: str
    yosys: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rows: list[SynthesisCounts]


@functools.cache
def synthesis_counts() -> dict[str, SynthesisCounts]:
    """All recorded rows, by name."""
    file: _File = convert(read_toml(COUNTS), _File, COUNTS.name)
    return {row.name: row for row in file.rows}


def counts_named(name: str) -> SynthesisCounts:
    """The row ``name``."""
    rows = synthesis_counts()
    if name not in rows:
        raise InputError(f"synthesis counts must be one of {', '.join(rows)}, not {name!r}")
    return rows[name]
