"""``mixflight synth TOP``: what a top takes on an FPGA or in the cells of a Liberty file, through Yosys."""

import time
from math import ceil
from typing import Annotated, Any

import typer

from mixflight.cli import rtl_options as option


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def synth(
        top: option.Top,
        target: Annotated[str, typer.Option("--target", metavar="T", help=(
            "xcup (AMD UltraScale+), ecp5, osu018 or any Liberty file FILE.lib"))] = "xcup",
        arch: option.Arch = None,
        rows: option.Rows = None,
        cols: option.Cols = None,
        lanes: option.Lanes = None,
        pe: option.Pe = None,
        zero: option.Zero = None,
        group_max: option.GroupMax = None,
        two_pass: option.TwoPass = None,
        split: option.Split = None,
        dataflow: option.Flow = None,
        tokens: option.Tokens = None,
        length: option.Length = None,
        group: option.Group = None,
        ratios: option.Ratios = None,
        variant: option.Variant = None,
        select: option.Select = None,
        dsp: Annotated[bool, typer.Option("--dsp/--no-dsp", help="Multipliers may use DSP blocks.")] = True,
        energy: Annotated[bool, typer.Option("--energy/--no-energy", help=(
            "With a Liberty file: simulate a PE's cells and price what toggles."))] = True,
        flatten: Annotated[bool, typer.Option("--flatten", help="Optimise across modules (slower).")] = False,
        json: option.Json = False,
    ) -> None:
        """LUTs, registers, DSPs and memory blocks of a top, or its area and delay; cached by content."""
        from mixflight.rtl.cell_synthesis import is_liberty
        from mixflight.rtl.design import CORES, choose_top
        from mixflight.rtl.synthesis import check_target

        cells = is_liberty(target)
        if not cells:
            check_target(target)
        chosen = choose_top(top, arch=arch, rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero,
                            group_max=group_max, two_pass=two_pass, split=split, dataflow=dataflow, tokens=tokens,
                            length=length, group=group, ratios=ratios, variant=variant, select=select)
        if cells:
            _cells(chosen, target, priced=energy, json=json)
        elif chosen.top in CORES and target == "xcup" and dsp and not flatten:
            _core(chosen, json=json)
        elif chosen.top in CORES and target == "ecp5" and dsp and not flatten:
            _placed_core(chosen, json=json)
        else:
            _modules(chosen, target, dsp=dsp, flatten=flatten, json=json)


_UNITS = ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")


def _modules(chosen: Any, target: str, *, dsp: bool, flatten: bool, json: bool) -> None:
    """A top on an FPGA, module by module."""
    from mixflight.cli.output import print_json, print_table, progress
    from mixflight.rtl.place_ecp5 import place_ecp5
    from mixflight.rtl.synthesis import synthesise

    fmax, fmax_basis = None, "nothing is placed on this target"
    with progress() as bars:
        bars.add_task(f"synthesising {chosen.top} for {target}", total=None)
        counts = synthesise(chosen.emit(), top=chosen.module, target=target, dsp=dsp, flatten=flatten)
        if target == "ecp5":
            placed = place_ecp5(chosen.emit(), top=chosen.module)
            fmax, fmax_basis = placed.fmax_mhz, f"{placed.tool} {placed.reason}".strip()
    document: dict[str, Any] = {
        "top": chosen.top, "target": target, "parameters": dict(chosen.parameters),
        **{unit: getattr(counts, unit) for unit in _UNITS},
        "area_um2": None, "delay_ns": None, "fmax_mhz": fmax, "fmax_basis": fmax_basis,
        "energy_pj_per_mac": None,      # an FPGA count has no energy
        "sha256": counts.text_sha256, "tools": dict(counts.tools), "script": counts.script,
        "seconds": counts.seconds, "cells": dict(counts.cells),
        "modules": {name: dict(units) for name, units in counts.modules.items()},
    }
    if json:
        print_json(document, "synth/1")
        return
    units = ("instances", *_UNITS)
    rows = [(name, *(own[unit] for unit in units)) for name, own in counts.modules.items()]
    rows.append(("total", 1, *(document[unit] for unit in _UNITS)))
    print_table(f"{chosen.top} on {target} (one instance of each module; mapped, not placed)", ("module", *units), rows)
    if target == "ecp5":
        print(f"Fmax {'not known' if fmax is None else f'{fmax} MHz'}: {fmax_basis}")


