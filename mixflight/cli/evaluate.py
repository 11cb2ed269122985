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
            list[str] | None,
            typer.Option(help="Preset, evaluation recipe (kv4, a4-token, unquantised...) or TOML file; more than one "
                         "gives a table; without it the file's own formats.", metavar="RECIPE"),
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
        """
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json, progress
        from mixflight.evaluate import Scenario, evaluate_each

        if tokens is not None and tokens < 1:
            raise InputError(f"--tokens must be at least 1, not {tokens}")
        with progress() as bars:
            names: list[str | None] = list(recipe) if recipe else [None]
            bar = bars.add_task("scoring (tokens)", total=None)
            found = list(evaluate_each(
                model, names, Scenario(arch=arch, prefill=prefill, decode=decode),
                reference=reference, most_tokens=tokens, on_tokens=lambda count: bars.advance(bar, count),
            ))  # fmt: skip
        documents = [evaluation_document(item) for item in found]
        if json:
            one = len(documents) == 1
            print_json(documents[0] if one else {"rows": documents}, "evaluate/1" if one else "evaluations/1")
        elif len(found) == 1:
            _print_one(found[0])
        else:
            _print_table(found)


def _print_one(found: "Evaluation") -> None:
    from mixflight.cli.output import print_table

    print_table(
        f"{found.model}, {found.recipe}",
        ("perplexity", "95 % interval", "over unquantised", "weight MB", "MACs/token", "mJ/token"),
        [(
            found.perplexity.value, f"{found.perplexity.low:.4g} to {found.perplexity.high:.4g}",
            "-" if found.ratio is None else "{:.4f} ({:.4f} to {:.4f})".format(*found.ratio),
            found.weight_bytes / 1e6, found.macs, _millijoules(found),
        )],
    )  # fmt: skip
    print(f"{found.perplexity.tokens:,} predicted tokens in {_cut(found)}, {found.tokens_per_s:.0f} tokens/s")
    print(f"{_arithmetic(found)}; {_scenario(found)}")
    for sentence in (*found.preparation, found.energy_note):
        if sentence:
            print(sentence)


def _print_table(found: "list[Evaluation]") -> None:
    """One line a recipe: accuracy, size, speed and energy."""
    from mixflight.cli.output import print_table

    ratios = any(item.ratio for item in found)
    first = found[0]
    print_table(
        f"{first.model}: {first.perplexity.tokens:,} predicted tokens in {_cut(first)}",
        ("recipe", "perplexity", "±", *(("ratio",) if ratios else ()), "MB", "KV kB", "MMACs", "tokens/s", "mJ"),
        [
            (
                item.recipe + ("*" if item.arithmetic == "emulated" else ""), item.perplexity.value,
                (item.perplexity.high - item.perplexity.low) / 2, *((item.ratio[0],) if item.ratio else ()),
                item.weight_bytes / 1e6, item.kv_bytes / 1e3, item.macs / 1e6,
                "-" if item.decode_tokens_per_s is None else item.decode_tokens_per_s, _millijoules(item),
            )
            for item in found
        ],
    )  # fmt: skip
    if ratios:
        print("ratio: perplexity over that of the unquantised forward pass on the same tokens")
    if any(item.arithmetic == "emulated" for item in found):
        print("* emulated in FP32 on rounded values; the others in golden arithmetic, the bits of the hardware")
    print(f"KV, MACs, tokens/s, mJ: a decoded token; {_scenario(first)}")
    for item in found:
        if item.energy_note:
            print(f"{item.recipe}: {item.energy_note}")


def _cut(found: "Evaluation") -> str:
    return f"{found.windows} windows of at most {found.longest_window}"


def _arithmetic(found: "Evaluation") -> str:
    return "golden arithmetic" if found.arithmetic == "golden" else "emulated in FP32 on rounded values"


def _scenario(found: "Evaluation") -> str:
    return f"{found.arch}, prompt {found.prefill}, {found.decode} tokens decoded"


def _millijoules(found: "Evaluation") -> float | str:
    return "-" if found.energy is None else found.energy.pj * 1e-9


def evaluation_document(found: "Evaluation") -> dict[str, Any]:
    """The JSON document."""
    from mixflight.sim.evaluation.text import SHA256

    energy = found.energy
    return {
        "model": found.model, "recipe": found.recipe, "summary": found.summary, "arithmetic": found.arithmetic,
        "perplexity": found.perplexity.value,
        "perplexity_low": found.perplexity.low, "perplexity_high": found.perplexity.high,
        "interval": "95 %, mean loss and 1.96 standard errors over blocks of 64 tokens",
        "tokens": found.perplexity.tokens, "text_tokens": found.text_tokens, "text_sha256": SHA256,
        "windows": found.windows, "window_tokens": found.longest_window,
        **({} if found.ratio is None else dict(zip(
            ("ratio_to_unquantised", "ratio_to_unquantised_low", "ratio_to_unquantised_high"), found.ratio, strict=True
        ))),
        "preparation": list(found.preparation), "weight_bytes": found.weight_bytes, "kv_bytes": found.kv_bytes,
        "macs": found.macs,
        "arch": found.arch, "scenario": {"prefill": found.prefill, "decode": found.decode, "batch": 1},
        "energy_mj_per_token": energy and energy.pj * 1e-9, "energy_mj_per_token_low": energy and energy.low_pj * 1e-9,
        "energy_mj_per_token_high": energy and energy.high_pj * 1e-9, "energy_note": found.energy_note,
        "decode_tokens_per_s": found.decode_tokens_per_s,
        "scoring_s": found.scoring_s, "tokens_per_s": found.tokens_per_s,
    }  # fmt: skip
