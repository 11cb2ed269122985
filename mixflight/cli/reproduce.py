"""``mixflight reproduce``: published numbers beside ours."""

from typing import Annotated

import typer

from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def reproduce(
        what: Annotated[str, typer.Argument(help="The study: mixpe.", metavar="WHAT")],
        mode: Annotated[
            str, typer.Option("--mode", help="published: the study's own model and assumptions.", metavar="MODE")
        ] = "published",
        json: JsonOption = False,
    ) -> None:
        """Published numbers beside ours, with the difference and whether it is within rounding or tolerance.

        Example: mixflight reproduce mixpe --mode published
        """
        from mixflight.reproduce import reproduce as study_rows

        rows = study_rows(what, mode)
        if json:
            print_json({"study": what, "mode": mode, "rows": rows})
            return
        print_table(
            f"{what}, {mode}", ("row", "published", "ours", "error %", "within"),
            [
                (
                    row.id, "-" if row.published is None else row.published, "-" if row.ours is None else row.ours,
                    "-" if row.rel_error is None else f"{100 * row.rel_error:+.2f}",
                    {None: "-", True: "yes", False: "no"}[row.within],
                )
                for row in rows
            ],
        )  # fmt: skip
        compared = [row for row in rows if row.within is not None]
        print(f"{sum(bool(row.within) for row in compared)} of {len(compared)} compared rows are within.")
        for note in dict.fromkeys(row.note for row in rows if row.note):
            print(f"* {note}")
