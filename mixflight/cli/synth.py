"""``mixflight synth TOP``: what a top takes on an FPGA, through Yosys."""

from typing import Annotated, Any

import typer

from mixflight.cli import rtl_options as option


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def synth(
        top: option.Top,
        target: Annotated[str, typer.Option("--target", metavar="T", help="xcup (AMD UltraScale+)")] = "xcup",
        arch: option.Arch = None,
        rows: option.Rows = None,
        cols: option.Cols = None,
        lanes: option.Lanes = None,
        pe: option.Pe = None,
        zero: option.Zero = None,
        group_max: option.GroupMax = None,
        two_pass: option.TwoPass = None,
        dsp: Annotated[bool, typer.Option("--dsp/--no-dsp", help="Multipliers may use DSP blocks.")] = True,
        flatten: Annotated[bool, typer.Option("--flatten", help="Optimise across modules (slower).")] = False,
        json: option.Json = False,
    ) -> None:
        """Count LUTs, registers, DSPs and memory blocks of a top; results are cached by content."""
        from mixflight.cli.output import print_json, print_table, progress
        from mixflight.rtl.design import choose_top
        from mixflight.rtl.synthesis import check_target, synthesise

        check_target(target)
        chosen = choose_top(top, arch=arch, rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero,
                            group_max=group_max, two_pass=two_pass)
        with progress() as bars:
            bars.add_task(f"synthesising {top} for {target}", total=None)
            counts = synthesise(chosen.emit(), top=chosen.module, target=target, dsp=dsp, flatten=flatten)
        document: dict[str, Any] = {
            "top": top, "target": target, "parameters": dict(chosen.parameters),
            **{name: getattr(counts, name)
               for name in ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")},
            "energy_pj_per_mac": None,      # an FPGA count has no energy
            "sha256": counts.text_sha256, "tools": dict(counts.tools), "script": counts.script,
            "seconds": counts.seconds, "cells": dict(counts.cells),
            "modules": {name: dict(units) for name, units in counts.modules.items()},
        }
        if json:
            print_json(document)
            return
        units = ("instances", "lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")
        rows_ = [(name, *(own[unit] for unit in units)) for name, own in counts.modules.items()]
        rows_.append(("total", 1, *(document[unit] for unit in units[1:])))
        print_table(f"{top} on {target} (one instance of each module; mapped, not placed)",
                    ("module", *units), rows_)
