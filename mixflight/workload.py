"""What a user names as MODEL and RECIPE, resolved."""

import logging
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.workloads.model import Model, model_named, models
from mixflight.workloads.recipe import Recipe, recipe_named

LOG = logging.getLogger(__name__)

FETCHED = "smollm2"
OWN_FORMAT_OF_PRESETS = "fp16"
AS_STORED = "as-stored"


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A model and the formats of its weights, activations and cache."""

    model: Model
    recipe: Recipe


def load_workload(model: str, recipe: str | None = None) -> Workload:
    """MODEL: a preset, ``smollm2`` (the fetched file), a .gguf file or a folder of safetensors. RECIPE: a preset or a
    TOML file.

    Without a recipe a file keeps its own formats with INT8 activations, and a preset has the FP16 of its publication.
    """
    if model in models():
        return Workload(model=model_named(model), recipe=recipe_named(recipe or OWN_FORMAT_OF_PRESETS))
    path = model_file(model)
    from mixflight.workloads.file_recipe import recipe_of
    from mixflight.workloads.model_file import open_model

    stored = open_model(path)
    own = recipe_of(AS_STORED, stored) if recipe is None else recipe_named(recipe)
    LOG.info("%s: %s, recipe %s", path, stored.model.name, own.name)
    return Workload(model=stored.model, recipe=own)


def model_file(model: str) -> Path:
    """The file that MODEL names; ``smollm2`` is fetched if it is not in the cache."""
    if model == FETCHED:
        from mixflight.workloads.fetch import fetch_model

        return fetch_model(model)
    path = Path(model)
    if path.suffix == ".gguf" or path.exists():
        return path
    import difflib

    names = [FETCHED, *models()]
    near = difflib.get_close_matches(model, names, n=1, cutoff=0.0)[0]
    raise InputError(
        f"MODEL must be a .gguf file, a folder of safetensors or one of {len(names)} names (mixflight models lists "
        f"them; nearest: {near}), not {model!r}"
    )
