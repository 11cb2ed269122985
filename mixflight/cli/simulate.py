"""``mixflight simulate``: one machine, one model, one scenario."""

from typing import Annotated

import typer

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
    def simulate(
        arch: Annotated[str, typer.Option("--arch", help="Preset or TOML file.", metavar="ARCH[:RECIPE]")],
        model: ModelOption,
        prefill: PrefillOption,
        decode: DecodeOption,
        recipe: RecipeOption = None,
        batch: BatchOption = 1,
        mode: ModeOption = "corrected",
        json: JsonOption = False,
    ) -> None:
        """Time and energy of a prefill and a decode, and what bound them.

        Example: mixflight simulate --arch mixpe-w4a8 --model llama2-7b --recipe w4a8g128 --prefill 128 --decode 128
        """
        from mixflight.machines import Machine, run
        from mixflight.results import COMPARE_COLUMNS, compare_rows, scenario_title, simulation_document

        result = run(Machine.parse(arch, recipe), model, prefill, decode, batch, mode)
        if json:
            print_json(simulation_document(result))
            return
        print_table(scenario_title([result]), COMPARE_COLUMNS, compare_rows([result]))
        for name, phase in (("prefill", result.prefill), ("decode", result.decode)):
            total = sum(item.cycles for item in phase.operators)
            largest = sorted(phase.operators, key=lambda item: -item.cycles)[:8]
            print_table(
                f"{name}: where the time goes", ("operator", "time %", "bound by", "MACs used %"),
                [(o.operator, 100 * o.cycles / total, o.bound_by, 100 * o.utilisation) for o in largest],
            )  # fmt: skip
