"""``mixflight evaluate``: what a recipe costs in perplexity, beside bytes, MACs and energy."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mixflight.evaluate import Evaluation


def register(app: typer.Typer) -> None:
    """Define the command."""

    @app.command()
    def evaluate(
        model: Annotated[str, typer.Option(help="smollm2, or the path of a .gguf file.")],
        recipe: Annotated[
            str | None,
            typer.Option(help="Preset, evaluation recipe (kv4, a4-token, unquantised...) or TOML file; without it the "
                         "file's own formats.", metavar="RECIPE"),
        ] = None,
        arch: Annotated[str, typer.Option(help="Machine of the energy.", metavar="ARCH")] = "mixpe-w4a8",
        prefill: Annotated[int, typer.Option(help="Prompt of the energy's scenario.", metavar="P")] = 128,
        decode: Annotated[int, typer.Option(help="Decoded tokens of the energy's scenario.", metavar="D")] = 128,
        reference: Annotated[
            bool, typer.Option("--reference", help="Score the unquantised forward pass too, and give the ratio.")
        ] = False,
        tokens: Annotated[
            int | None, typer.Option(help="Score only the first tokens of the text.", metavar="N")
        ] = None,
        json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")] = False,
    ) -> None:  # fmt: skip
        """Perplexity on the shipped text in golden arithmetic, and what a token costs.

        Example: mixflight evaluate --model smollm2 --recipe k8v4 --reference
        """
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json, print_table, progress
        from mixflight.evaluate import evaluate as run

        if tokens is not None and tokens < 1:
            raise InputError(f"--tokens must be at least 1, not {tokens}")
        with progress() as bars:
            bar = bars.add_task("scoring (tokens)", total=None)
            found = run(
                model, recipe, arch=arch, prefill=prefill, decode=decode, reference=reference, most_tokens=tokens,
                on_tokens=lambda count: bars.advance(bar, count),
            )  # fmt: skip
        document = evaluation_document(found)
        if json:
            print_json(document)
            return
        print_table(
            f"{found.model}, {found.recipe}",
            ("perplexity", "95 % interval", "over unquantised", "weight MB", "MACs/token", "mJ/token"),
            [(
                found.perplexity.value, f"{found.perplexity.low:.4g} to {found.perplexity.high:.4g}",
                "-" if found.ratio is None else "{:.4f} ({:.4f} to {:.4f})".format(*found.ratio),
                found.weight_bytes / 1e6, found.macs, document["energy_mj_per_token"],
            )],
        )  # fmt: skip
        cut = f"{found.windows} windows of at most {found.longest_window}"
        print(f"{found.perplexity.tokens:,} predicted tokens in {cut}, {found.tokens_per_s:.0f} tokens/s")
        print(f"energy of a decoded token on {found.arch}: prompt {found.prefill}, {found.decode} tokens decoded")
        for sentence in (*found.preparation, found.energy_note):
            if sentence:
                print(sentence)


def evaluation_document(found: "Evaluation") -> dict[str, Any]:
    """The JSON document."""
    from mixflight.sim.evaluation.text import SHA256

    energy = found.energy
    return {
        "model": found.model, "recipe": found.recipe, "perplexity": found.perplexity.value,
        "perplexity_low": found.perplexity.low, "perplexity_high": found.perplexity.high,
        "interval": "95 %, mean loss and 1.96 standard errors over blocks of 64 tokens",
        "tokens": found.perplexity.tokens, "text_tokens": found.text_tokens, "text_sha256": SHA256,
        "windows": found.windows, "window_tokens": found.longest_window,
        **({} if found.ratio is None else dict(zip(
            ("ratio_to_unquantised", "ratio_to_unquantised_low", "ratio_to_unquantised_high"), found.ratio, strict=True
        ))),
        "preparation": list(found.preparation), "weight_bytes": found.weight_bytes, "macs": found.macs,
        "arch": found.arch, "scenario": {"prefill": found.prefill, "decode": found.decode, "batch": 1},
        "energy_mj_per_token": energy and energy.pj * 1e-9, "energy_mj_per_token_low": energy and energy.low_pj * 1e-9,
        "energy_mj_per_token_high": energy and energy.high_pj * 1e-9, "energy_note": found.energy_note,
        "scoring_s": found.scoring_s, "tokens_per_s": found.tokens_per_s,
    }  # fmt: skip
