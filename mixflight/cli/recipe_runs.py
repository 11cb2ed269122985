"""``mixflight recipes --simulate``: every preset in its scenario on each machine."""

import os

import msgspec
import typer

from mixflight.cli.output import print_json, print_table
from mixflight.recipe_runs import ARCHS, PhaseRun, RecipeRun, presets_of_methods, run_recipes
from mixflight.workloads.recipe import recipe_named


def simulate_recipes(names: list[str], archs: list[str], json: bool) -> None:
    """Simulate the presets ``names`` (none: all of methods) on ``archs``; exit status 1 if a machine refuses one."""
    wanted = [recipe_named(name) for name in names] or presets_of_methods()
    rows = run_recipes(wanted, archs or ARCHS, jobs=os.cpu_count() or 1)
    if json:
        print_json({"rows": [msgspec.to_builtins(row) for row in rows]}, "recipe-runs/1")
    else:
        _print(rows)
    if any(row.refused for row in rows):
        raise typer.Exit(1)


def _print(rows: list[RecipeRun]) -> None:
    for arch in dict.fromkeys(row.arch for row in rows):
        print_table(
            f"{arch}: prefill and decode of each recipe's scenario",
            ("id", "recipe", "P s", "P GB", "P J", "D s", "D GB", "D J", "INT8"),
            [(row.id, row.recipe, *_cells(row.prefill), *_cells(row.decode), len(row.float_operands) or "")
             for row in rows if row.arch == arch and not row.refused],
        )  # fmt: skip
        for row in rows:
            if row.arch == arch and row.layers < row.model_layers:
                typer.echo(f"{row.recipe}: {row.layers} of the {row.model_layers} layers of {row.model} fit the memory")
            if row.arch == arch and row.width < 1:
                typer.echo(f"{row.recipe}: {row.model} in {row.width:g} of its width fits the memory")
            if row.arch == arch and row.refused:
                typer.echo(f"{row.recipe} refused: {row.refused}")
    typer.echo("P prefill, D decode, GB off-chip; INT8: operators that ran on INT8 in place of the recipe's floats")


def _cells(phase: PhaseRun | None) -> tuple[float | str, ...]:
    return (phase.time_ms / 1e3, phase.dram_bytes / 1e9, phase.energy_mj / 1e3) if phase else ("", "", "")
