"""The live table of a sweep on stderr; nothing where stderr is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from mixflight.cli.sweep import heading
from mixflight.sweeping.run import OnProgress, Progress
from mixflight.sweeping.space import Space


@contextmanager
def live(space: Space) -> Iterator[OnProgress]:
    """A function that shows each progress it is given, gone when the block ends."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Live(console=console, transient=True, auto_refresh=False) as shown:
        last = 0.0

        def show(progress: Progress) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > 0.1 or progress.done >= progress.total:
                shown.update(progress_table(space, progress), refresh=True)
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
