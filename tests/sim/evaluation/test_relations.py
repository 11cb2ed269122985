"""What recipes cost on the real model: the order that was found independently of this code, on one window."""

import numpy as np
import pytest

from mixflight.evaluate import evaluation_recipe
from mixflight.sim.evaluation.bind import numerics_of
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.score import Perplexity, golden, losses, windows
from mixflight.sim.evaluation.text import evaluation_text
from mixflight.sim.golden.llama import load_llama
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

RECIPES = ("kv8", "a8-token", "k8v4", "k4v8", "kv4", "a4-token", "a16", "a16-kv8")


@pytest.fixture(scope="module")
def scored(smollm2_path):
    file = open_gguf(smollm2_path)
    llama = load_llama(file)
    window = windows(tokenizer_of(file).encode(evaluation_text()))[0]
    found = {name: losses(window, golden(llama, numerics_of(evaluation_recipe(name), llama))) for name in RECIPES}
    return found | {"unquantised": losses(window, Emulated(llama).logits())}


def ratio(scored, name, to="unquantised"):
    return Perplexity.ratio(scored[name], scored[to])[0]


@pytest.mark.slow
def test_relations(scored):
    assert all(np.isfinite(found).all() for found in scored.values())
    # FP16 activations and cache in golden arithmetic are the unquantised forward pass, but for rounding.
    assert ratio(scored, "a16") == pytest.approx(1, abs=0.002)
    # INT8 keys and values cost nearly nothing.
    assert ratio(scored, "a16-kv8") == pytest.approx(1, abs=0.005)
    # INT8 activations: nearly nothing in groups of 32, a few per cent per token.
    assert ratio(scored, "kv8") == pytest.approx(1, abs=0.015)
    assert 1.01 < ratio(scored, "a8-token") < 1.08
    # Four bits for values are better than four bits for keys, and both are better than four bits for all.
    assert 0.99 < ratio(scored, "k8v4", "kv8") < ratio(scored, "k4v8", "kv8") < ratio(scored, "kv4", "kv8") < 1.3
    # INT4 activations per token are no model any more.
    assert ratio(scored, "a4-token") > 100
