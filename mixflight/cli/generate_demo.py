"""What one sees of a generation on RTL while it goes on: the text, and what each token takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mixflight.arch.core import CoreMachine
from mixflight.generate_rtl import Listener, Logits
from mixflight.rtl_session import Moment, TokenRun

SHOWN = 6
"""Steps in the table: the last ones."""
BAR = 30


class Streamed(Listener):
    """Text as it comes, for pipes and files."""

    def text(self, piece: str) -> None:
        """On stdout."""
        print(piece, end="", flush=True)


class Demo(Listener):
    """What has been said and counted, as something to show."""

    def __init__(self, prompt: str) -> None:
        self.prompt, self.said = prompt, ""
        self.machine: CoreMachine | None = None
        self.layers = self.expected = 0
        self.steps: list[TokenRun] = []
        self.moment: Moment | None = None
        self.show: object = None

    def begins(self, machine: CoreMachine, layers: int, prompt_tokens: Sequence[int], wanted: int) -> None:
        """The machine, and how many steps at most."""
        self.machine, self.layers, self.expected = machine, layers, len(prompt_tokens) + wanted - 1

    def progress(self, moment: Moment) -> None:
        """The layer it is at."""
        self.moment = moment

    def stepped(self, run: TokenRun, logits: Logits | None) -> None:
        """One row more."""
        self.steps.append(run)
        self.moment = None

    def text(self, piece: str) -> None:
        """What was said so far."""
        self.said += piece

    def __rich__(self) -> Panel:
        """The text, a line of progress, a row a step."""
        machine = self.machine
        title = "compiling the core" if machine is None else (
            f"{machine.name}: {self.layers} layers on compiled Verilog")
        words = Text.assemble((self.prompt, "dim"), (self.said, "bold green"))
        parts: list[object] = [words, Text("")]
        if self.steps:
            parts.append(self._table())
        if self.moment is not None:
            parts.append(self._line(self.moment))
        return Panel(Group(*parts), title=title, title_align="left", box=box.ROUNDED)  # type: ignore[arg-type]

    def _line(self, moment: Moment) -> Text:
        done = min(1.0, moment.cycles / moment.engine_cycles)
        full = round(BAR * done)
        where = f"layer {moment.layer + 1}" if moment.layer < moment.layers else "head"
        return Text.assemble((f"token {moment.position + 1} of {self.expected}  ", ""), ("━" * full, "green"),
                             ("━" * (BAR - full), "dim"), (f"  {where}, {moment.cycles:,} cycles", ""))  # fmt: skip

    def _table(self) -> Table:
        assert self.machine is not None
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        clock = self.machine.clock_mhz
        shown = self.steps[-SHOWN:]
        recorded = [run.recorded for run in shown if run.recorded is not None]
        columns = ["token", "cycles", "engine's", f"tokens/s\nat {clock:.0f} MHz", "mJ", "MB\nread", "seconds"]
        if recorded:
            columns.insert(5, "mJ\nseen")
        for name in columns:
            table.add_column(name, justify="right")
        for run in shown:
            rate, first = run.tokens * clock * 1e6 / run.cycles, run.position + 1
            row = [str(first) if run.tokens == 1 else f"{first}–{first + run.tokens - 1}", f"{run.cycles:,}",
                   f"{run.engine_cycles:,.0f}", f"{rate:.0f}", f"{1e3 * run.energy_j:.1f}",
                   f"{run.read_bytes / 1e6:.1f}", f"{run.seconds:.1f}"]  # fmt: skip
            if recorded:
                row.insert(5, "" if run.recorded is None else f"{1e3 * run.recorded.energy_j:.1f}")
            table.add_row(*row)
        return table


@contextmanager
def watch(prompt: str, *, quiet: bool) -> Iterator[Listener]:
    """Who listens to a generation: a live view where stdout is a terminal, else its text; nothing where ``quiet``."""
    console = Console()
    if quiet or not console.is_terminal:
        yield Listener() if quiet else Streamed()
        return
    demo = Demo(prompt)
    with Live(demo, console=console, refresh_per_second=4):
        yield demo
