"""``mixflight generate``: the model speaks."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mixflight.generate_rtl import Outputs, RtlGeneration


class Backend(StrEnum):
    """What computes the tokens."""

    golden = "golden"
    rtl = "rtl"


class Kv(StrEnum):
    """How keys and values are cached."""

    int8 = "int8"
    fp16 = "fp16"


RTL_ONLY = ("--arch", "--blocks", "--checkpoint", "--timeline", "--waves", "--waves-from", "--waves-cycles")


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
        layers: Annotated[int | None, typer.Option(help="Only so many first layers of the model.")] = None,
        arch: Annotated[
            str | None, typer.Option(help="With --backend rtl: the machine whose core it is (mixpe-mini).")
        ] = None,
        blocks: Annotated[bool, typer.Option("--blocks", help="With rtl: the prompt in blocks, on matrices.")] = False,
        checkpoint: Annotated[
            Path | None, typer.Option(help="With rtl: written after each token, gone on from.", metavar="FOLDER")
        ] = None,
        timeline: Annotated[
            Path | None, typer.Option(help="With rtl: what its units did in the last step.", metavar="F.json")
        ] = None,
        waves: Annotated[Path | None, typer.Option(help="With rtl: waves of a window.", metavar="F.fst")] = None,
        waves_from: Annotated[int | None, typer.Option(help="Its first cycle.", metavar="CYCLE")] = None,
        waves_cycles: Annotated[int | None, typer.Option(help="How many cycles.", metavar="N")] = None,
        json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
    ) -> None:
        """Greedy decoding of a compressed model, in arithmetic that is specified to the bit.

        With --backend rtl every layer and the head run on the compiled Verilog of a core.
        """
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json

        if tokens < 1:
            raise InputError(f"--tokens must be at least 1, not {tokens}")
        if not prompt:
            raise InputError("--prompt must not be empty")
        given = (arch, blocks or None, checkpoint, timeline, waves, waves_from, waves_cycles)
        for name, value in zip(RTL_ONLY, given, strict=True):
            if value is not None and backend is not Backend.rtl:
                raise InputError(f"{name} must come with --backend rtl")
        if backend is Backend.rtl:
            if kv is not Kv.int8:
                raise InputError(f"--kv must be int8 with --backend rtl, not {kv.value}")
            from mixflight.generate_rtl import Outputs

            outputs = Outputs(checkpoint=checkpoint, timeline=timeline, waves=_window(waves, waves_from, waves_cycles))
            _fetch(model)
            _rtl(model, prompt, tokens, arch, layers, outputs, chat=chat, blocks=blocks, json=json)
            return
        from mixflight.generate import generate as run

        said = run(_fetch(model), prompt, tokens, chat=chat, kv=kv.value, layers=layers,
                   on_text=None if json else _write)  # fmt: skip
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


def _fetch(model: str) -> Path:
    """The file of ``model``, fetched with a bar where it is not there."""
    from mixflight.cli.output import progress
    from mixflight.generate import model_path
    from mixflight.workloads.fetch import SOURCES, cached_model

    if model not in SOURCES or cached_model(model) is not None:
        return model_path(model)
    with progress() as bars:
        bar = bars.add_task(f"fetching {model} (bytes)", total=None)
        return model_path(model, lambda done, total: bars.update(bar, completed=done, total=total))


def _window(waves: Path | None, first: int | None, cycles: int | None) -> tuple[Path, int, int] | None:
    """What --waves and its companions say."""
    from mixflight.arch.errors import InputError

    if waves is None:
        if first is not None or cycles is not None:
            raise InputError("--waves-from and --waves-cycles must come with --waves")
        return None
    if first is None or cycles is None or first < 0 or cycles < 1:
        raise InputError("--waves must come with --waves-from, at least 0, and --waves-cycles, at least 1")
    if not waves.absolute().parent.is_dir():
        raise InputError(f"--waves must be a file in a folder, not {waves}")
    return waves, first, cycles


def _rtl(
    model: str, prompt: str, tokens: int, arch: str | None, layers: int | None, outputs: "Outputs", *, chat: bool,
    blocks: bool, json: bool,
) -> None:  # fmt: skip
    """Generate on RTL; a document, or the text with what is known of it."""
    from mixflight.cli.generate_demo import watch
    from mixflight.cli.output import print_json
    from mixflight.generate_rtl import DEFAULT_ARCH, generate_rtl
    from mixflight.rtl.harness import HarnessError

    try:
        with watch(prompt, quiet=json) as listener:
            said = generate_rtl(model, prompt, tokens, arch=arch or DEFAULT_ARCH, layers=layers, chat=chat,
                                blocks=blocks, outputs=outputs, listener=listener)  # fmt: skip
    except HarnessError as error:
        sys.exit(print(f"mixflight: {error}", file=sys.stderr) or 1)
    if json:
        print_json(document(model, said), "generate-rtl/1")
        return
    print()
    cycles = sum(step.cycles for step in said.steps) / said.positions
    seen = said.recorded_j_per_token
    also = "" if seen is None else f", {1e3 * seen:.1f} mJ at what the RTL was seen to do"
    print(f"{len(said.tokens)} tokens after a prompt of {len(said.prompt_tokens)}, {cycles:,.0f} cycles each on "
          f"{said.arch}: {said.tokens_per_s:.0f} tokens/s at {said.clock_mhz:.0f} MHz, "
          f"{1e3 * said.energy_j_per_token:.1f} mJ a token by the price table{also}; stopped at {said.stopped}",
          file=sys.stderr)  # fmt: skip


def document(model: str, said: "RtlGeneration") -> dict[str, object]:
    """The JSON document of a generation on RTL; lists have an entry a step, those of the prompt first."""
    import msgspec

    recorded = [step.recorded for step in said.steps]
    activity = [None if item is None else msgspec.to_builtins(item) for item in recorded]
    components = [None if item is None else item.pop("components") for item in activity]
    return {
        "model": model, "backend": "rtl", "arch": said.arch, "clock_mhz": said.clock_mhz, "layers": said.layers,
        "prompt": said.prompt, "prompt_tokens": said.prompt_tokens, "tokens": said.tokens, "text": said.text,
        "stopped": said.stopped, "logits_sha256": said.logits_sha256[-1],
        "tokens_per_step": [step.tokens for step in said.steps],
        "cycles_per_token": [step.cycles for step in said.steps],
        "engine_cycles_per_token": [step.engine_cycles for step in said.steps],
        "axi_read_bytes_per_token": [step.read_bytes for step in said.steps],
        "axi_written_bytes_per_token": [step.written_bytes for step in said.steps],
        "energy_j_per_token": [step.energy_j for step in said.steps],
        "energy_recorded_j_per_token": [None if item is None else item.energy_j for item in recorded],
        "energy_recorded_low_j_per_token": [None if item is None else item.low_j for item in recorded],
        "energy_recorded_high_j_per_token": [None if item is None else item.high_j for item in recorded],
        "energy_components_per_token": components, "activity_per_token": activity,
        "seconds_per_token": [step.seconds for step in said.steps],
        "logits_sha256_per_token": said.logits_sha256, "tokens_per_s_at_clock": said.tokens_per_s,
    }


def _write(piece: str) -> None:
    print(piece, end="", flush=True)
