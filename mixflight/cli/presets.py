"""``mixflight models``, ``archs``, ``recipes``: the presets, by the names that other commands take."""

from collections.abc import Iterable
from typing import Annotated, Protocol

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


class _Preset(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...


def register(app: typer.Typer) -> None:
    """Define the commands."""

    @app.command("models")
    def list_models(json: Json = False) -> None:
        """List the preset models."""
        from mixflight.workloads.model import models

        _list("models", models().values(), json)

    @app.command("archs")
    def list_archs(json: Json = False) -> None:
        """List the preset accelerators."""
        from mixflight.arch.accelerator import machines

        _list("accelerators", machines().values(), json)

    @app.command("recipes")
    def list_recipes(
        check: Annotated[bool, typer.Option("--check", help="Recompute what is reported of each recipe.")] = False,
        simulate: Annotated[bool, typer.Option("--simulate", help="Simulate each recipe in its scenario.")] = False,
        only: Annotated[list[str] | None, typer.Option("--only", help="Only this recipe (may repeat).")] = None,
        arch: Annotated[
            list[str] | None, typer.Option("--arch", help="Machine to simulate on (may repeat).", metavar="ARCH")
        ] = None,
        json: Json = False,
    ) -> None:
        """List the preset compression recipes, recompute what their publications report of them, or simulate them.

        With --check: exit status 1 if a recomputed value is beyond its tolerance. Values from memory are only shown.
        With --simulate: each in its own scenario, float operands of integer machines as INT8; exit status 1 if a
        machine refuses one.
        """
        from mixflight.arch.errors import InputError

        if check and simulate:
            raise InputError("--check and --simulate must not stand together")
        if arch and not simulate:
            raise InputError("--arch must stand with --simulate")
        if simulate:
            from mixflight.cli.recipe_runs import simulate_recipes

            simulate_recipes(only or [], arch or [], json)
            return
        if check:
            from mixflight.cli.recipe_checks import check_recipes

            check_recipes(only or [], json)
            return
        if only:
            raise InputError("--only must stand with --check or --simulate")
        from mixflight.published import published_recipes
        from mixflight.workloads.recipe import recipes

        _list("recipes", [*recipes().values(), *published_recipes()], json)


def _list(title: str, presets: Iterable[_Preset], json: bool) -> None:
    from mixflight.cli.output import print_json, print_table

    rows = [(preset.name, preset.summary) for preset in presets]
    if json:
        print_json({"rows": [{"name": name, "summary": summary} for name, summary in rows]}, "presets/1")
    else:
        print_table(title, ("name", "summary"), rows)
