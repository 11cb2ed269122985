"""The tables of ``docs/flightllm-core-resources.md``, from the records in ``arch/synthesis`` and the paper's table.

    python -m mixflight.rtl.core_resources
"""

import argparse
import itertools
import tomllib
from collections.abc import Iterable, Sequence
from typing import Any

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreBuffers, CoreMachine
from mixflight.arch.core_counts import CorePart, core_counts
from mixflight.arch.flightllm_machine import flightllm_machine
from mixflight.arch.synthesis_counts import COUNTS

NAMES = {"mv": "matrix engine", "engine": "matrix engine", "memory": "memory side", "text": "reader of text",
         "products": "queues of products", "buffers": "buffers, of the memory side",
         "core": "whole"}
UNITS = ("lut", "ff", "bram", "uram", "dsp")
DEVICE_LUT4 = 83_640
"""LUTs of four inputs of an LFE5UM-85F (nextpnr's count of TRELLIS_COMB)."""


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(_shown(value) for value in row)} |" for row in rows)])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}".removesuffix(".0")
    return f"{value:,}" if isinstance(value, int) else str(value)


def parts_table(name: str) -> str:
    """The parts of the core of the machine ``name``."""
    rows = [(NAMES.get(part, part), row.lut, row.lutram, row.ff, row.bram, row.uram, row.dsp, row.carry, row.lut_levels)
            for part, row in core_counts()[name].items()]
    return _table(("part", "LUT", "of these memory", "FF", "BRAM36", "URAM", "DSP", "carry", "LUT levels"), rows)


def paper_table(name: str) -> str:
    """The core of ``name`` beside the paper's, a core's share of it scaled to this one's size.

    The matrix engine only where it is one of DSP chains; what moves data and instructions counts as controller. The
    buffers' share by what they hold, and by what their ports give, which is what blocks of little depth grow with.
    """
    paper, used = flightllm_machine("u280"), flightllm_machine("u280").utilisation
    large, small = accelerator_named("flightllm-u280"), accelerator_named(name)
    assert isinstance(large, CoreMachine)
    assert isinstance(small, CoreMachine)
    ours = core_counts()[name]
    buffers = _buffers(ours)
    kib, wide = ([of(machine.buffers) for machine in (small, large)] for of in (_kib, _bytes_per_cycle))
    ports, dsps = large.ports // large.cores, large.mpe_dsp // large.cores
    scales = [
        ("buffer", kib[0] / kib[1], f"{kib[0]:,} of {kib[1]:,} KiB"),
        ("buffer", wide[0] / wide[1], f"{wide[0]:,} of {wide[1]:,} bytes a cycle at the ports"),
        ("controller", small.ports / ports, f"{small.ports} of {ports} ports"),
        ("mpe", small.mpe_dsp / dsps, f"{small.mpe_dsp} of {dsps:,} DSPs"),
        ("sfu", small.sfu.elements_per_cycle / large.sfu.elements_per_cycle,
         f"{small.sfu.elements_per_cycle} of {large.sfu.elements_per_cycle} elements a cycle"),
    ]  # fmt: skip
    moving = [row for part, row in ours.items() if part in ("controller", "text", "memory", "products")]
    control = {unit: sum(getattr(row, unit) for row in moving) - buffers[unit] for unit in UNITS}
    mine = {"buffer": buffers, "controller": control, "mpe": _units(ours["mv"]), "sfu": _units(ours["sfu"])}
    rows: list[tuple[object, ...]] = []
    for part, shares in itertools.groupby((item for item in scales if item[1]), key=lambda item: item[0]):
        theirs = used[part]
        published = (theirs.lut, theirs.ff, theirs.bram36, theirs.uram, theirs.dsp)
        rows += [(f"{part}, paper: {why}", *(round(value / paper.cores * scale) for value in published))
                 for _, scale, why in shares]
        rows.append((f"{part}, here", *(mine[part][unit] for unit in UNITS)))
    return _table(("part", "LUT", "FF", "BRAM36", "URAM", "DSP"), rows)


