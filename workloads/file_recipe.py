"""The recipe a model file already carries: its tensors' own formats, with INT8 activations and KV cache."""

from mixflight.workloads.llama_gguf import LINEARS, LlamaWeights
from mixflight.workloads.recipe import Kv, Recipe
from mixflight.workloads.tensor import Tensor


def recipe_of(name: str, weights: LlamaWeights) -> Recipe:
    """Formats of ``weights``; a linear's input is INT8 in the groups of its weight, per token where that has none.

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
    return f"int8-g{tensor.format.group}" if tensor.format.group else "int8"
