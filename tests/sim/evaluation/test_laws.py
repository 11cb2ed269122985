"""Laws recorded from the real model: they add up, and agree with figures taken independently of this code."""

import command_line
import numpy as np
import pytest

from mixflight.sim.evaluation.laws import EDGES, LAYOUT, measure
from mixflight.sim.evaluation.text import evaluation_text
from mixflight.sim.golden.llama import load_llama
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of


@pytest.fixture(scope="module")
def found(smollm2_path):
    file = open_gguf(smollm2_path)
    tokens = tokenizer_of(file).encode(evaluation_text())[:160]
    return measure(load_llama(file), tokens).arrays


def test_attention_mass_adds_up(found):
    """Sink and distances hold all of a query's mass; the first query has nothing but key 0."""
    whole = found["attention_mass"].sum(axis=2) + (found["attention_sink"] * 159 + 1) / 160
    np.testing.assert_allclose(whole, 1, atol=1e-4)
    assert found["attention_mass"].shape == (30, 9, len(EDGES) - 1)
    assert not found["attention_mass"][:, :, EDGES.index(256) :].any()  # the text has 160 tokens


def test_the_first_key_is_a_sink(found):
    """On another text of 512 tokens: 30 % of all mass, above half in a quarter of the heads."""
    assert 0.2 < found["attention_sink"].mean() < 0.45
    assert 0.15 < (found["attention_sink"] > 0.5).mean() < 0.45


def test_few_neurons_hold_most(found):
    """On another text: the largest quarter holds 67 % of the sum of magnitudes and 93 % of that of squares."""
    at = int(np.flatnonzero(np.isclose(found["neuron_shares"], 0.25))[0])
    assert found["neuron_l1"][:, at].mean() == pytest.approx(0.67, abs=0.04)
    assert found["neuron_l2"][:, at].mean() == pytest.approx(0.93, abs=0.04)
    for power in ("neuron_l1", "neuron_l2"):
        assert (np.diff(found[power], axis=1) >= 0).all()
        np.testing.assert_allclose(found[power][:, -1], 1)


def test_ranges_hold_the_root_mean_square(found):
    for part in ("key", "value"):
        widest = np.maximum(-found[f"{part}_low"], found[f"{part}_high"])
        assert widest.shape == (30, 3, 64)
        assert (found[f"{part}_rms"] <= widest * 1.0001).all() and (found[f"{part}_rms"] > 0).all()


def test_the_file_holds_what_its_layout_says(smollm2_path, tmp_path):
    path = tmp_path / "laws.npz"
    document = command_line.document("trace", smollm2_path, "--record", "The capital of France is", "-o", path)
    held = np.load(path)
    named = {name for names in LAYOUT for name in names.split(", ") if "ROLE" not in name}
    assert named <= set(held.files)
    assert {name for name in held.files if name not in named} == {
        f"{kind}_{role}{end}" for kind in ("weights", "activations") for role in document[kind] for end in ("", "_lowest")
    }  # fmt: skip
    assert held["weights_all"].tolist() == document["weights"]["all"]["counts"]
    assert int(held["tokens"]) == 5 and str(held["model"]) == document["model"]
    assert path.stat().st_size < 400_000
