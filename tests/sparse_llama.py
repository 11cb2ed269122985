"""A made model of the llama family with N:M weights."""

from dataclasses import dataclass, replace

import msgspec
import numpy as np
from tiny_llama import TinyLlama

from mixflight.sim.core_values.decode import core_model
from mixflight.sim.golden.linear import GroupedWeight, grouped_weight
from mixflight.sim.golden.llama import Session, load_llama
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.workloads.codec import Codec
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import LINEARS
from mixflight.workloads.model_file import open_model
from mixflight.workloads.pruning import pruned
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.tensor import ALL, Tensor

LEAST = 32


def recipe(n, m, group=LEAST):
    """Weights of the linears but the head as INT8 in groups of ``group``, N:M, activations in as long ones."""
    codec = {"t": "int", "b": 8, "per": "group", "group": group, "scale": "f16",
             "sparse": {"kind": "nm", "n": n, "m": m, "index": "four_bit"}}
    return msgspec.structs.replace(
        recipe_named("w4a8g32"), weight={"*": msgspec.convert(codec, Codec), "head": "q8_0"},
        act={"*": f"int8-g{group}", "attention": "int8"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Regrouped:
    """The codes of a tensor with scales of groups of ``group``, longer than those of any format of files."""

    tensor: Tensor
    group: int

    @property
    def name(self):
        return self.tensor.name

    def codes(self, rows=ALL):
        return self.tensor.codes(rows)

    def scales(self, rows=ALL):
        return np.ascontiguousarray(self.tensor.scales(rows)[:, :: self.group // LEAST])

    def grouped(self):
        return GroupedWeight(codes=self.codes(), d=self.scales(), zero=None, group=self.group)


def real_layer(path, machine, max_context):
    """The first layer of a stored model and its head, 8:16 by magnitude: on a core, and the golden model's session."""
    stored, llama = open_model(path), load_llama(open_gguf(path))
    model = msgspec.structs.replace(stored.model, layers=1)
    linears = {"head": stored.linears["head"]}
    linears |= {name: pruned(stored.linears[name], 8, 16) for name in (f"layers.0.{role}" for role in LINEARS)}
    assert 0.499 < np.mean([np.mean(item.codes() != 0) for name, item in linears.items() if name != "head"]) <= 0.5
    named = {item.name: grouped_weight(item) for name, item in linears.items() if name != "head"}
    vectors = {name: item for name, item in stored.vectors.items() if name.startswith(("blk.0.", "output"))}
    core = core_model(machine, model, recipe(8, 16), linears=linears, vectors=vectors, embedding=linears["head"],
                      max_context=max_context)
    return core, Session(replace(llama, model=model, linears=llama.linears | named))


class SparseLlama(TinyLlama):
    """The made model with N:M weights in all linears but the head, in groups of ``group``."""

    def __init__(self, n, m, group=LEAST, **shape):
        super().__init__(**shape)
        self.recipe, self.group = recipe(n, m, group), group
        self.linears = {name: item if name == "head" else pruned(item, n, m) for name, item in self.linears.items()}
        golden = {item.name: grouped_weight(item) for item in self.linears.values()}
        if group > LEAST:
            self.linears = {name: item if name == "head" else Regrouped(tensor=item, group=group)
                            for name, item in self.linears.items()}
            golden |= {item.name: item.grouped() for name, item in self.linears.items() if name != "head"}
        self.golden = replace(self.golden, linears=golden)

    @property
    def numerics(self):
        """Activations in groups as the weights."""
        return Numerics(activation=Activation(group=self.group))

    def session(self):
        """The golden model's."""
        return Session(self.golden, numerics=self.numerics)

    def core(self, machine, max_context, block=0):
        return core_model(machine, self.model, self.recipe, linears=self.linears, vectors=self.vectors,
                          embedding=self.embedding, max_context=max_context, block=block)
