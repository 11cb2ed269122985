"""``mixflight power``: power of FPGA boards by part, and how far it is from what was published."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def power(
        validate: Annotated[
            bool, typer.Option("--validate", help="Every published board, and the error on it.")
        ] = False,
        board: Annotated[
            Path | None, typer.Option("--board", help="TOML file of boards, as sim/fpga_boards.toml.", metavar="F.toml")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Watts of FPGA boards that decode an LLM, by part, beside what was published.
        """
        from mixflight.sim.fpga_power import boards, mean_error, power_of, validated

        if validate == (board is not None):
            raise InputError("power must have one of --validate and --board F.toml")
        found = validated() if board is None else tuple(power_of(item) for item in boards(board))
        if json:
            rows = [
                {
                    "name": item.board.name, "device": item.board.device, "scope": item.board.scope,
                    "calibrates": item.board.calibrates, "published_w": item.board.watts, "power_w": item.watts,
                    "power_w_low": item.watts_low, "power_w_high": item.watts_high, "rel_error": item.error,
                    "in_band": item.in_band, "parts_w": item.parts, "source": item.board.source,
                    "luts_basis": item.board.luts_basis,
                }
                for item in found
            ]  # fmt: skip
            print_json({"rows": rows} | ({"mean_error": mean_error(found)} if validate else {}), "power/1")
            return
        print_table(
            "FPGA power", ("board", "of the", "published W", "model W", "band W", "error %", "used"),
            [
                (item.board.name, item.board.scope, item.board.watts, round(item.watts, 1),
                 f"{item.watts_low:.1f} - {item.watts_high:.1f}", round(100 * item.error),
                 "to calibrate" if item.board.calibrates else "to check")
                for item in found
            ],
        )  # fmt: skip
        if validate:
            print(f"mean error of the boards that did not calibrate: {100 * mean_error(found):.0f} %")
