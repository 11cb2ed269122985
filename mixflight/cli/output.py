"""What every command does with its result: one JSON document, or a table for people, on stdout."""

import logging
import re
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
_GAP = 2
"""Between columns."""
_COLON = re.compile(r":(?=\S)")


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
    """Write a table for people on stdout; numbers are right-aligned, and nothing of it is cut.

    Text folds between words, and where even words side by side are too wide, each row is written as lines of its own;
    without ``fold`` a table that is wider than the terminal stays so.
    """
    console, given = Console(), [list(row) for row in rows]
    numeric = [all(isinstance(cell, int | float) or cell in NOT_A_NUMBER for cell in column)
               for column in zip(*given, strict=True)] or [True] * len(columns)  # fmt: skip
    names, cells = list(columns), [[_cell(value) for value in row] for row in given]
    widths: list[int | None] = [None] * len(names)
    if fold and sum(_natural_widths(names, cells)) > console.width:
        if sum(_least_widths(names, cells, numeric)) > console.width:
            names = ["\n".join(name.split()) for name in names]
            cells = [[_COLON.sub(":\n", cell) for cell in row] for row in cells]
        least = _least_widths(names, cells, numeric)
        if sum(least) > console.width:
            _print_records(console, title, columns, given)
            return
        widths = _shared(least, _natural_widths(names, cells), console.width)
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
                  collapse_padding=True)  # fmt: skip
    for name, number, width in zip(names, numeric, widths, strict=True):
        table.add_column(name, justify="right" if number else "left", no_wrap=number or not fold, overflow="fold",
                         width=width)  # fmt: skip
    for row in cells:
        table.add_row(*row)
    if not fold:
        natural = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
        console.width = max(console.width, natural)
    console.print(table)


def _least_widths(names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> list[int]:
    """Of each column with the gap beside it, so that numbers stay in a line and words stay whole."""
    found = []
    for index, name in enumerate(names):
        texts = [name, *(row[index] for row in cells)]
        parts = [part for text in texts for part in (text.splitlines() if numeric[index] else text.split())]
        found.append(_GAP + max(map(len, parts), default=0))
    return found


def _natural_widths(names: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """Of each column with the gap beside it, where nothing folds."""
    return [
        _GAP + max(len(line) for text in (name, *(row[index] for row in cells)) for line in text.split("\n"))
        for index, name in enumerate(names)
    ]


def _shared(least: Sequence[int], natural: Sequence[int], width: int) -> list[int | None]:
    """Widths of columns: at least ``least``, and what is left of ``width`` where ``natural`` is more, from the left."""
    left, found = width - sum(least), list[int | None]()
    for narrow, wide in zip(least, natural, strict=True):
        more = min(left, max(wide - narrow, 0))
        found.append(narrow - _GAP + more)
        left -= more
    return found


def _print_records(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Each row as its first cell, then a line for each of the others; an empty first cell is that of the row before."""
    console.print(title, style="bold", markup=False, highlight=False)
    width = max(map(len, columns[1:]), default=0)
    for row in rows:
        if row[0] not in NOT_A_NUMBER:
            console.print(" ".join(_cell(row[0]).split()), markup=False, highlight=False)
        for name, value in zip(columns[1:], row[1:], strict=True):
            console.print(f"  {name:<{width}}  {' '.join(_cell(value).split())}", markup=False, highlight=False)
    console.print()


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
