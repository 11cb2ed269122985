"""``mixflight compile``: programs of FlightLLM cores for all lengths, and the memory image that they run on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import archs
from mixflight.cli.options import JsonOption, ModelOption, RecipeOption
from mixflight.cli.output import note, print_json, print_table, progress

if TYPE_CHECKING:
    from mixflight.compile_program import Compiled


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command(name="compile")
    def compile_(
        arch: Annotated[str, typer.Option("--arch", help="Preset or TOML file.", metavar="ARCH", autocompletion=archs)],
        model: ModelOption,
        output: Annotated[
            Path | None, typer.Option("-o", "--output", help="Folder of what is written.", metavar="DIR")
        ] = None,
        recipe: RecipeOption = None,
        encoding: Annotated[
            str, typer.Option("--encoding", help="compact: one text for all lengths; published: a file a bucket.")
        ] = "compact",
        max_context: Annotated[
            int | None, typer.Option("--max-context", min=1, help="Longest context; without it 2048.", metavar="C")
        ] = None,
        chunk: Annotated[
            int, typer.Option("--chunk", min=0, help="Tokens of a prompt that one more program takes at once.",
                              metavar="T")
        ] = 0,
        prefill: Annotated[
            int, typer.Option("--prefill", min=0, metavar="T",
                              help="Tokens of a prompt that one more program takes at most on matrices (MM).")
        ] = 0,
        count_only: Annotated[
            bool, typer.Option("--count-only", help="Write the manifest only, no program and no memory image.")
        ] = False,
        yes: Annotated[
            bool, typer.Option("--yes", help="Write files in the published encoding however many bytes they take.")
        ] = False,
        json: JsonOption = False,
    ) -> None:  # fmt: skip
        """Instructions for every length, memory image, manifest and register map of FlightLLM cores.
        """
        from mixflight.compile_program import ENCODINGS, compile_model

        if encoding not in ENCODINGS:
            raise InputError(f"encoding must be one of {', '.join(ENCODINGS)}, not {encoding!r}")
        if output is None and not count_only:
            raise InputError("compile must have an output folder (-o DIR), or --count-only")
        compiled = compile_model(arch, model, recipe, max_context, chunk, prefill)
        published = encoding == "published" and not count_only
        files = [] if output is None else _write(compiled, model, output, published, count_only=count_only, agreed=yes)
        if json:
            print_json(_document(compiled, encoding, files), "compile/1")
            return
        _print(compiled)
        if output is not None:
            print(f"{len(files)} files, {sum(item['bytes'] for item in files):,} bytes in {output}")


def _write(
    compiled: "Compiled", model: str, folder: Path, published: bool, *, count_only: bool, agreed: bool
) -> list[dict[str, Any]]:
    """The files of ``compiled``, with a bar."""
    from mixflight.compile_program import PUBLISHED_LIMIT_BYTES, check_size, write, write_manifest, write_published

    if published:
        check_size(compiled, PUBLISHED_LIMIT_BYTES, agreed=agreed)
        note(f"{compiled.storage.merged:,} bytes in the published encoding")
    with progress() as bar:
        task = bar.add_task("files", total=None)

        def advance() -> None:
            bar.advance(task)

        if published:
            return write_published(compiled, folder, advance)
        return (write_manifest if count_only else write)(compiled, model, folder, advance)


def _document(compiled: "Compiled", encoding: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    storage = compiled.storage
    return {
        "machine": compiled.machine.name, "model": compiled.model, "recipe": compiled.recipe, "encoding": encoding,
        "max_context": compiled.max_context, "files": files,
        "bytes_total": storage.compact if encoding == "compact" else storage.merged,
        "bytes_unshared": storage.unshared, "storage": storage,
    }  # fmt: skip


def _print(compiled: "Compiled") -> None:
    """Bytes of the instructions, stored in every way."""
    storage = compiled.storage
    print_table(
        f"{compiled.model}, {compiled.recipe} on {compiled.machine.name}: instructions of lengths 1 to "
        f"{compiled.max_context}, both stages, all cores",
        ("stored", "bytes", "times less"),
        [
            (text, size, storage.unshared / size)
            for text, size in (
                ("published encoding, every length", storage.unshared),
                ("lengths in buckets of 16 and 128", storage.bucketed),
                ("equal cores share", storage.shared), ("transfers over 8 channels merged", storage.merged),
                ("compact, one text for all lengths", storage.compact),
            )
        ],
    )  # fmt: skip
