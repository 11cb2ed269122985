"""Write ``arch/synthesis/osu018.toml``: area, delay and energy of every PE in the cells of osu018.

    python -m mixflight.record_cells [NAME…]

With names only those rows are made again. A change of hardware or tool that changes a row is committed together
with the new row, and the commit message says why.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.cell_counts import CELL_COUNTS, cell_table
from mixflight.arch.errors import InputError
from mixflight.energy import ASSUMPTIONS, has_energy, macs_per_step, measure
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.cell_libraries import library_named, library_path
from mixflight.rtl.cell_synthesis import synthesise_cells
from mixflight.rtl.design import ChosenTop, choose_top
from mixflight.workloads.fetch import fetch_model, source_named

LIBRARY = "osu018"
MODEL = "smollm2"
WIDE_BITS = 32

_HEADER = """\
# Written by `python -m mixflight.record_cells`; do not edit.
# OSU standard cells, 0.18 um: not scaled to any other node. Energies in pJ a MAC.
"""


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A top whose row is recorded; with ``wide`` its accumulator has 32 bits."""

    top: str
    wide: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    def chosen(self) -> ChosenTop:
        """The top built."""
        if not self.wide:
            return choose_top(self.top, **self.given)
        group = next(1 << power for power in reversed(range(31))
                     if choose_top(self.top, group_max=1 << power, **self.given).component.sum_bits <= WIDE_BITS)
        return choose_top(self.top, group_max=group, **self.given)


INTEGER_PES = ("mixpe-w4a8-pe", "mixpe-w4a8-centred-pe", "mul4x8-pe", "int8-pe", "dequantise-pe", "fusible-pe",
               "mixpe-w4a16-aligned-pe", "mixpe-w4a8-dot-pe", "int8-dot-pe", "mixpe-w4a16-dot-pe")
TWO_PASS_PES = ("mixpe-w4a8-pe", "mixpe-w4a8-centred-pe", "mul4x8-pe")
"""As an array needs them whose cache and head have 8-bit codes; energies are of 4-bit codes all the same."""

PRESETS: Mapping[str, Preset] = {
    **{top: Preset(top=top) for top in INTEGER_PES},
    **{f"{top}-32": Preset(top=top, wide=True) for top in INTEGER_PES},
    **{top: Preset(top=top) for top in ("mixpe-w4a16-pe", "fp16-pe", "fp16-align")},
    **{f"{top}-two-pass": Preset(top=top, given={"two_pass": True}) for top in TWO_PASS_PES},
}
"""Name → what is mapped: with the least exact accumulator for groups of 128, and again with 32 bits; ``-two-pass``
takes 8-bit weights in two passes."""


def row(name: str, *, liberty: Path, model: Path | None, energies: bool = True) -> dict[str, Any]:
    """Map one preset, simulate it and return its row."""
    chosen = PRESETS[name].chosen()
    mapped = synthesise_cells(chosen.emit(), top=chosen.module, liberty=liberty)
    priced = energies and has_energy(chosen)
    return {
        "name": name, "top": chosen.top, "parameters": dict(chosen.parameters),
        "accumulator_bits": len(getattr(chosen.component, "sum", ())),
        "macs_per_step": macs_per_step(chosen), "area_um2": mapped.area_um2,
        "sequential_area_um2": mapped.sequential_area_um2, "cells": sum(mapped.cells.values()),
        "flip_flops": mapped.flip_flops, "delay_ns": round(mapped.delay_ns, 4),
        "overloaded_nets": mapped.overloaded, "text_sha256": mapped.netlist.text_sha256, "script": mapped.script,
        "yosys": mapped.netlist.tools["yosys"], "energy": measure(chosen, mapped, model) if priced else {},
    }


def shared() -> dict[str, Any]:
    """What all rows share."""
    library = library_named(LIBRARY)
    operands = f"{source_named(MODEL).sha256} {ASSUMPTIONS}"
    return {"library": library.name, "library_sha256": library.sha256, "nominal": library.nominal,
            "operands_sha256": hashlib.sha256(operands.encode()).hexdigest(), "assumptions": ASSUMPTIONS}


def as_toml(common: Mapping[str, Any], rows: list[dict[str, Any]]) -> str:
    """The file's text."""
    parts = [_HEADER + "".join(f"{key} = {_value(value)}\n" for key, value in common.items())]
    for values in rows:
        parts.append("[[rows]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in values.items()
                                            if key != "energy")
                     + "".join(f"energy.{name} = {_value(found)}\n" for name, found in values["energy"].items()))
    return "\n".join(parts)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0") + ("0" if value == int(value) else "")
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Make the rows and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows to make again; all of them without")
    names = parser.parse_args().names or list(PRESETS)
    for name in names:
        if name not in PRESETS:
            raise InputError(f"NAME must be one of {', '.join(PRESETS)}, not {name!r}")
    liberty, model = library_path(LIBRARY), fetch_model(MODEL)
    rows = {kept.name: msgspec.to_builtins(kept) for kept in (cell_table().rows if CELL_COUNTS.exists() else ())}
    for name in names:
        print(f"mapping and simulating {name}", file=sys.stderr)
        rows[name] = row(name, liberty=liberty, model=model)
        write_atomically(CELL_COUNTS, as_toml(shared(), [rows[each] for each in PRESETS if each in rows]))


if __name__ == "__main__":
    main()
