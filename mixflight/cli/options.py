"""Options that several commands share."""

from typing import Annotated

import typer

from mixflight.cli.completion import models, recipes

ModelOption = Annotated[
    str,
    typer.Option("--model", help="Preset, smollm2 (fetched), .gguf file or folder of safetensors.", metavar="MODEL",
                 autocompletion=models),
]
RecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", help="Preset or TOML file; without it a file keeps its own formats.", metavar="RECIPE",
                 autocompletion=recipes),
]
PrefillOption = Annotated[int, typer.Option("--prefill", help="Tokens of the prompt.", metavar="P")]
DecodeOption = Annotated[int, typer.Option("--decode", help="Tokens generated after it.", metavar="D")]
BatchOption = Annotated[int, typer.Option("--batch", help="Sequences that run together.", metavar="B")]
ModeOption = Annotated[
    str, typer.Option("--mode", help="corrected: equal, stated assumptions. published: those of the publication.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
