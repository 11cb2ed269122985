"""``mixflight simulate``: one machine, one model, one scenario."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from mixflight.arch.errors import InputError
from mixflight.cli.completion import archs
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
    from collections.abc import Sequence

    from mixflight.machines import Machine
    from mixflight.mapping.block_mask import Mask
    from mixflight.sim.simulate import Simulation


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def simulate(
        arch: Annotated[
            str, typer.Option("--arch", help="Preset[@TECHNOLOGY] or TOML file.", metavar="ARCH[:RECIPE]",
                              autocompletion=archs),
        ],
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
        float_operands: Annotated[
            str, typer.Option("--float-operands", help="refuse, or int8: what a machine does with floats not its own.")
        ] = "refuse",
        attention_mask: Annotated[
            Path | None, typer.Option("--attention-mask", help="Block masks of the prefill (cores).", metavar="F")
        ] = None,
        json: JsonOption = False,
    ) -> None:
        """Time and energy of a prefill and a decode, and what bound them.
        """
        if mode == "published":
            refuse_beside_published(explain=explain, batch=batch, float_operands=float_operands)
            simulate_published(arch, model, recipe, prefill, decode, attention_mask, timeline, json)
            return
        from mixflight.explain import explain as why
        from mixflight.machines import Machine, run
        from mixflight.mapping.attention_mask import load_masks
        from mixflight.results import simulation_document

        machine = Machine.parse(arch, recipe)
        if float_operands != "refuse" and (explain or timeline is not None):
            raise InputError("--float-operands must come without --explain and --timeline")
        masks = load_masks(attention_mask) if attention_mask else ()
        result = run(machine, model, prefill, decode, batch, mode, float_operands, masks=masks)
        if timeline is not None:
            write_timeline(timeline, machine, model, prefill, decode, result, masks)
        document = simulation_document(result)
        explained = why(machine, model, prefill, decode, batch, result, masks) if explain else ()
        if explained:
            document["explain"] = [{"sentence": item.sentence, **msgspec.structs.asdict(item)} for item in explained]
        if json:
            print_json(document, "simulate/1")
            return
        _tables(result)
        for item in explained:
            gains = [(gain.change, gain.speedup) for gain in item.gains]
            print_table(f"{item.phase}: one change at a time", ("change", "times as fast"), gains)
            print(item.sentence)


def _tables(result: "Simulation") -> None:
    """The result, its energy by component, and the operators that take longest."""
    from mixflight.results import COMPARE_COLUMNS, ENERGY_COLUMNS, compare_rows, energy_rows, scenario_title

    print_table(scenario_title([result]), COMPARE_COLUMNS, compare_rows([result]))
    print_table("decode: energy by component", ENERGY_COLUMNS, energy_rows([result]))
    for name, phase in (("prefill", result.prefill), ("decode", result.decode)):
        total = sum(item.cycles for item in phase.operators)
        largest = sorted(phase.operators, key=lambda item: -item.cycles)[:8]
        print_table(
            f"{name}: where the time goes", ("operator", "time %", "bound by", "next", "MACs used %"),
            [(o.operator, 100 * o.cycles / total, o.bound_by, o.next_bound, 100 * o.utilisation) for o in largest],
        )  # fmt: skip
    if result.int8_operands:
        print(f"INT8 in place of the recipe's float operands: {', '.join(result.int8_operands)}")


def refuse_beside_published(*, explain: bool, batch: int, float_operands: str) -> None:
    """What the published rules do not know."""
    if explain or batch != 1:
        raise InputError("mode published must come without --explain and with a batch of 1: its rules have neither")
    if float_operands != "refuse":
        raise InputError("mode published must come without --float-operands: its rules have INT8 operands only")


def simulate_published(
    arch: str, model: str, recipe: str | None, prefill: int, decode: int, mask: Path | None, timeline: Path | None,
    json: bool,
) -> None:  # fmt: skip
    """Run a scenario under the rules of the machine's publication and print it."""
    from mixflight.files import whole_file
    from mixflight.published import published_document, published_simulator, published_timeline

    name, _, own = arch.partition(":")
    document = published_document(name, model, own or recipe, prefill, decode, mask)
    if timeline is not None:
        simulator = published_simulator(name, model, own or recipe)
        events = published_timeline(simulator, simulator.decode_program(prefill + decode))
        with whole_file(timeline) as part:
            part.write_bytes(msgspec.json.encode(events))
    if json:
        print_json(document, "simulate-published/1")
        return
    print_table(
        f"{name}, {model}, {document['recipe']}, mode published", ("phase", "ms", "tokens/s", "MB/token", "bound by"),
        [
            (key, document[key]["time_ms"], document[key]["tokens_per_s"],
             document[key]["hbm_bytes_per_token"] / 1e6, document[key]["bound_by"])
            for key in ("prefill", "decode")
        ],
    )  # fmt: skip
    if document["infeasible"]:
        print(f"infeasible: {document['infeasible']}")


def write_timeline(
    path: Path, machine: "Machine", model: str, prefill: int, decode: int, result: "Simulation",
    masks: "Sequence[Mask]" = (),
) -> None:  # fmt: skip
    """Write the prefill and the last decode step of ``result`` as Chrome trace events."""
    from mixflight.arch.core import CoreMachine
    from mixflight.files import whole_file
    from mixflight.reports.timeline import encoded_core_timeline, general_timeline
    from mixflight.reports.timeline import timeline as array_timeline
    from mixflight.sim.core.general import GeneralCores
    from mixflight.sim.core.passes import Passes
    from mixflight.workload import load_workload
    from mixflight.workloads.trace import decode_traces, prefill_trace

    workload = load_workload(model, machine.recipe)
    accelerator = machine.accelerator
    if isinstance(accelerator, CoreMachine):
        batch = -(-result.batch // result.groups)
        passes = Passes(workload.model, workload.recipe, prefill, decode, batch=batch, masks=masks)
        cores = passes.cores(accelerator)
        if result.path == "general":
            operators = GeneralCores(cores.machine, cores.units)
            content = msgspec.json.encode(
                general_timeline(accelerator.name, accelerator.clock_mhz, passes.traces, operators.time)
            )
        else:
            programs = [cores.program(trace) for trace in passes.traces]
            content = encoded_core_timeline(accelerator.name, accelerator.clock_mhz, [
                (trace.phase, program.names, cores.execute(program, with_slices=True, merged=True))
                for trace, program in zip(passes.traces, programs, strict=True)
            ])  # fmt: skip
    else:
        content = msgspec.json.encode(array_timeline(accelerator, [
            prefill_trace(workload.model, workload.recipe, prefill, result.batch, decode),
            next(iter(decode_traces(workload.model, workload.recipe, prefill + decode - 1, 1, result.batch))),
        ]))  # fmt: skip
    with whole_file(path) as part:
        part.write_bytes(content)
