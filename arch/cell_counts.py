"""Area, delay and energy per MAC of our PEs in the cells of a library, with the hash of what was mapped.

The rows are data in ``arch/synthesis/osu018.toml``, written by ``python -m mixflight.record_cells``; whoever
needs them reads them here without the RTL, the library or a synthesis tool.
"""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

CELL_COUNTS = Path(__file__).with_name("synthesis") / "osu018.toml"


class OperandEnergy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """pJ a MAC on one set of operands.

    ``settled_pj_per_mac``  without hazards, a lower bound; the parts below belong to ``pj_per_mac``
    ``sums_checked``        group sums of the mapped cells that were golden's, all of them
    """

    pj_per_mac: float
    settled_pj_per_mac: float
    switching: float
    internal: float
    clock: float
    leakage: float
    macs: int
    sums_checked: int


class CellCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One top with its parameters in one library, mapped and not placed.

    ``accumulator_bits``  of the PE's sum
    ``macs_per_step``     products that the PE adds a step; area is of the whole PE
    ``delay_ns``          longest path by the library's tables, without wires
    ``energy``            by operands: ``real``, ``random``, of INT8 PEs also ``real-codes``
    """

    name: str
    top: str
    parameters: dict[str, int | str | bool]
    accumulator_bits: int
    macs_per_step: int
    area_um2: float
    sequential_area_um2: float
    cells: int
    flip_flops: int
    delay_ns: float
    overloaded_nets: int
    text_sha256: str
    script: str
    yosys: str
    energy: dict[str, OperandEnergy] = {}

    @property
    def product(self) -> float:
        """Area times energy of a MAC on real operands, per MAC of a step, in um2 pJ."""
        if "real" not in self.energy:
            raise InputError(f"the product must be asked of a PE with energies, not of {self.name}")
        return self.area_um2 / self.macs_per_step * self.energy["real"].pj_per_mac


class CellTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows and what they share."""

    library: str
    library_sha256: str
    nominal: str
    operands_sha256: str
    assumptions: str
    rows: list[CellCounts]


@functools.cache
def cell_table() -> CellTable:
    """The recorded table."""
    table: CellTable = convert(read_toml(CELL_COUNTS), CellTable, CELL_COUNTS.name)
    return table


def cell_counts_named(name: str) -> CellCounts:
    """The row ``name``."""
    rows = {row.name: row for row in cell_table().rows}
    if name not in rows:
        raise InputError(f"cell counts must be one of {', '.join(rows)}, not {name!r}")
    return rows[name]