def _core(chosen: Any, *, json: bool) -> None:
    """A whole core, part by part: what a change left alone is not synthesised again."""
    from mixflight.cli.output import print_json, print_table, progress
    from mixflight.rtl.core_harness import core_text
    from mixflight.rtl.core_synthesis import synthesise_parts

    start = time.perf_counter()
    with progress() as bars:
        bar = bars.add_task(f"writing {chosen.top}", total=None)
        text = core_text(chosen.component)

        def advanced(module: str) -> None:
            bars.update(bar, description=f"synthesised {module}")

        found = synthesise_parts(text, top=chosen.module, advanced=advanced)
    parts = [{"part": part.module.removeprefix(f"{chosen.module}_"), **{unit: part.counts[unit] for unit in _UNITS},
              "lut_levels": part.longest.levels, "sha256": part.text_sha256} for part in found.parts]
    document: dict[str, Any] = {
        "top": chosen.top, "target": "xcup", "parameters": dict(chosen.parameters),
        **{unit: found.counts[unit] for unit in _UNITS},
        "area_um2": None, "delay_ns": None, "fmax_mhz": None, "fmax_basis": "nothing is placed on this target",
        "lut_levels": found.longest.levels, "longest_path": f"{found.longest.begins} to {found.longest.ends}",
        "parts": parts, "energy_pj_per_mac": None, "sha256": found.text_sha256, "tools": dict(found.tools),
        "script": found.script, "seconds": round(time.perf_counter() - start, 2), "cells": dict(found.cells),
        "modules": {name: dict(units) for name, units in found.modules.items()},
    }
    if json:
        print_json(document, "synth/1")
        return
    rows = [(part["part"], *(part[unit] for unit in _UNITS), part["lut_levels"]) for part in parts]
    rows.append(("whole", *(document[unit] for unit in _UNITS), document["lut_levels"]))
    print_table(f"{chosen.top} of {chosen.parameters['arch']} on xcup (mapped, not placed)",
                ("part", *_UNITS, "levels"), rows)
    print(f"longest path from register to register: {document['longest_path']}")


def _placed_core(chosen: Any, *, json: bool) -> None:
    """A whole core, placed and routed on the largest ECP5."""
    from mixflight.arch.errors import InputError
    from mixflight.cli.output import print_json, print_table, progress
    from mixflight.rtl.place_ecp5 import PACKAGE, place_large
    from mixflight.rtl.synthesis import digest_text, units_of

    start = time.perf_counter()
    with progress() as bars:
        bars.add_task(f"placing and routing {chosen.top} of {chosen.parameters['arch']}, which can take half an hour",
                      total=None)
        text = chosen.emit()
        for primitive in ("DSP48E2", "DSP58"):
            if f"  {primitive} " in text:
                raise InputError(f"a core on ecp5 must have products that the device has, such as mixpe-small's, "
                                 f"not the {primitive} of {chosen.parameters['arch']}")
        placed = place_large(text, top=chosen.module, crowded=True)
    counts, lut = units_of(placed.cells), "TRELLIS_COMB"
    basis = (f"{PACKAGE} {placed.tools[PACKAGE]}, LFE5UM-85F, speed grade 6, seed 1, between registers, placed and "
             f"routed, {placed.used[lut]:,} of {placed.available[lut]:,} LUTs of four inputs")
    document: dict[str, Any] = {
        "top": chosen.top, "target": "ecp5", "parameters": dict(chosen.parameters),
        **{unit: ceil(counts[unit]) for unit in _UNITS},
        "area_um2": None, "delay_ns": None, "fmax_mhz": placed.fmax_mhz, "fmax_basis": basis,
        "energy_pj_per_mac": None, "sha256": digest_text(text), "tools": dict(placed.tools), "script": placed.script,
        "seconds": round(time.perf_counter() - start, 2), "cells": dict(placed.cells), "modules": {},
    }
    if json:
        print_json(document, "synth/1")
        return
    rows = [(name, placed.used[name], placed.available[name]) for name in sorted(placed.used) if placed.used[name]]
    print_table(f"{chosen.top} of {chosen.parameters['arch']} on an ECP5", ("cell", "used", "there"), rows)
    print(f"Fmax {placed.fmax_mhz} MHz: {basis}")


