"""``mixflight report DIR``: one self-contained page of what a run found."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def report(
        folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of demo or of a sweep.")],
        output: Annotated[
            Path | None, typer.Option("-o", "--output", metavar="F.html", help="Default: DIR/report.html.")
        ] = None,
        svg: Annotated[
            Path | None, typer.Option("--figures", metavar="DIR", help="Write every figure there as an SVG file too.")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Write one page that needs no network and no other file.
        """
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json
        from mixflight.files import whole_file
        if (folder / "sweep.json").exists():
            figures = [] if svg is None else [write_study_figure(folder, svg)]
            path = write_sweep_page(folder, output or folder / "report.html")
            done = {"path": str(path), "figures": list(map(str, figures))}
            print_json(done, "report/1") if json else print(path)
            return
        from mixflight.reports.document import read_document
        from mixflight.reports.figures import FIGURES, standalone
        from mixflight.reports.page import render

        document = read_document(folder)
        path = output or folder / "report.html"
        written = {path: render(document)}
        if svg is not None:
            if not svg.is_dir():
                raise InputError(f"--figures must be a folder that exists, not {svg}")
            written |= {svg / f"{name}.svg": standalone(draw(document), name, document)
                        for name, draw in FIGURES.items()}  # fmt: skip
        for target, text in written.items():
            with whole_file(target) as part:
                part.write_text(text)
        if json:
            print_json({"path": str(path), "figures": [str(item) for item in written if item != path]},
                       "report/1")
        else:
            print(path)


def write_sweep_page(folder: Path, path: Path) -> Path:
    """Write the page of the finished sweep in ``folder``."""
    import msgspec

    from mixflight.files import whole_file
    from mixflight.reports.sweep_page import render_sweep
    from mixflight.sweeping.store import document_of, read_manifest

    text = render_sweep(document_of(folder), msgspec.to_builtins(read_manifest(folder)))
    with whole_file(path) as part:
        part.write_text(text)
    return path


def write_study_figure(folder: Path, into: Path) -> Path:
    """Write the figure of the finished sweep of a shipped study in ``folder``; other sweeps have none."""
    import msgspec

    from mixflight.arch.errors import InputError
    from mixflight.files import whole_file
    from mixflight.reports.study_figures import study_figure
    from mixflight.sweeping.space import space_named, studies
    from mixflight.sweeping.store import document_of, read_manifest, stored_rows

    space = read_manifest(folder).space
    plain = msgspec.structs.replace(space, finding="")
    name = next((name for name in studies() if msgspec.structs.replace(space_named(name), finding="") == plain), None)
    if name is None:
        raise InputError("--figures must come with the folder of a run or a shipped study: other sweeps have none")
    # Engine rows of a screened sweep are of its front alone.
    first = "engine" if space.fidelity == "engine" else "closed-form"
    rows = list(stored_rows(folder, first))
    text = study_figure(name, space_named(name).finding, rows, document_of(folder)["pareto"])
    if text is None:
        raise InputError(f"--figures must come with a study that has a figure, not {name}")
    path = into / f"study-{name}.svg"
    with whole_file(path) as part:
        part.write_text(text)
    return path
