"""The recipe a model file already carries: its tensors' own formats, with INT8 activations and KV cache."""

from mixflight.workloads.llama_gguf import LINEARS, LlamaWeights
from mixflight.workloads.recipe import Kv, Recipe
from mixflight.workloads.tensor import Tensor

LEAST_GROUP = 32  # of activations


def recipe_of(name: str, weights: LlamaWeights) -> Recipe:
    """Formats of ``weights``; a linear's input is INT8 in the groups of its weight, per token where that has none.

    Weights in groups of 16 and of 32 may share an input, so both take it in groups of 32.
    Keys, values, queries and probabilities are INT8 per token and head.
    """
    linears: dict[str, Tensor] = {"head": weights.head}
    for index, layer in enumerate(weights.layers):
        for role in LINEARS:
            linears[f"layers.{index}.{role}"] = getattr(layer, role)
    return Recipe(
        name=name,
        summary="the file's own formats, INT8 activations and KV cache",
        weight={operator: tensor.format.name for operator, tensor in linears.items()},
        act={operator: _activation(tensor) for operator, tensor in linears.items()} | {"attention": "int8"},
        kv=Kv(k="int8", v="int8"),
    )


def _activation(tensor: Tensor) -> str:
    group = tensor.format.group
    return f"int8-g{max(group, LEAST_GROUP)}" if group else "int8"
