"""Recomputes what publications report: every check of every preset, and presets that expand to the same trace."""

import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.workloads.check import Check
from mixflight.workloads.model import model_named
from mixflight.workloads.quantities import FITTING, Tolerance, measure
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.trace import decode_traces, prefill_trace

Status = Literal["pass", "fail", "recall-shown"]


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One check, recomputed; ``deviation`` is relative (absolute where 0 is reported)."""

    id: str
    recipe: str
    quantity: str
    reported: float
    ours: float
    deviation: float
    tolerance: float
    bound: str
    status: Status
    confidence: str
    scenario: str
    note: str


@functools.cache
def tolerances() -> dict[str, Tolerance]:
    """The tolerances that checks name."""
    path = Path(__file__).with_name("recipes") / "tolerances.toml"
    return {name: convert(table, Tolerance, f"{path.name} [{name}]") for name, table in read_toml(path).items()}


def rows_of(recipe: Recipe) -> list[CheckRow]:
    """All checks of ``recipe``."""
    return [_row(recipe, check) for check in recipe.check]


def _row(recipe: Recipe, check: Check) -> CheckRow:
    if check.tolerance not in tolerances():
        raise InputError(
            f"a tolerance must be one of {', '.join(tolerances())}, not {check.tolerance!r}, in recipe {recipe.name!r}"
        )
    allowed = tolerances()[check.tolerance]
    ours, scenario = measure(recipe, check)
    limit = max(allowed.relative * abs(check.reported), allowed.absolute)
    over = ours - check.reported
    beyond = {"equal": abs(over), "at_most": over, "at_least": -over}[check.bound]
    status: Status = "recall-shown" if not check.judged else "pass" if beyond <= limit + 1e-12 else "fail"
    return CheckRow(
        id=recipe.id, recipe=recipe.name, quantity=check.quantity, reported=check.reported, ours=ours,
        deviation=over / abs(check.reported) if check.reported else over, tolerance=allowed.relative,
        bound=check.bound, status=status, confidence=check.confidence, scenario=scenario, note=check.note,
    )  # fmt: skip


def identical(recipes: list[Recipe]) -> list[list[str]]:
    """Groups of recipes with the same scenario whose prefill and first decode step are the same operators."""
    groups: dict[object, list[str]] = {}
    for recipe in recipes:
        scenario = recipe.scenario or FITTING
        model = model_named(scenario.model)
        first = prefill_trace(model, recipe, scenario.prefill, 1, scenario.decode).operators
        steps = tuple(
            (trace.operators, trace.kept) for trace in decode_traces(model, recipe, scenario.prefill, scenario.decode)
        ) if model.kind == "decoder" or recipe.decode else ()  # fmt: skip
        groups.setdefault((scenario, first, hash(steps)), []).append(recipe.name)
    return [names for names in groups.values() if len(names) > 1]
