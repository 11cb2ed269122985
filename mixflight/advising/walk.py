"""From a start design by single changes to one that meets the goals, or to where no single change helps.

Every step tries all single changes (``mixflight.advising.changes``) with the engine, keeps the one that brings the
goals nearest, and says why in one line. Where none of the machine helps and the recipe is open, changes of it are
tried (``mixflight.advising.recipe_changes``), which cost accuracy. Nothing is random; of equal changes the one with
fewer LUTs goes first. Steps are judged by one decode step in the middle (``Scenario.quick``), and each claim is checked
again on the whole scenario.
"""

from collections.abc import Callable

import msgspec

from mixflight.advising.changes import changes
from mixflight.advising.look import Goals, Look, Scenario
from mixflight.advising.recipe_changes import recipe_changes
from mixflight.advising.start import counted
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.explain import limit_shares
from mixflight.workloads.recipe import Recipe

MOST_STEPS = 40
LEAST = 1e-3
"""A change must close so much of the gaps, relative to the start of the step."""
AGREES = 0.02


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One kept change. ``gain``: the target's quantity after over before, as the search saw it; ``checked_gain`` the
    same over the whole scenario, and whether the two agree. ``tried`` changes, ``fitting`` of which could be built.
    ``accuracy``: what the change cost where it was measured; empty for changes of the machine, which cost none."""

    change: str
    reason: str
    bottleneck: str
    gain: float
    checked_gain: float
    agrees: bool
    tried: int
    fitting: int
    values: dict[str, float]
    accuracy: str


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A design one change from the final one, checked on the whole scenario; ``accuracy`` as of a step."""

    change: str
    accuracy: str
    meets: bool
    values: dict[str, float]


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """The whole search; ``machine`` is the final design, ``recipe`` what it computes, ``values`` its quantities
    over the whole scenario."""

    start: str
    start_values: dict[str, float]
    steps: tuple[Step, ...]
    machine: CoreMachine
    recipe: Recipe
    values: dict[str, float]
    meets: bool
    ended: str
    alternatives: tuple[Alternative, ...]


OnStep = Callable[[str], None]
_Tried = tuple[str, Look, str]
"""A change, what the engine says of it, and its accuracy."""
_Taken = tuple[Look, _Tried, int, int]
"""Where a step began, what was kept, how many changes there were and how many fitted."""


def walk(
    scenario: Scenario, goals: Goals, starts: tuple[CoreMachine, ...], say: OnStep = lambda _: None,
    open_recipe: bool = False,
) -> Walk:  # fmt: skip
    """Search from the start that is nearest to the goals; where none can run the model it is an InputError. With
    ``open_recipe`` the recipe may change too."""
    here = first = _nearest(scenario, goals, starts)
    path: list[_Taken] = []
    while len(path) < MOST_STEPS and goals.shortfall(here.values):
        tried, fitting = _tried(here)
        best = _best(goals, here, fitting)
        if best is None and open_recipe:
            tried, fitting = _tried_recipes(here)
            best = _best(goals, here, fitting)
        if best is None:
            break
        path.append((here, best, tried, len(fitting)))
        say(f"{len(path)}. {best[0]}")
        here = best[1]
    checked = [item.scenario.whole(item.machine) for item in (first, *(best[1] for _, best, _, _ in path))]
    steps = tuple(
        _step(goals, item, before, after) for item, before, after in zip(path, checked[:-1], checked[1:], strict=True)
    )
    final = checked[-1]
    missed = goals.missed(final.values)
    ended = "all goals hold" if not missed else f"no single change brings {missed[0].text!r} nearer"
    if missed and len(path) == MOST_STEPS:
        ended = f"{MOST_STEPS} steps were not enough"
    return Walk(
        start=first.machine.name, start_values=checked[0].values, steps=steps, machine=final.machine,
        recipe=final.scenario.workload.recipe, values=final.values, meets=not missed, ended=ended,
        alternatives=_alternatives(goals, here, open_recipe),
    )  # fmt: skip


def _nearest(scenario: Scenario, goals: Goals, starts: tuple[CoreMachine, ...]) -> Look:
    looks, errors = [], []
    for machine in starts:
        try:
            looks.append(scenario.quick(machine))
        except InputError as error:
            errors.append(str(error))
    if not looks:
        raise InputError(f"some start design must run the model: {errors[0]}")
    return min(looks, key=lambda look: goals.shortfall(look.values))