def _kib(buffers: CoreBuffers) -> int:
    """What the buffers of a core hold, each once."""
    return sum(getattr(buffers, name).bytes for name in buffers.__struct_fields__) // 1024


def _bytes_per_cycle(buffers: CoreBuffers) -> int:
    """Of all their ports."""
    return sum(getattr(buffers, name).bytes_per_cycle for name in buffers.__struct_fields__)


def _units(row: CorePart) -> dict[str, float]:
    return {unit: getattr(row, unit) for unit in UNITS}


def _buffers(parts: dict[str, CorePart]) -> dict[str, float]:
    """What the memories of the memory side take with their ports; the rest of it moves data."""
    return _units(parts["buffers"])


def chain_table() -> str:
    """LUTs a DSP of the chain for each set of ratios and each way of choosing operands."""
    shown = [row for row in _rows("csd_chain.toml") if row["variant"] == "dsp48e2"]
    names = ["all six" if "," in row["ratios"] else row["ratios"] for row in shown]
    rows = [(name, row["select"], row["lut"], row["dsp"], f"{row['lut_per_dsp']:.2f}",
             f"{row['lut_per_dsp_without_srl']:.2f}") for name, row in zip(names, shown, strict=True)]  # fmt: skip
    return _table(("ratios", "index scheme", "LUT", "DSP", "LUT a DSP", "without skew"), rows)


def engine_table() -> str:
    """LUTs a DSP of whole matrix engines of DSP chains, lanes and all, and of the paper's; empty where none is there.
    """
    used, rows = flightllm_machine("u280").utilisation["mpe"], []
    for name, parts in core_counts().items():
        machine = accelerator_named(name)
        if isinstance(machine, CoreMachine) and machine.mpe_dsp:
            rows.append((f"`{name}`", parts["mv"].lut, parts["mv"].dsp, f"{parts['mv'].lut / parts['mv'].dsp:.1f}"))
    if not rows:
        return ""
    rows.append(("paper, three cores", used.lut, used.dsp, f"{used.lut / used.dsp:.1f}"))
    return _table(("engine of chains", "LUT", "DSP", "LUT a DSP"), rows)


def sizes_table() -> str:
    """Matrix engines of chains by size, each with the lanes that groups of 128 weights need at its full rate."""
    rows = [(row["products"], row["lanes"], row["lut"],
             *(row["lut_of"][part] for part in ("dots", "lanes")), row["lutram"], row["ff"], row["dsp"],
             f"{row['lut'] / row['dsp']:.1f}", f"{row['lut'] / row['products']:.1f}")
            for row in _rows("engine.toml")]  # fmt: skip
    return _table(("DSPs of chains", "lanes", "LUT", "of the chains", "of the lanes", "of all memory", "FF", "DSP",
                   "LUT a DSP", "LUT a DSP of chains"), rows)  # fmt: skip


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = tomllib.loads(COUNTS.with_name(name).read_text())["rows"]
    return rows


def ecp5_table() -> str:
    """Parts of the small core placed and routed on ECP5."""
    return _table(("part", "LUT4", "of the device", "FF", "MULT18", "EBR", "Fmax"), [
        (NAMES.get(row["name"], row["name"]), row["lut4"], f"{row['lut4'] / DEVICE_LUT4:.1%}", row["ff"], row["mult18"],
         row["ebr"], f"{row['fmax_mhz']:.1f} MHz") for row in _rows("core_ecp5.toml")])  # fmt: skip


def tables() -> list[str]:
    """All of them in the order of the page."""
    recorded = core_counts()
    found = [*map(parts_table, recorded), *map(paper_table, recorded), chain_table(), engine_table(), sizes_table(),
             ecp5_table()]
    return [table for table in found if table]


def main() -> None:
    """Print them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("\n\n".join(tables()))


if __name__ == "__main__":
    main()
