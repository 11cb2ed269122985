"""What every command does with its result: one JSON document, or a table for people, on stdout."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

LOG = logging.getLogger("mixflight")

NOT_A_NUMBER = (None, "", "-")
"""Cells that may stand in a column of numbers without making it one of text."""

_WIDEST = 10_000


def print_json(document: Any, schema: str | None = None) -> None:
    """Write ``document`` as one JSON document on stdout, and nothing else.

    ``schema`` is the name and version of its form in ``mixflight.documents``: its first key, where one is promised.
    """
    text = msgspec.json.encode(document) if schema is None else encoded(document, schema)
    print(msgspec.json.format(text, indent=2).decode())


def encoded(document: Any, schema: str) -> bytes:
    """``document`` as JSON, ``schema`` its first key."""
    keys = msgspec.json.decode(msgspec.json.encode(document), type=dict[str, msgspec.Raw])
    return msgspec.json.encode({"schema": schema, **keys})


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], fold: bool = True) -> None:
    """Write a table for people on stdout; numbers are right-aligned. Text folds where it must; without ``fold`` a table
    that is wider than the terminal stays so, and nothing of it is cut."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    materialised = [list(row) for row in rows]
    for index, name in enumerate(columns):
        numeric = all(isinstance(row[index], int | float) or row[index] in NOT_A_NUMBER for row in materialised)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=numeric or not fold, overflow="fold")
    for row in materialised:
        table.add_row(*(_cell(value) for value in row))
    console = Console()
    if not fold:
        natural = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
        console.width = max(console.width, natural)
    console.print(table)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)


def note(text: str) -> None:
    """A remark for people on stderr, which ``--quiet`` silences."""
    LOG.warning(text)


def quiet() -> bool:
    """Whether only results and errors are wanted."""
    return not LOG.isEnabledFor(logging.WARNING)


def progress() -> Progress:
    """Progress bars on stderr, gone when done; none when stderr is no terminal, or with ``--quiet``."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=quiet() or not console.is_terminal,
    )  # fmt: skip
