"""``mixflight demo``: the main job from end to end."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mixflight.cli.options import JsonOption


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def demo(
        output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder to write.")] = Path(
            "build/demo"
        ),
        json: JsonOption = False,
    ) -> int:
        """Fetch a real model, simulate it on four machines, emit, synthesise and verify an array, write one page.
        """
        from mixflight.cli.output import note, print_json, print_table, progress, quiet
        from mixflight.demo import STEPS, run_demo
        from mixflight.reports.findings import findings, headline
        from mixflight.results import COMPARE_COLUMNS, compare_rows, scenario_title, simulation_document

        with progress() as bars:
            shown = bars.console.is_terminal
            bar = bars.add_task("starting", total=STEPS, visible=shown)
            begun = 0

            def step(description: str) -> None:
                nonlocal begun
                if shown:
                    bars.update(bar, description=description, completed=begun)
                elif not quiet():
                    print(f"[{begun + 1}/{STEPS}] {description}", file=sys.stderr, flush=True)
                begun += 1

            def fetching(so_far: int, whole: int) -> None:
                bars.update(bar, description=f"fetching the model: {so_far / 1e6:.0f} of {whole / 1e6:.0f} MB")

            done = run_demo(output, step, fetching)
        document, checked = done.document, done.document.verification
        if document.scenario.note:
            note(document.scenario.note)
        if json:
            print_json({
                "path": str(done.page), "note": document.scenario.note, "verilog": document.verilog,
                "synthesis": document.synthesis, "verification": checked,
                "rows": [{"name": item.accelerator, **simulation_document(item)} for item in done.simulations],
            }, "demo/1")  # fmt: skip
        else:
            for sentence in (headline(document), *findings(document)):
                print(sentence)
            print_table(scenario_title(done.simulations), COMPARE_COLUMNS, compare_rows(done.simulations))
            print(done.page)
        return 1 if checked is not None and checked.failures else 0
