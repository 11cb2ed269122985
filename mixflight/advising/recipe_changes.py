"""Single changes of a recipe: fewer bits where what they cost was measured, on SmolLM2.

They are for a walk whose recipe was left open, and tried after the changes of the machine, which cost no accuracy.
What was measured is another model's, rounded without retraining: a sign of what to expect, no figure of the design's.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from mixflight.sweeping.quantities import recorded_perplexities
from mixflight.workloads.recipe import Recipe

_replace: Any = msgspec.structs.replace
_WEIGHT = re.compile(r"uint4-(g\d+)-z4")
_MEASURED = {"weight": ("w4-g64-z4", "w3-g32-z3"), "kv": ("kv8", "kv4")}
"""What is changed -> recipes of the record before and after it."""


def recipe_changes(recipe: Recipe) -> Iterator[tuple[str, Recipe, str]]:
    """(What is changed, the recipe with it, what that cost SmolLM2) of every single change, in the same order always;
    the recipe's name says the change."""
    weight = {
        pattern: _WEIGHT.sub(r"uint3-\1-z3", codec) if isinstance(codec, str) else codec
        for pattern, codec in recipe.weight.items()
    }
    if weight != recipe.weight:
        yield "weights of 4 -> 3 bits", _named(recipe, "w3", weight=weight), _accuracy("weight")
    if (recipe.kv.k, recipe.kv.v) == ("int8", "int8"):
        kv = _replace(recipe.kv, k="int4", v="int4")
        yield "KV cache of 8 -> 4 bits", _named(recipe, "kv4", kv=kv), _accuracy("kv")


def _named(recipe: Recipe, what: str, **fields: Any) -> Recipe:
    """A recipe that was published as something else is that no more: what is said and checked of it goes."""
    summary = f"{recipe.name} with {what}"
    found: Recipe = _replace(
        recipe, name=f"{recipe.name}-{what}", summary=summary, id="", source="", confidence=None, note="", check=(),
        **fields,
    )  # fmt: skip
    return found


def _accuracy(what: str) -> str:
    held = recorded_perplexities()
    before, after = _MEASURED[what]
    ratios = [held[name] / held["unquantised"] for name in (before, after)]
    return (
        f"SmolLM2's perplexity over the unquantised model's {ratios[0]:.2f} ({before}) -> {ratios[1]:.2f} ({after}), "
        "without retraining"
    )