def _cells(chosen: Any, target: str, *, priced: bool, json: bool) -> None:
    """Area, delay and energy in the cells of a library."""
    from mixflight.cli.output import print_json, print_table, progress
    from mixflight.rtl.cell_synthesis import AREA_UNIT, DELAY_BASIS, liberty_of, synthesise_cells

    with progress() as bars:
        bars.add_task(f"mapping {chosen.top} to {target}", total=None)
        text = chosen.emit()
        mapped = synthesise_cells(text, top=chosen.module, liberty=liberty_of(target))
        found: dict[str, Any] = {"energy_pj_per_mac": None, "energy_basis": "not asked for: --no-energy"}
        if priced:
            found = _energy(chosen, mapped)
    document: dict[str, Any] = {
        "top": chosen.top, "target": target, "parameters": dict(chosen.parameters),
        **dict.fromkeys(_UNITS),
        "area_um2": mapped.area_um2, "sequential_area_um2": mapped.sequential_area_um2, "area_unit": AREA_UNIT,
        "flip_flops": mapped.flip_flops, "delay_ns": round(mapped.delay_ns, 4), "delay_basis": DELAY_BASIS,
        "delay_ends_at": mapped.timing.ends_at, "overloaded_nets": mapped.overloaded, "fmax_mhz": None,
        **found,
        "library": {"name": mapped.library.name, "sha256": mapped.library.sha256,
                    "voltage_v": mapped.library.voltage_v, "temperature_c": mapped.library.temperature_c},
        "sha256": mapped.netlist.text_sha256, "tools": dict(mapped.netlist.tools), "script": mapped.script,
        "cells": dict(mapped.cells),
    }
    if json:
        print_json(document, "synth/1")
        return
    rows = [(name, number, number * mapped.library.cells[name].area) for name, number in mapped.cells.items()]
    rows.append(("total", sum(mapped.cells.values()), mapped.area_um2))
    print_table(f"{chosen.top} in {mapped.library.name} (mapped, not placed)", ("cell", "cells", "area um2"), rows)
    for name, values in found.get("energy", {}).items():
        print(f"{values['pj_per_mac']:.2f} pJ a MAC on {name} operands ({values['settled_pj_per_mac']:.2f} without "
              f"hazards): switching {values['switching']:.2f}, internal {values['internal']:.2f}, "
              f"clock {values['clock']:.2f}")
    print(f"energy: {found['energy_basis']}")
    print(f"longest path {mapped.delay_ns:.2f} ns: {DELAY_BASIS}")


def _energy(chosen: Any, mapped: Any) -> dict[str, Any]:
    """Keys of the document: energy per MAC and its components on every data set that can be had."""
    from mixflight.energy import ASSUMPTIONS, has_energy, measure
    from mixflight.verification import real_source

    if not has_energy(chosen):
        return {"energy_pj_per_mac": None, "energy_basis": f"{chosen.top} is no processing element"}
    path, absent = real_source("smollm2")
    rows = measure(chosen, mapped, path)
    first = next(iter(rows))
    basis = f"{first} operands; {ASSUMPTIONS}" + (f"; no real operands: {absent}" if absent else "")
    return {"energy_pj_per_mac": rows[first]["pj_per_mac"], "energy_basis": basis, "energy": rows}
