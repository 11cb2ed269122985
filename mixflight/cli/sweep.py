"""``mixflight sweep``: a design space, screened and re-evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixflight.cli.completion import studies
from mixflight.cli.options import JsonOption

if TYPE_CHECKING:
    from mixflight.sweeping.run import Outcome
    from mixflight.sweeping.space import Space


SHOWN = 6
"""Points of each front in the table; all are in the folder."""
_SHORT = {
    "tokens_per_s": "tokens/s", "prefill_tokens_per_s": "prefill_tokens/s", "tokens_per_joule": "tokens/J",
    "energy_mj_per_token": "mJ/token", "prefill_energy_mj_per_token": "prefill_mJ/token", "power_w": "W",
    "prefill_time_ms": "prefill_ms", "decode_time_ms": "decode_ms", "hbm_bytes_per_token": "bytes/token",
}  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def sweep(
        space: Annotated[str, typer.Argument(metavar="SPACE", help="A shipped study, or the TOML file of a space.",
                                               autocompletion=studies)],
        output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder for the results.")],
        jobs: Annotated[
            int | None, typer.Option("--jobs", metavar="N", help="Local processes; default: one a core.")
        ] = None,
        scheduler: Annotated[
            str | None, typer.Option("--scheduler", metavar="ADDRESS", help="A Dask scheduler in place of them.")
        ] = None,
        resume: Annotated[bool, typer.Option("--resume", help="Complete what was interrupted.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Run a grid of more points than the space's cap.")] = False,
        json: JsonOption = False,
    ) -> None:
        """Every point by a closed form, what may be on the front by the engine; how far they disagree, per point.
        """
        from mixflight.cli.output import print_json
        from mixflight.cli.sweep_progress import live
        from mixflight.sweeping.space import space_named
        from mixflight.sweeping.start import run_sweep

        asked = space_named(space)
        with live(asked) as show:
            outcome = run_sweep(asked, output, jobs, scheduler, resume=resume, yes=yes, on_progress=show)
        if json:
            print_json(outcome, "sweep/1")
        else:
            print_outcome(asked, outcome, output)


def print_outcome(space: "Space", outcome: "Outcome", folder: Path) -> None:
    """Each front as a table, then what was left out, how far the tiers are apart and what the study found."""
    print(f"{space.summary}\n{len(outcome.pareto):,} of {outcome.points:,} points on the front{'s' * bool(space.by)}")
    for group, items in _fronts(space, outcome).items():
        _print_front(space, group, items)
    left_out = sum(outcome.excluded.values())
    print(f"{outcome.evaluated:,} points measured, {left_out:,} left out by constraints, {outcome.failed:,} failed; "
          f"{outcome.engine_evaluated:,} by the engine")  # fmt: skip
    if outcome.fidelity == "screened":
        apart = outcome.largest_disagreement
        print(f"engine against closed form, at most: time {apart['time']:.2%}, energy {apart['energy']:.2%}")
    if outcome.finding:
        print(f"finding: {outcome.finding}")
    print(f"results: {folder} (mixflight report {folder})")


def _fronts(space: "Space", outcome: "Outcome") -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """The points of each front by the values of the space's ``by``."""
    from mixflight.sweeping.space import column

    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in outcome.pareto:
        found.setdefault(tuple(item[column(path)] for path in space.by), []).append(item)
    return found


def _print_front(space: "Space", group: tuple[Any, ...], items: list[dict[str, Any]]) -> None:
    """One front: the columns in which its points differ, their objectives, and what binds the decode."""
    from mixflight.cli.output import print_table

    names = [*varied_columns(space, items, space.by), *space.objectives, "bound_by"]
    rows = [tuple(_cell(item[name]) for name in names) for item in items[:SHOWN]]
    where = ", ".join(f"{path} {_cell(value)}" for path, value in zip(space.by, group, strict=True)) or "the front"
    cut = f", {SHOWN} shown" if len(items) > SHOWN else ""
    print_table(f"{where}: {len(items):,} point{'s' * (len(items) > 1)}{cut}", [heading(name) for name in names], rows,
                fold=False)  # fmt: skip


def varied_columns(space: "Space", items: Sequence[Mapping[str, Any]], but: Sequence[str] = ()) -> list[str]:
    """The columns of the space's axes, without those of ``but``, in which ``items`` differ."""
    from mixflight.sweeping.space import column

    names = [column(path) for path in space.values if path not in but]
    return [name for name in names if len({item[name] for item in items}) > 1]


def heading(name: str) -> str:
    """A column's name in lines short enough for a terminal."""
    return _SHORT.get(name, name.rpartition(".")[2]).replace("_", "\n")


def _cell(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
