"""``mixflight simulate``: one machine, one model, one scenario."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from mixflight.cli.options import (
    BatchOption,
    DecodeOption,
    JsonOption,
    ModelOption,
    ModeOption,
    PrefillOption,
    RecipeOption,
)
from mixflight.cli.output import print_json, print_table

if TYPE_CHECKING:
    from mixflight.machines import Machine


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def simulate(
        arch: Annotated[str, typer.Option("--arch", help="Preset or TOML file.", metavar="ARCH[:RECIPE]")],
        model: ModelOption,
        prefill: PrefillOption,
        decode: DecodeOption,
        recipe: RecipeOption = None,
        batch: BatchOption = 1,
        mode: ModeOption = "corrected",
        explain: Annotated[
            bool, typer.Option("--explain", help="What binds, and what to change first (re-simulated).")
        ] = False,
        timeline: Annotated[
            Path | None, typer.Option("--timeline", help="Trace events for Perfetto.", metavar="F.json")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Time and energy of a prefill and a decode, and what bound them.

        Example: mixflight simulate --arch mixpe-w4a8 --model llama2-7b --recipe w4a8g128 --prefill 128 --decode 128
        """
        from mixflight.explain import explain as why
        from mixflight.machines import Machine, run
        from mixflight.results import COMPARE_COLUMNS, compare_rows, scenario_title, simulation_document

        machine = Machine.parse(arch, recipe)
        result = run(machine, model, prefill, decode, batch, mode)
        if timeline is not None:
            write_timeline(timeline, machine, model, prefill, decode, batch)
        document = simulation_document(result)
        explained = why(machine, model, prefill, decode, batch, result) if explain else ()
        if explained:
            document["explain"] = [{"sentence": item.sentence, **msgspec.structs.asdict(item)} for item in explained]
        if json:
            print_json(document)
            return
        print_table(scenario_title([result]), COMPARE_COLUMNS, compare_rows([result]))
        for name, phase in (("prefill", result.prefill), ("decode", result.decode)):
            total = sum(item.cycles for item in phase.operators)
            largest = sorted(phase.operators, key=lambda item: -item.cycles)[:8]
            print_table(
                f"{name}: where the time goes", ("operator", "time %", "bound by", "MACs used %"),
                [(o.operator, 100 * o.cycles / total, o.bound_by, 100 * o.utilisation) for o in largest],
            )  # fmt: skip
        for item in explained:
            gains = [(gain.change, gain.speedup) for gain in item.gains]
            print_table(f"{item.phase}: one change at a time", ("change", "times as fast"), gains)
            print(item.sentence)


def write_timeline(path: Path, machine: "Machine", model: str, prefill: int, decode: int, batch: int) -> None:
    """Write the prefill and the last decode step as Chrome trace events."""
    from mixflight.files import whole_file
    from mixflight.reports.timeline import timeline
    from mixflight.workload import load_workload
    from mixflight.workloads.trace import decode_traces, prefill_trace

    workload = load_workload(model, machine.recipe)
    last = next(decode_traces(workload.model, workload.recipe, prefill + decode - 1, 1, batch))
    traces = [prefill_trace(workload.model, workload.recipe, prefill, batch), last]
    with whole_file(path) as part:
        part.write_bytes(msgspec.json.encode(timeline(machine.accelerator, traces)))
