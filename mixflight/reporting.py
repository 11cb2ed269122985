"""The page of a folder of results, for a file, for figures as files, and for a notebook."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.reports.document import Document


class Report:
    """A page that needs no network and no other file; the last expression of a notebook's cell shows it."""

    def __init__(self, text: str, figures: Callable[[], dict[str, bytes]] = dict) -> None:
        self.html = text
        self.figures = figures
        """Gives every figure as SVG, PNG and CSV, by the file's name."""

    def save(self, path: str | Path) -> Path:
        """Write the page to ``path``."""
        with whole_file(Path(path)) as part:
            part.write_text(self.html)
        return Path(path)

    def save_figures(self, folder: str | Path) -> list[Path]:
        """Write every figure into ``folder``, which is made where it is not there, as SVG, PNG and CSV."""
        into = Path(folder)
        try:
            into.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--figures must be a writable folder, not {into}: {error.strerror}") from None
        written = []
        for name, data in self.figures().items():
            with whole_file(into / name) as part:
                part.write_bytes(data)
            written.append(into / name)
        return written

    def _repr_html_(self) -> str:
        page = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:42em;border:0" title="mixflight report"></iframe>'


def report(folder: str | Path, *, gpus: Sequence[str] = (), sweep: str | Path | None = None) -> Report:
    """The page of what ``mixflight demo``, ``compare -o`` or a sweep left in ``folder``, or InputError for any other.

    ``gpus`` (``GPU[:RECIPE]``) and ``sweep`` (the folder of a finished sweep) join the page of a run, in place of those
    that it has. ``html`` is its text, ``save(path)`` writes it, ``save_figures(folder)`` writes every figure as SVG,
    PNG and CSV. In a notebook it is shown as it is.
    """
    folder = Path(folder)
    if (folder / "sweep.json").exists():
        if gpus or sweep is not None:
            raise InputError(f"GPUs and a sweep must join the folder of a run, not that of a sweep: {folder}")
        return _of_sweep(folder)
    from mixflight.reports.document import read_document
    from mixflight.reports.page import render

    document = read_document(folder)
    if gpus or sweep is not None:
        from mixflight.report_parts import joined

        document = joined(document, gpus, None if sweep is None else Path(sweep))
    return Report(render(document), lambda: figure_files(document))


def _of_sweep(folder: Path) -> Report:
    import msgspec

    from mixflight.report_parts import column_source, sweep_document
    from mixflight.reports import provenance
    from mixflight.reports.figure_list import front_of
    from mixflight.reports.page import drawn
    from mixflight.reports.sweep_page import render_sweep
    from mixflight.sweeping.store import document_of, read_manifest

    outcome, manifest = document_of(folder), msgspec.to_builtins(read_manifest(folder))
    swept = sweep_document(outcome, manifest)
    columns = outcome["pareto"][0] if outcome["pareto"] else ()
    sources = {name: column_source(name, manifest) for name in columns}

    def files() -> dict[str, bytes]:
        kinds = drawn(front_of(swept), swept.summary, swept.finding or swept.summary)[1]
        return {f"sweep-front.{kind}": data for kind, data in kinds.items()}

    return Report(render_sweep(outcome, manifest, sources, provenance.front(swept)), files)


def figure_files(document: Document) -> dict[str, bytes]:
    """Every figure of ``document`` as SVG, PNG and CSV, by the file's name."""
    from mixflight.reports.figure_list import listed_figures
    from mixflight.reports.figures import describe
    from mixflight.reports.page import drawn

    model, words = document.scenario.model, describe(document)
    return {
        f"{name}.{kind}": data
        for name, figure in listed_figures(document).items()
        for kind, data in drawn(figure, f"{name}: {model}", words)[1].items()
    }  # fmt: skip
