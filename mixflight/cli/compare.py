"""``mixflight compare``: machines side by side."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import archs, gpus
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
            typer.Option("--arch", help="Preset[@TECHNOLOGY] or TOML file; may be repeated.", metavar="ARCH[:RECIPE]",
                         autocompletion=archs),
        ] = None,
        gpu: Annotated[
            list[str] | None,
            typer.Option("--gpu", help="Preset, at fp16 or w4a16g128; may be repeated.", metavar="GPU[:RECIPE]",
                         autocompletion=gpus),
        ] = None,
        prefill: PrefillOption = 128,
        decode: DecodeOption = 128,
        recipe: RecipeOption = None,
        batch: BatchOption = 1,
        batches: Annotated[
            str | None, typer.Option("--batches", help="Several batches, as 1,4,16,64.", metavar="B,B...")
        ] = None,
        figure: Annotated[
            Path | None, typer.Option("--figure", help="Energy per token against batch, as SVG.", metavar="F.svg")
        ] = None,
        costs: Annotated[
            Path | None,
            typer.Option("--costs", help="Prices as arch/costs.toml; then all must have one.", metavar="F.toml"),
        ] = None,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="Folder for mixflight report.", metavar="DIR")
        ] = None,
        mode: ModeOption = "corrected",
        json: JsonOption = False,
    ) -> None:
        """Machines and GPUs side by side on one model and scenario.
        """
        from mixflight.arch.costs import costs_of
        from mixflight.comparison import compare_machines, comparison_document, parse_batches

        if not arch and not gpu:
            raise InputError("at least one --arch or --gpu must be given")
        if batches is not None and batch != 1:
            raise InputError(f"--batches must come without --batch, not with {batch}")
        if figure is not None and batches is None:
            raise InputError("--figure must come with --batches: it shows energy against the batch")
        if output is not None:
            from mixflight.comparison_folder import check_folder, write_folder

            if batches is not None:
                raise InputError("-o must come without --batches: a page has one batch")
            check_folder(output, arch or (), gpu or (), model, recipe)
        priced = costs_of(str(costs) if costs else None)
        for name in [item.partition(":")[0] for item in [*(arch or ()), *(gpu or ())]] if costs else ():
            priced.price_of(name)
        found = compare_machines(
            arch or (), gpu or (), model, prefill, decode, recipe=recipe, mode=mode,
            batches=parse_batches(batches) if batches else (batch,),
        )  # fmt: skip
        document = comparison_document(found, priced, strict=costs is not None)
        if figure is not None:
            from mixflight.files import whole_file
            from mixflight.reports.batch_figure import batch_figure

            with whole_file(figure) as part:
                part.write_text(batch_figure(found.all))
        if output is not None:
            write_folder(output, arch or (), found, model, recipe)
        if json:
            print_json({**document, "folder": str(output) if output is not None else None}, "compare/1")
            return
        _tables(document, found.all)
        if output is not None:
            print(output)


def _tables(document: dict, results: list) -> None:  # type: ignore[type-arg]
    from mixflight.results import COMPARE_COLUMNS, ENERGY_COLUMNS, compare_rows, energy_rows, scenario_title

    print_table(scenario_title(results), COMPARE_COLUMNS, compare_rows(results))
    print_table("decode: energy by component", ENERGY_COLUMNS, energy_rows(results))
    priced = [row for row in document["rows"] if row["usd_per_million_tokens"] is not None]
    if priced:
        keys = ("usd_per_million_tokens", "usd_per_million_tokens_low", "usd_per_million_tokens_high")
        print_table(
            "decode: $ per million tokens, by stated prices (arch/costs.toml)",
            ("machine", "batch", "$", "low", "high"),
            [(f"{row['name']}:{row['recipe']}", row["batch"], *(row[key] for key in keys)) for row in priced],
        )  # fmt: skip
    bare = list(dict.fromkeys(row["name"] for row in document["rows"] if row["usd_per_million_tokens"] is None))
    if priced and bare:
        print(f"without a stated price, and so without a cost: {', '.join(bare)}")
    if document["claims"]:
        print_table(
            "FlightLLM's claims: from its own published numbers, and corrected: of the simulated machines",
            ("claim", "mode", "published", "ours", "how"),
            [(row.id, row.mode, row.published, row.ours, row.note) for row in document["claims"]],
        )  # fmt: skip
    if document["advantages"]:
        print_table(
            "how many times as good as the GPU (tokens/s, tokens/J, tokens/$)",
            ("machine", "GPU", "batch", "speed", "energy", "energy band", "cost"),
            [
                (item.machine, item.gpu, item.batch, item.speed, item.energy,
                 f"{item.energy_low:.3g} - {item.energy_high:.3g}", item.cost)
                for item in document["advantages"]
            ],
        )  # fmt: skip
    if len({row["energy_scope"] for row in document["rows"]}) > 1:
        scopes = {f"{row['name']}: {row['energy_scope']}": None for row in document["rows"]}
        print("energy covers different things. " + "; ".join(scopes))
    for item in results:
        if item.groups > 1:
            print(f"{item.accelerator} runs a batch of {item.batch} in {item.groups} groups, one after another")
    for item in document["refused"]:
        print(f"not run: {item.name} at a batch of {item.batch}: {item.reason}")
