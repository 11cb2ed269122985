"""``mixflight schema``: what the documents of ``--json`` look like, as JSON Schema."""

from typing import Annotated

import typer

from mixflight.cli.completion import documents
from mixflight.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def schema(
        name: Annotated[
            str | None, typer.Argument(help="simulate, or simulate/1 for one version.", metavar="[NAME]",
                                       autocompletion=documents)
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """JSON Schema of a command's --json document, on stdout; without a name, which there are.
        """
        from mixflight.cli.output import print_json, print_table
        from mixflight.documents import DOCUMENTS, schema_of

        if name is not None:
            print_json(schema_of(name))
            return
        rows = [{"name": known, "summary": schema_of(known)["description"]} for known in DOCUMENTS]
        if json:
            print_json({"rows": rows}, "presets/1")
            return
        print_table("documents", ("name", "of"), [tuple(row.values()) for row in rows])
