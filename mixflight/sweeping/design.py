"""From the values of a point to the machine, recipe and lengths that they make."""

from typing import Any

import msgspec

from mixflight.arch.accelerator import Accelerator, accelerator_named
from mixflight.arch.core import CoreMachine
from mixflight.arch.strict_toml import convert
from mixflight.sweeping.fields import FREE, numbers, symbol, with_value
from mixflight.sweeping.space import Assignment, Lengths, Space
from mixflight.workload import OWN_FORMAT_OF_PRESETS, Workload, load_workload
from mixflight.workloads.recipe import Recipe

_STRINGS = ("arch", "model", "recipe", "float_operands", "path")


_Base = tuple[type[Accelerator | CoreMachine], dict[str, Any], dict[str, int | float]]


class WorkloadKey(msgspec.Struct, frozen=True, kw_only=True):
    """What is computed: equal keys have equal operators."""

    model: str
    recipe: str
    changes: tuple[tuple[str, Any], ...]
    lengths: Lengths
    float_operands: str
    path: str


class Design(msgspec.Struct, frozen=True, kw_only=True):
    """A point made whole; ``derived`` are the values of its derived fields."""

    accelerator: Accelerator | CoreMachine
    workload: WorkloadKey
    derived: dict[str, int | float]
    symbols: dict[str, int | float]


class Designer:
    """Makes the designs of one space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.formulas = space.formulas()
        self.bases: dict[str, _Base] = {}
        self.workloads: dict[WorkloadKey, Workload] = {}

    def design(self, values: Assignment) -> Design:
        """The design of ``values``; one that cannot be is an InputError."""
        space = self.space
        whole = {name: str(values.get(name, getattr(space, name))) for name in _STRINGS}
        kind, base, known = self._base(whole["arch"])
        table, symbols = dict(base), dict(known)
        lengths = msgspec.structs.asdict(space.scenario)
        changes = []
        for path, value in values.items():
            if path in _STRINGS:
                continue
            first, _, rest = path.partition(".")
            if first == "recipe":
                changes.append((rest, value))
            elif first == "scenario":
                lengths[rest] = value
            elif not path.startswith(FREE):
                with_value(table, path, value)
            if not isinstance(value, str):
                symbols[symbol(path)] = value
        derived = self._derive(table, lengths, changes, symbols)
        return Design(
            accelerator=convert(table, kind, "the point"),
            workload=WorkloadKey(
                model=whole["model"], recipe=whole["recipe"], changes=tuple(changes),
                lengths=convert(lengths, Lengths, "the point's scenario"), float_operands=whole["float_operands"],
                path=whole["path"],
            ),
            derived=derived, symbols=symbols,
        )  # fmt: skip

    def _base(self, arch: str) -> "_Base":
        """The preset's kind, it as tables, and its numbers and the scenario's by symbol."""
        if arch not in self.bases:
            found = accelerator_named(arch)
            table: dict[str, Any] = msgspec.to_builtins(found)
            lengths = {"scenario": msgspec.structs.asdict(self.space.scenario)}
            self.bases[arch] = type(found), table, dict(numbers({**table, **lengths}))
        return self.bases[arch]

    def _derive(
        self, table: dict[str, Any], lengths: dict[str, Any], changes: list[tuple[str, Any]],
        symbols: dict[str, int | float],
    ) -> dict[str, int | float]:  # fmt: skip
        """Set the derived fields in the tables, among the recipe's changes and the symbols; their values."""
        derived: dict[str, int | float] = {}
        for path, formula in self.formulas.items():
            value = formula.value(symbols)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            derived[path] = symbols[symbol(path)] = value
            if path.startswith("scenario."):
                lengths[path.partition(".")[2]] = value
            elif path.startswith("recipe."):
                changes.append((path.partition(".")[2], value))
            else:
                with_value(table, path, value)
        return derived

    def workload(self, key: WorkloadKey) -> Workload:
        """The model and recipe of ``key``, each made once."""
        if key not in self.workloads:
            base = load_workload_of(key.model, key.recipe)
            if key.changes:
                table = msgspec.to_builtins(base.recipe)
                for path, value in key.changes:
                    with_value(table, path, value, plain=path.startswith("decode."))
                base = msgspec.structs.replace(base, recipe=convert(table, Recipe, f"recipe {key.recipe}, changed"))
            self.workloads[key] = base
        return self.workloads[key]


def load_workload_of(model: str, recipe: str) -> Workload:
    """As ``load_workload``, the recipes of evaluation (``kv4``, ``w-nf4-g64``) among the names."""
    from mixflight.evaluate import evaluation_recipe

    base = load_workload(model, OWN_FORMAT_OF_PRESETS)
    return msgspec.structs.replace(base, recipe=evaluation_recipe(recipe))
