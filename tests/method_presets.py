"""The preset of a row of the list of methods, and its traces in its own scenario, each expanded once."""

import functools

from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipes
from mixflight.workloads.trace import decode_traces, prefill_trace


@functools.cache
def preset(row):
    (found,) = [recipe for recipe in recipes().values() if recipe.id == row]
    return found


@functools.cache
def traces(row, steps=None):
    """The prefill and the first ``steps`` decode steps (None: all of the scenario)."""
    recipe = preset(row)
    scenario = recipe.scenario
    model = model_named(scenario.model)
    decode = list(decode_traces(model, recipe, scenario.prefill, steps or scenario.decode))
    return prefill_trace(model, recipe, scenario.prefill, 1, scenario.decode), decode
