"""``mixflight generate``: the model speaks."""

import sys
from enum import StrEnum
from typing import Annotated

import typer


class Backend(StrEnum):
    """What computes the tokens."""

    golden = "golden"


class Kv(StrEnum):
    """How keys and values are cached."""

    int8 = "int8"
    fp16 = "fp16"


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def generate(
        model: Annotated[str, typer.Option(help="smollm2, or the path of a .gguf file.")],
        prompt: Annotated[str, typer.Option(help="The text to continue, taken raw unless --chat.")],
        tokens: Annotated[int, typer.Option(help="How many tokens at most.")],
        backend: Annotated[Backend, typer.Option(help="What computes the tokens.")] = Backend.golden,
        chat: Annotated[bool, typer.Option("--chat", help="Put it into the file's chat template.")] = False,
        kv: Annotated[Kv, typer.Option(help="KV cache: INT8, or the FP16 reference variant.")] = Kv.int8,
        json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    ) -> None:
        """Greedy decoding of a compressed model, in arithmetic that is specified to the bit."""
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json, progress
        from mixflight.generate import generate as run
        from mixflight.generate import model_path
        from mixflight.workloads.fetch import SOURCES, cached_model

        if tokens < 1:
            raise InputError(f"--tokens must be at least 1, not {tokens}")
        if not prompt:
            raise InputError("--prompt must not be empty")
        if model in SOURCES and cached_model(model) is None:
            with progress() as bars:
                bar = bars.add_task(f"fetching {model} (bytes)", total=None)
                path = model_path(model, lambda done, total: bars.update(bar, completed=done, total=total))
        else:
            path = model_path(model)
        said = run(path, prompt, tokens, chat=chat, kv=kv.value, on_text=None if json else _write)
        if json:
            print_json({
                "model": model, "backend": backend.value, "kv": kv.value, "prompt_tokens": said.prompt_tokens,
                "tokens": said.tokens, "text": said.text, "stopped": said.stopped,
                "logits_sha256": said.logits_sha256, "prefill_s": said.prefill_s, "decode_s": said.decode_s,
                "tokens_per_s": said.tokens_per_s,
            }, "generate/1")
            return
        print()
        rate = f", {said.tokens_per_s:.1f} tokens/s" if said.tokens_per_s else ""
        print(
            f"{len(said.tokens)} tokens after a prompt of {len(said.prompt_tokens)} "
            f"({said.prefill_s:.2f} s){rate}, stopped at {said.stopped}",
            file=sys.stderr,
        )


def _write(piece: str) -> None:
    print(piece, end="", flush=True)
