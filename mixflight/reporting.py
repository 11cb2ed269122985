"""The page of a folder of results, for a file, for figures as files, and for a notebook."""

import html
from pathlib import Path

from mixflight.arch.errors import InputError
from mixflight.files import whole_file
from mixflight.reports.document import Document


class Report:
    """A page that needs no network and no other file; the last expression of a notebook's cell shows it."""

    def __init__(self, text: str, document: Document | None = None) -> None:
        self.html = text
        self.document = document
        """What the page shows, of a run; None of a sweep."""

    def save(self, path: str | Path) -> Path:
        """Write the page to ``path``."""
        with whole_file(Path(path)) as part:
            part.write_text(self.html)
        return Path(path)

    def save_figures(self, folder: str | Path) -> list[Path]:
        """Write every figure into ``folder`` as SVG, PNG and CSV; a sweep's page has tables alone, an InputError."""
        into = Path(folder)
        if not into.is_dir():
            raise InputError(f"--figures must be a folder that exists, not {into}")
        if self.document is None:
            raise InputError("figures must be of a run: a sweep has those of its study")
        written = []
        for name, data in figure_files(self.document).items():
            with whole_file(into / name) as part:
                part.write_bytes(data)
            written.append(into / name)
        return written

    def _repr_html_(self) -> str:
        page = html.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:42em;border:0" title="mixflight report"></iframe>'


def report(folder: str | Path) -> Report:
    """The page of what ``mixflight demo`` or a sweep left in ``folder``. Raises InputError for any other folder.

    ``html`` is its text, ``save(path)`` writes it, ``save_figures(folder)`` writes every figure as SVG, PNG and CSV.
    In a notebook it is shown as it is.
    """
    folder = Path(folder)
    if (folder / "sweep.json").exists():
        import msgspec

        from mixflight.reports.sweep_page import render_sweep
        from mixflight.sweeping.store import document_of, read_manifest

        return Report(render_sweep(document_of(folder), msgspec.to_builtins(read_manifest(folder))))
    from mixflight.reports.document import read_document
    from mixflight.reports.page import render

    document = read_document(folder)
    return Report(render(document), document)


def figure_files(document: Document) -> dict[str, bytes]:
    """Every figure of ``document`` as SVG, PNG and CSV, by the file's name."""
    from mixflight.reports.figure_tables import tables
    from mixflight.reports.figures import drawings, png, standalone, svg

    rows = tables(document)
    found: dict[str, bytes] = {}
    for name, drawing in drawings(document).items():
        found[f"{name}.svg"] = standalone(svg(drawing), name, document).encode()
        found[f"{name}.png"] = png(drawing)
        found[f"{name}.csv"] = rows[name].encode()
    return found
