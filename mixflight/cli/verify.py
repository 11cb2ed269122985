"""``mixflight verify [TOP...]``: emitted RTL against golden values and computed cycles."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mixflight.cli import rtl_options as option
from mixflight.cli.completion import tops as known_tops
from mixflight.cli.coverage import show_coverage


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def verify(
        tops: Annotated[
            list[str] | None, typer.Argument(metavar="[TOP]...", help="Default: every top.", autocompletion=known_tops)
        ] = None,
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
        model: Annotated[str, typer.Option("--model", help="Whose tiles are run: a fetched model.")] = "smollm2",
        real: Annotated[bool, typer.Option("--real/--no-real", help="Run tiles of the real model too.")] = True,
        coverage: Annotated[
            Path | None, typer.Option("--coverage", metavar="DIR", file_okay=False,
                                      help="Measure instead what random programs reach of a core."),
        ] = None,
        programs: Annotated[int, typer.Option("--programs", min=1, help="With --coverage: how many.")] = 80,
        on_rtl: Annotated[
            bool, typer.Option("--on-rtl/--no-rtl", help="With --coverage: run them on the Verilog, and count there.")
        ] = True,
        seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the random operands and stalls.")] = 0,
        json: option.Json = False,
    ) -> int:
        """Run emitted tops under Verilator: values must be exact, unstalled cycles as computed.

        A mixpe-array is verified with every kind of PE, or in the one configuration that the options choose; with
        4-bit codes and f16-min zero points it also runs tiles of the real model. Exit status 1 when a check failed.

        With --coverage it measures instead what random programs exercise of a core: instruction fields, functional
        bins, and lines, branches and signals of its Verilog (docs/coverage.md).
        """
        from mixflight.cli.output import note, print_json, print_table, progress
        from mixflight.rtl.tops import TOPS
        from mixflight.verification import Row, plan, real_source, verify_top

        if coverage is not None:
            return show_coverage(tops or [], arch, coverage, count=programs, rtl=on_rtl, json=json)
        names = tops or list(TOPS)
        given: dict[str, Any] = {"arch": arch, "rows": rows, "cols": cols, "lanes": lanes, "pe": pe, "zero": zero,
                                 "group_max": group_max, "two_pass": two_pass, "split": split,
                                 "dataflow": dataflow, "tokens": tokens, "length": length, "group": group,
                                 "ratios": ratios, "variant": variant, "select": select}
        chosen = [item for name in names for item in plan(name, **given)]
        results: list[Row] = []
        with progress() as bars:
            bar = bars.add_task("finding the model", total=len(chosen))
            path, absent = real_source(model) if real else (None, "not asked for")
            if absent and real:
                note(f"no real tiles: {absent}; random ones only")
            for item in chosen:
                bars.update(bar, description=f"verifying {item.top}")
                results.append(verify_top(item, model=path, seed=seed))
                bars.advance(bar)
        failures = sum(row.failures for row in results)
        if json:
            print_json({"rows": results, "failures": failures, "real_tiles": sum(row.real_tiles for row in results),
                        "real_tiles_absent_because": absent}, "verify/1")
        else:
            columns = ("top", "configuration", "tests", "failed", "values", "cycles RTL", "computed")
            print_table("RTL against golden", columns,
                        [(row.top, row.shown, row.tests, row.failures, row.values, row.cycles_rtl, row.cycles_sim)
                         for row in results])
            totals = ("real_tiles", "build_s", "run_s")
            tiles, built, ran = (sum(getattr(row, name) for row in results) for name in totals)
            print(f"{tiles} tiles of the real model; built in {built:.1f} s, run in {ran:.1f} s")
        for row in results:
            for message in row.messages:
                print(f"{row.top}: {message}", file=sys.stderr)
        return 1 if failures else 0
