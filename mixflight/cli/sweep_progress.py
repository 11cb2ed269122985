"""The live table of a sweep on stderr; nothing where stderr is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from mixflight.cli.sweep import SHOWN, heading, varied_columns
from mixflight.sweeping.run import OnProgress, Progress
from mixflight.sweeping.space import Space


@contextmanager
def live(space: Space) -> Iterator[OnProgress | None]:
    """A function that shows each progress it is given, gone when the block ends; None where nobody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Live(console=console, transient=True, auto_refresh=False) as shown:
        last = 0.0

        def show(progress: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > 0.1 or progress.done >= progress.total:
                tables = (progress_table(space, progress), front_table(space, progress))
                shown.update(Group(*filter(None, tables)), refresh=True)
                last = now

        yield show


def progress_table(space: Space, progress: Progress) -> Table:
    """One line: tier, points done, rate, time left, failures, what may be on the front, the best of each objective."""
    table = Table(title=space.summary, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("tier", "points done", "points/s", "left", "excluded", "failed", "may be on the front"):
        table.add_column(name, justify="left" if name == "tier" else "right")
    for name in progress.best:
        table.add_column(f"best {heading(name)}".replace("\n", " "), justify="right")
    rate = progress.points_per_s
    left = (progress.total - progress.done) / rate if rate else 0.0
    table.add_row(
        progress.stage, f"{progress.done:,} of {progress.total:,}", f"{rate:,.0f}", f"{left:,.0f} s",
        f"{progress.excluded:,}", f"{progress.failed:,}", f"{progress.front:,}",
        *(f"{value:,.4g}" if value < 1000 else f"{value:,.0f}" for value in progress.best.values()),
    )  # fmt: skip
    return table


def front_table(space: Space, progress: Progress) -> Table | None:
    """The front so far, its first points: what differs between them, and their objectives; None before there is one."""
    rows = progress.leading
    if not rows:
        return None
    cut = f", {SHOWN} shown" if len(rows) > SHOWN else ""
    title = f"the front so far: {len(rows):,} point{'s' * (len(rows) > 1)}{cut}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    names = [*varied_columns(space, rows), *space.objectives]
    for name in names:
        table.add_column(heading(name), justify="right", overflow="fold")
    for row in rows[:SHOWN]:
        table.add_row(*(f"{row[name]:,.4g}" if isinstance(row[name], float) else str(row[name]) for name in names))
    return table
