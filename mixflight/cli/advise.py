"""``mixflight advise``: from a start design to one that meets a target, each step explained."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixflight.cli.completion import archs
from mixflight.cli.options import BatchOption, DecodeOption, JsonOption, ModelOption, PrefillOption, RecipeOption

if TYPE_CHECKING:
    from mixflight.advising.walk import Walk
    from mixflight.arch.core import CoreMachine

PRESET_RECIPE = "w4a8g128"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def advise(
        model: ModelOption,
        target: Annotated[
            list[str], typer.Option("--target", metavar="EXPR", help='What must hold: "tokens_per_s>=60". Repeatable.')
        ],
        device: Annotated[str, typer.Option("--device", metavar="D", help="u280, vhk158 or kv260.")],
        limit: Annotated[
            list[str] | None, typer.Option("--limit", metavar="EXPR", help='Another bound: "power_w<=40". Repeatable.')
        ] = None,
        recipe: RecipeOption = None,
        arch: Annotated[
            str | None, typer.Option("--arch", metavar="A", help="Start here: a machine of cores of the device.",
                                autocompletion=archs)
        ] = None,
        prefill: PrefillOption = 128,
        decode: DecodeOption = 128,
        batch: BatchOption = 1,
        output: Annotated[
            Path, typer.Option("-o", "--output", metavar="F.toml", help="Where to write the design.")
        ] = Path("design.toml"),
        json: JsonOption = False,
    ) -> None:
        """Walk from a start design: name what binds, try every single change, keep the best, say why.

        Without --arch it starts from FlightLLM's cores or from MixPE arrays in them, whichever is nearer. Without
        --recipe a preset starts from w4a8g128, and where no change of the machine helps, fewer bits are tried; --recipe
        holds. Exit status 1 where no single change helps and a goal is still missed.
        """
        from mixflight.advising.design_text import to_toml, verilog_command
        from mixflight.advising.look import Goals, Scenario
        from mixflight.advising.start import starts
        from mixflight.advising.walk import walk
        from mixflight.arch.errors import InputError
        from mixflight.cli.output import print_json, progress
        from mixflight.files import whole_file
        from mixflight.sweeping.space import Lengths
        from mixflight.workload import load_workload
        from mixflight.workloads import recipe_text
        from mixflight.workloads.model import models

        goals = Goals.parse(target, limit or [])
        from_ = starts(device, None if arch is None else _cores(arch))
        if min(prefill, decode, batch) < 1:
            raise InputError(f"--prefill, --decode and --batch must be at least 1, not {prefill}, {decode} and {batch}")
        opened = recipe is None and model in models()
        workload = load_workload(model, PRESET_RECIPE if opened else recipe)
        scenario = Scenario(workload=workload, lengths=Lengths(prefill=prefill, decode=decode, batch=batch))
        with whole_file(output) as part:
            with progress() as bars:
                task = bars.add_task("looking at the start", total=None)
                found = walk(scenario, goals, from_, lambda text: bars.update(task, description=text), opened)
            text = to_toml(found.machine, tuple(step.change for step in found.steps))
            part.write_text(text)
        if found.recipe != workload.recipe:
            with whole_file(recipe_path(output, found)) as part:
                part.write_text(recipe_text.to_toml(found.recipe))
        command = verilog_command(found.machine, found.recipe, str(output))
        if json:
            print_json(document(found, text, output, command), "advise/1")
        else:
            _print(found, goals.quantity, output, command)
        if not found.meets:
            sys.exit(1)


def _cores(arch: str) -> "CoreMachine":
    """The machine ``arch``, which must be one of cores."""
    from mixflight.arch.accelerator import accelerator_named
    from mixflight.arch.core import CoreMachine
    from mixflight.arch.errors import InputError

    named = accelerator_named(arch)
    if not isinstance(named, CoreMachine):
        raise InputError(f"--arch must be a machine of cores, not {named.name}: only these have a device")
    return named


def recipe_path(output: Path, found: "Walk") -> Path:
    """Where a recipe that the walk made goes: beside the design, by its own name."""
    return output.with_name(f"{found.recipe.name}.toml")


def recipe_of(output: Path, found: "Walk") -> str:
    """``--recipe`` of the design: a preset's or a model's own name, or the file of a recipe that the walk made."""
    changed = any(step.accuracy for step in found.steps)
    return str(recipe_path(output, found)) if changed else found.recipe.name


def document(found: "Walk", text: str, path: Path, command: str) -> dict[str, Any]:
    """What ``--json`` prints."""
    import msgspec

    from mixflight.advising.footprint import footprint

    blocks = footprint(found.machine)
    table: dict[str, Any] = msgspec.to_builtins(found)
    del table["machine"]
    return {
        **table, "recipe": recipe_of(path, found), "design": text, "design_path": str(path), "verilog": command,
        "resources": msgspec.to_builtins(blocks),
        "device": msgspec.to_builtins(found.machine.device), "of_device": blocks.share(found.machine),
    }  # fmt: skip


def _print(found: "Walk", quantity: str, path: Path, command: str) -> None:
    from mixflight.advising.footprint import footprint

    print(f"start: {found.start}, {_values(found.start_values, quantity)}")
    for place, step in enumerate(found.steps, 1):
        again = "" if step.agrees else f" (the whole scenario: {step.checked_gain:.3f}, not {step.gain:.3f} times)"
        print(f"{place}. {step.reason}{again}")
    print(f"end: {found.ended}; {_values(found.values, quantity)}")
    blocks = footprint(found.machine)
    used = ", ".join(f"{name} {share:.0%}" for name, share in blocks.share(found.machine).items())
    error = f"; LUTs of arrays within {blocks.lut_error:.1%} of synthesis" if blocks.lut_error else ""
    print(f"of {found.machine.device.name}: {used}{error}")
    for item in found.alternatives:
        cost = f"; {item.accuracy}" if item.accuracy else ""
        short = "" if item.meets else ", short of the goals"
        print(f"nearby{short}: {item.change}, {_values(item.values, quantity)}{cost}")
    print(f"design: {path}, recipe {recipe_of(path, found)}")
    print(f"Verilog: {command}")


def _values(values: dict[str, float], quantity: str) -> str:
    own = "" if quantity == "tokens_per_s" else f"{quantity} {values[quantity]:.4g}, "
    return f"{own}{values['tokens_per_s']:.1f} tokens/s, {values['power_w']:.1f} W, {values['lut']:,.0f} LUT"
