"""A made model of the llama family with N:M weights."""

from dataclasses import replace

import msgspec
from tiny_llama import TinyLlama

from mixflight.sim.core_values.decode import core_model
from mixflight.sim.golden.linear import grouped_weight
from mixflight.workloads.codec import Codec
from mixflight.workloads.pruning import pruned
from mixflight.workloads.recipe import recipe_named


def recipe(n, m):
    """Weights of the linears but the head as INT8 in groups of 32, N:M."""
    codec = {"t": "int", "b": 8, "per": "group", "group": 32, "scale": "f16",
             "sparse": {"kind": "nm", "n": n, "m": m, "index": "four_bit"}}
    return msgspec.structs.replace(recipe_named("w4a8g32"),
                                   weight={"*": msgspec.convert(codec, Codec), "head": "q8_0"})


class SparseLlama(TinyLlama):
    """The made model with N:M weights in all linears but the head."""

    def __init__(self, n, m, **shape):
        super().__init__(**shape)
        self.recipe = recipe(n, m)
        self.linears = {name: item if name == "head" else pruned(item, n, m) for name, item in self.linears.items()}
        self.golden = replace(self.golden, linears={item.name: grouped_weight(item) for item in self.linears.values()})

    def core(self, machine, max_context):
        return core_model(machine, self.model, self.recipe, linears=self.linears, vectors=self.vectors,
                          embedding=self.embedding, max_context=max_context)
