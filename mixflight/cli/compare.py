"""``mixflight compare``: machines side by side."""

from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.options import (
    BatchOption,
    DecodeOption,
    JsonOption,
    ModelOption,
    ModeOption,
    PrefillOption,
    RecipeOption,
)
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def compare(
        model: ModelOption,
        arch: Annotated[
            list[str] | None,
            typer.Option("--arch", help="Preset or TOML file; may be repeated.", metavar="ARCH[:RECIPE]"),
        ] = None,
        gpu: Annotated[
            list[str] | None,
            typer.Option("--gpu", help="Preset, at fp16 or w4a16g128; may be repeated.", metavar="GPU[:RECIPE]"),
        ] = None,
        prefill: PrefillOption = 128,
        decode: DecodeOption = 128,
        recipe: RecipeOption = None,
        batch: BatchOption = 1,
        mode: ModeOption = "corrected",
        json: JsonOption = False,
    ) -> None:
        """Machines and GPUs side by side on one model and scenario.

        Example: mixflight compare --arch mixpe-w4a8 --arch mul4x8 --arch int8 --arch fp16 --model smollm2
        """
        from mixflight.machines import Machine, run, run_gpu
        from mixflight.results import COMPARE_COLUMNS, compare_rows, scenario_title, simulation_document

        if not arch and not gpu:
            raise InputError("at least one --arch or --gpu must be given")
        results = [run(Machine.parse(item, recipe), model, prefill, decode, batch, mode) for item in arch or ()]
        results += [run_gpu(item, model, prefill, decode, recipe, batch, mode) for item in gpu or ()]
        if json:
            print_json({"rows": [{"name": item.accelerator, **simulation_document(item)} for item in results]})
            return
        print_table(scenario_title(results), COMPARE_COLUMNS, compare_rows(results))
