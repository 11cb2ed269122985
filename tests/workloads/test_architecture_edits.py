"""Closed forms of edits that change what attention and experts see."""

import pytest

from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

F16 = 'summary = "x"\n[weight]\n"*" = "f16"\n[act]\n"*" = "f16"\n[kv]\nk = "f16"\nv = "f16"\n'


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(F16 + text)
    return recipe_named(str(path))


def named(trace, name):
    return [op for op in trace.operators if op.name == name]


def test_layers_of_a_shared_cache_see_its_tokens_where_few_reach_them(tmp_path):
    recipe = written(tmp_path, """
[[topology]]
edit = "share_kv"
layers = [20, 21, 22, 23, 24, 25, 26, 27, 28, 29]
[[tokens]]
site = "layer:20"
of = "all"
to = 1
""")  # fmt: skip
    model = model_named("smollm2-135m")
    first = prefill_trace(model, recipe, 64)
    assert {(op.m, op.n, len(op.layers)) for op in named(first, "qk")} == {(64 * 3, 64, 20), (3, 64, 10)}
    assert {(op.m, len(op.layers)) for op in named(first, "down")} == {(64, 20), (1, 10)}
    assert {len(op.layers) for op in named(first, "k")} == {20}
    step = list(decode_traces(model, recipe, 64, 3))[-1]
    assert {op.n for op in named(step, "qk")} == {67}


def test_a_window_without_a_causal_mask_is_its_share_of_all_pairs(tmp_path):
    recipe = written(tmp_path, """
[[attn]]
pattern = "window"
tokens = 64
[decode]
kind = "denoise"
steps = 2
""")  # fmt: skip
    model = model_named("dit-xl-2")
    (op,) = named(prefill_trace(model, recipe, 1024), "qk")
    assert op.macs == 16 * 1024 * 64 * 72


@pytest.mark.parametrize("active", [1, 1.25, 2])
def test_one_token_reads_its_mean_number_of_experts(tmp_path, active):
    recipe = written(tmp_path, f'[[topology]]\nedit = "experts"\nexperts = 8\nactive = {active}\n')
    model = model_named("mixtral-8x7b")
    step = next(decode_traces(model, recipe, 8, 1))
    read = sum(len(op.layers) * op.weight_bytes * op.probability for op in named(step, "gate"))
    assert read == 32 * active * 4096 * 14336 * 2
