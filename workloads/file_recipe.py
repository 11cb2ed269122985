"""The recipe a model file already carries: its tensors' own formats, with INT8 activations and KV cache."""

from mixflight.arch.formats import Format
from mixflight.workloads.codec import Codec
from mixflight.workloads.llama_gguf import LINEARS, LlamaWeights
from mixflight.workloads.plain_decoder import PlainDecoder
from mixflight.workloads.recipe import Kv, Recipe
from mixflight.workloads.stored_model import StoredModel, StoredWeight

LEAST_GROUP = 32  # of activations


def recipe_of(name: str, weights: LlamaWeights | StoredModel | PlainDecoder) -> Recipe:
    """Formats of ``weights``; a linear's input is INT8 in the groups of its weight, per token where that has none.

    Weights in groups of 16 and of 32 may share an input, so both take it in groups of 32. Keys, values, queries and
    probabilities are INT8 per token and head.
    """
    linears = _linears(weights) if isinstance(weights, LlamaWeights) else weights.linears
    act: dict[str, Codec] = {operator: _activation(weight.format) for operator, weight in linears.items()}
    return Recipe(
        name=name,
        summary="the file's own formats, INT8 activations and KV cache",
        weight={operator: weight.format.name for operator, weight in linears.items()},
        act=act | {"attention": "int8"},
        kv=Kv(k="int8", v="int8"),
        embedding=weights.embedding.format.name,
    )


def _linears(weights: LlamaWeights) -> dict[str, StoredWeight]:
    linears: dict[str, StoredWeight] = {"head": weights.head}
    for index, layer in enumerate(weights.layers):
        for role in LINEARS:
            linears[f"layers.{index}.{role}"] = getattr(layer, role)
    return linears


def _activation(weight: Format) -> str:
    return f"int8-g{max(weight.group, LEAST_GROUP)}" if weight.group else "int8"
