"""``mixflight recipes --check``: what is reported of each preset beside what its expanded trace says."""

from collections import Counter

import msgspec
import typer

from mixflight.cli.output import print_json, print_table
from mixflight.workloads.recipe import Recipe, recipe_named, recipes
from mixflight.workloads.recipe_checks import CheckRow, identical, rows_of


def check_recipes(names: list[str], json: bool) -> None:
    """Check the presets ``names`` (none: all), print rows and identical traces; exit status 1 if a check fails."""
    wanted: list[Recipe] = [recipe_named(name) for name in names] or list(recipes().values())
    rows = [row for recipe in wanted for row in rows_of(recipe)]
    same = identical(wanted)
    unchecked = [recipe.name for recipe in wanted if recipe.id and not recipe.check]
    if json:
        print_json({
            "rows": [msgspec.to_builtins(row) for row in rows], "identical": same, "unchecked": unchecked,
            "recipes": [{"id": recipe.id, "name": recipe.name, "family": recipe.family} for recipe in wanted],
        }, "recipe-checks/1")  # fmt: skip
    else:
        _print(rows, same, unchecked)
    if any(row.status == "fail" for row in rows):
        raise typer.Exit(1)


def _print(rows: list[CheckRow], same: list[list[str]], unchecked: list[str]) -> None:
    signs = {"equal": "", "at_most": "≤ ", "at_least": "≥ "}
    print_table(
        "recipe checks", ("id", "recipe", "quantity", "reported", "ours", "deviation", "status"),
        [(row.id, row.recipe, row.quantity, f"{signs[row.bound]}{row.reported:.6g}", f"{row.ours:.6g}",
          f"{row.deviation:+.2%}", row.status) for row in rows],
    )  # fmt: skip
    counts = Counter(row.status for row in rows)
    typer.echo(", ".join(f"{counts[status]} {status}" for status in ("pass", "fail", "recall-shown")))
    for names in same:
        typer.echo(f"identical traces: {', '.join(names)}")
    if unchecked:
        typer.echo(f"nothing to check: {', '.join(unchecked)}")
