"""``mixflight report DIR``: one self-contained page of what a run found."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def report(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of demo, compare or sweep.")],
        output: Annotated[
            Path | None, typer.Option("-o", "--output", metavar="F.html", help="Default: DIR/report.html.")
        ] = None,
        figures_in: Annotated[
            Path | None, typer.Option("--figures", metavar="DIR", help="Write every figure there: SVG, PNG and CSV.")
        ] = None,
        gpu: Annotated[
            list[str] | None,
            typer.Option("--gpu", metavar="GPU[:RECIPE]", help="Put it beside a run's machines; may be repeated."),
        ] = None,
        sweep: Annotated[
            Path | None, typer.Option("--sweep", metavar="DIR", help="Show this sweep's front on a run's page.")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Write one page that needs no network and no other file."""
        from mixflight.cli.output import print_json
        from mixflight.reporting import report as page_of

        page = page_of(folder, gpus=gpu or (), sweep=sweep)
        figures = []
        if figures_in is not None:
            figures = [*page.save_figures(figures_in), *write_study_figure(folder, figures_in)]
        path = page.save(output or folder / "report.html")
        if json:
            print_json({"path": str(path), "figures": [str(item) for item in figures]}, "report/1")
        else:
            print(path)


def write_study_figure(folder: Path, into: Path) -> list[Path]:
    """Write the figure of the finished sweep of a shipped study in ``folder``, if that is what it has."""
    if not (folder / "sweep.json").exists():
        return []
    import msgspec

    from mixflight.files import whole_file
    from mixflight.reports.study_figures import study_figure
    from mixflight.sweeping.space import space_named, studies
    from mixflight.sweeping.store import document_of, read_manifest, stored_rows

    space = read_manifest(folder).space
    plain = msgspec.structs.replace(space, finding="")
    name = next((name for name in studies() if msgspec.structs.replace(space_named(name), finding="") == plain), None)
    if name is None:
        return []
    # Engine rows of a screened sweep are of its front alone.
    first = "engine" if space.fidelity == "engine" else "closed-form"
    rows = list(stored_rows(folder, first))
    text = study_figure(name, space_named(name).finding, rows, document_of(folder)["pareto"])
    if text is None:
        return []
    path = into / f"study-{name}.svg"
    with whole_file(path) as part:
        part.write_text(text)
    return [path]
