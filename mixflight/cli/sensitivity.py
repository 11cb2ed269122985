"""``mixflight sensitivity``: which number decides that one machine beats another."""

from pathlib import Path
from typing import Annotated

import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import archs
from mixflight.cli.options import BatchOption, DecodeOption, JsonOption, ModelOption, PrefillOption, RecipeOption
from mixflight.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def sensitivity(
        model: ModelOption,
        arch: Annotated[
            list[str] | None,
            typer.Option("--arch", help="The first is held against all others.", metavar="ARCH[:RECIPE]",
                         autocompletion=archs),
        ] = None,
        gpu: Annotated[
            list[str] | None, typer.Option("--gpu", help="A GPU to hold it against.", metavar="GPU[:RECIPE]")
        ] = None,
        metric: Annotated[
            str, typer.Option("--metric", help="tokens_per_joule, tokens_per_s or tokens_per_usd (decode).")
        ] = "tokens_per_joule",
        prefill: PrefillOption = 128,
        decode: DecodeOption = 128,
        recipe: RecipeOption = None,
        batch: BatchOption = 1,
        costs: Annotated[
            Path | None, typer.Option("--costs", help="Prices as arch/costs.toml.", metavar="F.toml")
        ] = None,
        figure: Annotated[Path | None, typer.Option("--figure", help="Tornado as SVG.", metavar="F.svg")] = None,
        json: JsonOption = False,
    ) -> None:
        """Every price and assumption moved alone to its ends: does A still beat B?
        """
        from mixflight.arch.costs import costs_of
        from mixflight.sensitivity import METRICS, Scenario
        from mixflight.sensitivity import sensitivity as moved

        scenario = Scenario(model=model, prefill=prefill, decode=decode, batch=batch)
        if figure is not None and len(arch or ()) + len(gpu or ()) != 2:
            raise InputError("--figure must come with two machines: it shows one ratio")
        rows = moved(arch or (), gpu or (), scenario, metric, costs_of(str(costs) if costs else None), recipe)
        first = (arch or gpu or ("",))[0].partition(":")[0]
        names = list(dict.fromkeys(row.against for row in rows))
        conclusions = [_conclusion(first, name, metric, [row for row in rows if row.against == name]) for name in names]
        if figure is not None:
            from mixflight.files import whole_file
            from mixflight.reports.tornado_figure import tornado_figure

            title = f"{first} over {names[0]}, {metric.replace('_', ' ')}"
            with whole_file(figure) as part:
                part.write_text(tornado_figure(rows, title))
        if json:
            print_json({"metric": metric, "metrics": METRICS, "conclusions": conclusions, "rows": rows},
                       "sensitivity/1")
            return
        for name, conclusion in zip(names, conclusions, strict=True):
            print_table(
                conclusion["sentence"], ("parameter", "low", "high", "ratio at low", "at high", "flips"),
                [(row.parameter, _shown(row.low), _shown(row.high), row.ratio_low, row.ratio_high,
                  "yes" if row.flips else "no") for row in rows if row.against == name],
            )  # fmt: skip
        for parameter, error in dict.fromkeys((row.parameter, row.error) for row in rows if row.error):
            print(f"cannot run: {parameter} {error}")


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,.4g}"


def _conclusion(first: str, name: str, metric: str, rows: list) -> dict:  # type: ignore[type-arg]
    flipping = [row.parameter for row in rows if row.flips]
    base = rows[0].base
    verdict = "beats" if base > 1 else "does not beat"
    decides = f"flipped by {', '.join(flipping)}" if flipping else "no single number flips it"
    sentence = f"{first} {verdict} {name} in {metric.replace('_', ' ')}, {base:.3g} times; {decides}"
    return {"against": name, "ratio": base, "flipped_by": flipping, "sentence": sentence}