def _best(goals: Goals, here: Look, fitting: list[_Tried]) -> _Tried | None:
    """The change that brings the goals nearest, if it brings them nearer than ``here``."""
    best = min(fitting, key=lambda item: _order(goals, item), default=None)
    if best is None or goals.shortfall(best[1].values) > goals.shortfall(here.values) * (1 - LEAST):
        return None
    return best


def _tried(here: Look) -> tuple[int, list[_Tried]]:
    """How many changes there are, and those that fit the device and run."""
    count, found = 0, []
    for name, machine in changes(here.machine):
        count += 1
        try:
            found.append((name, here.scenario.quick(counted(machine)), ""))
        except (InputError, ValueError):
            continue
    return count, found


def _tried_recipes(here: Look) -> tuple[int, list[_Tried]]:
    """The same of the recipe, on the same machine."""
    count, found = 0, []
    for name, recipe, accuracy in recipe_changes(here.scenario.workload.recipe):
        count += 1
        try:
            found.append((name, here.scenario.with_recipe(recipe).quick(here.machine), accuracy))
        except (InputError, ValueError):
            continue
    return count, found


def _order(goals: Goals, item: _Tried) -> tuple[float, float, str]:
    name, look, _ = item
    return round(goals.shortfall(look.values), 9), look.values["lut"], name


def _step(goals: Goals, taken: _Taken, before: Look, after: Look) -> Step:
    here, (name, look, accuracy), tried, fitting = taken
    quantity = goals.quantity
    gain, checked = (b.values[quantity] / a.values[quantity] for a, b in ((here, look), (before, after)))
    bottleneck = _bottleneck(goals, here)
    moved = ", ".join(_moved(item, before.values, after.values) for item in _spoken(goals))
    return Step(
        change=name, bottleneck=bottleneck, gain=gain, checked_gain=checked, tried=tried, fitting=fitting,
        agrees=abs(gain / checked - 1) <= AGREES, values=after.values, accuracy=accuracy,
        reason=_reason(bottleneck, name, fitting, moved, accuracy),
    )  # fmt: skip


def _reason(bottleneck: str, name: str, fitting: int, moved: str, accuracy: str) -> str:
    if accuracy:
        chosen = f"no change of the machine helps; of {fitting} of the recipe, {name} helps most"
        return f"{bottleneck}: {chosen}: {moved}; {accuracy}"
    return f"{bottleneck}: of {fitting} changes that fit, {name} helps most: {moved}"


def _spoken(goals: Goals) -> list[str]:
    """The quantities of the goals, in their order."""
    return list(dict.fromkeys(name for item in goals.all for name in sorted(item.symbols())))


def _moved(name: str, before: dict[str, float], after: dict[str, float]) -> str:
    return f"{name} {_number(before[name])} -> {_number(after[name])}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _bottleneck(goals: Goals, look: Look) -> str:
    """What stands in the way of the goal that is missed most: what takes the time, or draws the power."""
    missed = goals.missed(look.values)[0]
    if any("power" in name or "joule" in name or "energy" in name for name in missed.symbols()):
        phase = look.prefill if any(name.startswith("prefill") for name in missed.symbols()) else look.decode
        whole = sum(item.pj for item in phase.components.values())
        parts = sorted((-item.pj / whole, name) for name, item in phase.components.items())[:2]
        drawn = " and ".join(f"{name} {-share:.0%}" for share, name in parts)
        return f"{missed.text!r} is missed; of the energy {drawn}"
    name = "prefill" if any(item.startswith("prefill") for item in missed.symbols()) else "decode"
    limits = limit_shares(getattr(look, name))
    first, *others = limits
    then = f", {others[0]} for {limits[others[0]]:.0%}" if others else ""
    return f"{missed.text!r} is missed; {name} is bound by {first} for {limits[first]:.0%} of its time{then}"


def _alternatives(goals: Goals, here: Look, open_recipe: bool) -> tuple[Alternative, ...]:
    """The two changes of the final design that stay nearest to the goals, with fewest LUTs among those that hold;
    a change that moves neither the goals' quantities nor the LUTs is none."""
    seen = {*_spoken(goals), "lut"}
    fitting = [*_tried(here)[1], *(_tried_recipes(here)[1] if open_recipe else ())]
    fitting = [item for item in fitting if any(item[1].values[name] != here.values[name] for name in seen)]
    found = []
    fitting.sort(key=lambda item: (_order(goals, item)[0], bool(item[2]), _order(goals, item)))
    for name, look, accuracy in fitting[:2]:
        values = look.scenario.whole(look.machine).values
        found.append(Alternative(change=name, accuracy=accuracy, meets=not goals.missed(values), values=values))
    return tuple(found)
