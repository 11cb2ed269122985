"""Recipes' tables as golden arithmetic or as emulation; what neither can do is refused by name."""

import dataclasses

import msgspec
import pytest

from mixflight.arch.errors import InputError
from mixflight.arch.formats import FORMATS
from mixflight.evaluate import evaluation_recipe, evaluation_recipes
from mixflight.sim.evaluation.bind import compression_of, numerics_of
from mixflight.sim.evaluation.compression import Blocks, Cached, Pruning, TopKeys, Window
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.prepare import stored_formats
from mixflight.sim.golden.llama import load_llama
from mixflight.sim.golden.numerics import Activation
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.llama_gguf import weights_of
from mixflight.workloads.recipe import Recipe

Q, DOWN, HEAD = "blk.0.attn_q.weight", "blk.0.ffn_down.weight", "token_embd.weight"


@pytest.fixture(scope="module")
def model(smollm2_path):
    file = open_gguf(smollm2_path)
    return load_llama(file), stored_formats(weights_of(file))


def compression(model, name):
    recipe = evaluation_recipe(name)
    assert numerics_of(recipe, model[0]) is None
    return compression_of(recipe, *model)


def changed(**tables):
    recipe = msgspec.to_builtins(evaluation_recipe("kv8")) | tables
    return msgspec.convert(recipe, Recipe)


def test_every_evaluation_recipe_can_be_evaluated(model):
    golden = {name for name, recipe in evaluation_recipes().items() if numerics_of(recipe, model[0])}
    assert {"kv8", "a4-token", "w-mxfp4", "w-q4k", "w-nf4-g64", "kv4"} <= golden
    for name in set(evaluation_recipes()) - golden:
        assert compression(model, name) is not None
    assert len(evaluation_recipes()) >= 30


def test_formats_patterns_and_caches(model):
    plain = compression(model, "unquantised")
    assert not plain.weights and not plain.activations and plain.keys is None and plain.pattern is None
    half = compression_of(evaluation_recipe("fp16"), *model)
    assert half.weights[Q] == FORMATS["f16"] and half.activations[HEAD] == Activation(group=0, levels=0)
    turned = compression(model, "a4-kronecker")
    assert set(turned.rotations) == set(model[0].linears)  # the rotated weights are rounded again
    assert turned.weights[DOWN] == FORMATS["q4_1"] and turned.activations[DOWN] == Activation(group=0, levels=7)
    channels = compression(model, "kv4-channel")
    assert channels.keys == Cached(bits=4, per_channel=True, group=32)
    assert channels.values == Cached(bits=4)
    sparse = compression(model, "w4-2of4")
    assert sparse.pruned[Q] == Pruning(n=2, m=4) and HEAD not in sparse.pruned
    patterns = {name: compression(model, name).pattern for name in ("window-128-sink", "top-64", "blocks-30")}
    assert list(patterns.values()) == [Window(tokens=128, sink=4), TopKeys(budget=64), Blocks(size=64, density=0.3)]


def test_what_is_done_to_weights_is_said(model):
    assert compression(model, "w4-2of4").sentences() == ("210 weights pruned to 2 of 4, rounded to int4-g32",)
    assert set(compression(model, "a4-hadamard").sentences()) == {
        "210 weights rotated (hadamard, random), rounded to q4_1", "1 weights rotated (hadamard, random), rounded to q8_0",
    }  # fmt: skip


def test_absent_weights_stay_absent(model):
    llama, stored = model
    name = "blk.0.attn_k.weight"
    found = Emulated(
        alone(llama, name), compression_of(evaluation_recipe("w4-2of4"), llama, stored)
    ).weights[name]
    assert ((found.reshape(-1, 4) != 0).sum(axis=1) <= 2).all()
    assert 0.4 < (found != 0).mean() <= 0.5


def alone(llama, name):
    """The model with one linear alone, which is all that a constructor needs to round it."""
    return dataclasses.replace(llama, linears={name: llama.linears[name]})


@pytest.mark.parametrize(("tables", "message"), [
    ({"kv": {"k": "int8", "v": "int8", "pivot": {"tokens": 4}}}, "kv must be alike for all layers"),
    ({"attn": [{"pattern": "window", "tokens": 8, "layers": [1]}]}, "attn must be a window"),
    ({"ops": [{"name": "gate", "at": ["down.in"]}]}, "kronecker or hadamard at the inputs of linears"),
    ({"tokens": [{"site": "pre_llm", "keep": 0.5}]}, "must leave tokens as the model has it"),
])
def test_what_cannot_be_evaluated_is_refused_by_name(model, tables, message):
    recipe = changed(**tables)
    assert numerics_of(recipe, model[0]) is None
    with pytest.raises(InputError, match=message):
        compression_of(recipe, *model)


def test_a_weight_that_is_a_sum_is_refused(model):
    terms = {"t": "sum", "terms": ["int4", "int4"]}
    with pytest.raises(InputError, match="an integer with FP16 scales or a named format"):
        numerics_of(changed(weight={"*": terms}), model[0])


def test_a_pruned_weight_must_be_cut_evenly(model):
    llama, stored = model
    leaf = {"t": "int", "b": 4, "per": "group", "group": 32, "sparse": {"kind": "nm", "n": 2, "m": 5}}
    plan = compression_of(changed(weight={"*": leaf, "head": "q8_0"}), llama, stored)
    with pytest.raises(InputError, match="5 does not divide 576"):
        Emulated(alone(llama, Q), plan)
