"""``mixflight reproduce``: published numbers beside ours."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from mixflight.cli.completion import publications
from mixflight.cli.options import JsonOption
from mixflight.cli.output import print_json, print_table
from mixflight.sim.reproduction import Row


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def reproduce(
        what: Annotated[str, typer.Argument(help="The study; an unknown name lists them.", metavar="WHAT",
                                              autocompletion=publications)],
        mode: Annotated[
            str,
            typer.Option("--mode", help="published: the study's assumptions; corrected: equal ones.", metavar="MODE"),
        ] = "published",
        array: Annotated[
            str | None, typer.Option("--array", help="peers: rows and columns of the array.", metavar="32x32")
        ] = None,
        dram_bytes_per_cycle: Annotated[
            int | None, typer.Option("--dram-bytes-per-cycle", help="peers: DRAM bandwidth.", metavar="64")
        ] = None,
        buffer_kib: Annotated[
            int | None, typer.Option("--buffer-kib", help="peers: each of the three buffers.", metavar="128")
        ] = None,
        figures: Annotated[
            Path | None,
            typer.Option("--figures", help="mixpe, corrected: write the figures as SVG here.", metavar="DIR"),
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Published numbers beside ours, with the difference and whether it is within rounding or tolerance.
        """
        from mixflight.reproduce import reproduce as study_rows
        from mixflight.reproduce_mixpe import write_figures

        if figures is not None:
            write_figures(what, mode, figures)
        rows = study_rows(
            what, mode, array=array, dram_bytes_per_cycle=dram_bytes_per_cycle, buffer_kib=buffer_kib
        )
        if json:
            print_json({"study": what, "mode": mode, "rows": rows}, "reproduce/1")
            return
        families: dict[str, list[Row]] = {}
        for row in rows:
            families.setdefault(row.id.partition("/")[0], []).append(row)
        for family, members in families.items():
            _print_family(f"{what}, {mode}: {family}", members)
        compared = [row for row in rows if row.within is not None]
        print(f"{sum(bool(row.within) for row in compared)} of {len(compared)} compared rows are within.")


def _print_family(title: str, rows: list[Row]) -> None:
    names = [row.id.partition("/")[2] for row in rows]
    published, ours = _column(row.published for row in rows), _column(row.ours for row in rows)
    errors = ["" if row.rel_error is None else f"{100 * row.rel_error:+.2f}" for row in rows]
    within = [{None: "", True: "yes", False: "no"}[row.within] for row in rows]
    columns = ("row", "published", "ours", "error %", "ok")
    print_table(title, columns, zip(names, published, ours, errors, within, strict=True))
    by_note: dict[str, list[str]] = {}
    for name, row in zip(names, rows, strict=True):
        by_note.setdefault(row.note, []).append(name)
    for note, where in by_note.items():
        if note:
            print(f"* {where[0] + ': ' if len(where) == 1 else ''}{note}")
    print()


def _column(values: Iterable[float | None]) -> list[str]:
    texts = ["-" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}" for value in values]
    width = max(map(len, texts))
    return [text.rjust(width) for text in texts]
