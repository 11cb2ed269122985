"""``mixflight rtl TOP``: the accelerator as Verilog and as an FPGA project."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.cli import rtl_options as option


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def rtl(
        top: option.Top,
        output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")],
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
        part: Annotated[str | None, typer.Option("--part", help="FPGA part of the Vivado project.")] = None,
        json: option.Json = False,
    ) -> None:
        """Write Verilog, file list, FuseSoC core, Vivado project and manifest of a top."""
        from mixflight.cli.output import print_json, print_table
        from mixflight.rtl.design import choose_top
        from mixflight.rtl.project import DEFAULT_PART, write_project

        chosen = choose_top(top, arch=arch, rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero,
                            group_max=group_max, two_pass=two_pass, split=split, dataflow=dataflow, tokens=tokens,
                            length=length, group=group, ratios=ratios, variant=variant, select=select)
        project = write_project(chosen, output, part=part or DEFAULT_PART)
        ports = [{"name": port.name, "direction": port.direction, "width": port.width}
                 for port in project.design.ports]
        if json:
            print_json({
                "top": top, "module": chosen.module, "parameters": dict(chosen.parameters),
                "folder": str(output), "files": list(project.files), "ports": ports,
                "register_bits": project.design.register_bits, "memory_bits": project.design.memory_bits,
                "sha256": project.text_sha256,
            }, "rtl/1")
            return
        print_table(f"{top}: ports", ("name", "direction", "bits"), [tuple(port.values()) for port in ports])
        print_table(f"{top}: files in {output}", ("file", "bytes"),
                    [(name, (output / name).stat().st_size) for name in project.files])
        print(f"next: mixflight verify {top} with the same options; fusesoc --cores-root {output} run --target lint "
              f"mixflight:rtl:{chosen.module}")
