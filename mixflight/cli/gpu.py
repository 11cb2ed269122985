"""``mixflight gpu``: the GPUs, and the errors of their model."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def gpu(
        validate: Annotated[
            bool, typer.Option("--validate", help="Fit to the measurements; errors by slice, held-back ones too.")
        ] = False,
        data: Annotated[
            Path | None,
            typer.Option("--data", help="Folder of GPU.csv files of reports/gpu/measure.py.", metavar="FOLDER"),
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """GPUs, and how far the analytical model of them is from measured and published figures.
        """
        from mixflight.arch.gpu import gpus
        from mixflight.sim.gpu.measured import packaged_points, read_folder
        from mixflight.sim.gpu.validate import GOAL_ENERGY, GOAL_TIME, percent_row, validated

        if not validate:
            if data is not None:
                raise InputError(f"--data must come with --validate, and {data} came without")
            rows = [{"name": item.name, "summary": item.summary} for item in gpus().values()]
            if json:
                print_json({"rows": rows}, "presets/1")
                return
            print_table("GPUs", ("name", "what it is"), [tuple(row.values()) for row in rows])
            return
        points = packaged_points() if data is None else read_folder(data)
        found = list(validated(points))
        if json:
            print_json({"goal_mape_time": GOAL_TIME, "goal_mape_energy": GOAL_ENERGY, "rows": found},
                           "gpu-validation/1")
            return
        print_table(
            f"GPU model: errors in %, mean and largest; goal {100 * GOAL_TIME:g} time, {100 * GOAL_ENERGY:g} energy",
            ("slice", "kind", "n", "time", "max", "energy", "max", "goal"),
            map(percent_row, found),
        )
