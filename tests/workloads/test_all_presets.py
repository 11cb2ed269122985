"""The presets of methods: all 120 rows are there, once, in their families, with what the rows ask for."""

import pytest

from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipes
from mixflight.workloads.recipe_checks import identical
from mixflight.workloads.trace import decode_traces, prefill_trace

FAMILIES = {
    "quantisation": [f"Q{i}" for i in range(1, 18)],
    "structure": [f"S{i}" for i in range(1, 11)],
    "experts": [f"E{i}" for i in range(1, 6)],
    "cache": [f"K{i}" for i in range(1, 20)],
    "architecture": [f"R{i}" for i in range(1, 7)],
    "tokens": [f"T{i}" for i in range(1, 34)],
    "decoding": [f"D{i}" for i in range(1, 31)],
    "systems": ["A1"],
}
PRESETS = [recipe for recipe in recipes().values() if recipe.id]


def test_all_120_methods_are_there_once():
    wanted = [row for family, rows in FAMILIES.items() if family != "systems" for row in rows]
    assert len(wanted) == 120
    found = [recipe.id for recipe in PRESETS]
    assert sorted(found) == sorted([*wanted, *FAMILIES["systems"]])


@pytest.mark.parametrize("family", FAMILIES)
def test_presets_stand_in_their_family_and_say_where_they_come_from(family):
    for recipe in PRESETS:
        if recipe.family == family:
            assert recipe.id in FAMILIES[family], recipe.name
            assert recipe.scenario is not None, recipe.name
            assert recipe.source, recipe.name
            assert any(check.judged for check in recipe.check), recipe.name
            assert recipe.note or recipe.name == "cmoe", recipe.name  # CMoE's defaults leave nothing to assume


def test_no_two_methods_are_the_same_trace():
    assert identical(PRESETS) == []


def operators(name):
    """Operators of the prefill and of the first decode step of a preset, by name."""
    recipe = recipes()[name]
    scenario = recipe.scenario
    model = model_named(scenario.model)
    found = {}
    prefill = prefill_trace(model, recipe, scenario.prefill, 1, scenario.decode)
    step = next(iter(decode_traces(model, recipe, scenario.prefill, scenario.decode)))
    for op in (*prefill.operators, *step.operators):
        found.setdefault(op.name, []).append(op)
    return found


@pytest.mark.parametrize(
    ("name", "there", "gone"),
    [
        ("ostquant", ["hadamard_ffn@down.in", "hadamard_head@q.post_rope.elements"], []),
        ("vidit_q", ["cross_qk", "temporal_attention@attention.out.0"], []),
        ("crossquant", ["column_maximum@down.in.elements0", "rescale_qkv@qkv.in.elements"], []),
        ("pb_llm", ["q.part0", "q.part1", "q.part1.add"], ["q"]),
        ("ptq161", ["up.part0", "up.part1"], []),
        ("pv_tuning", ["q.lookup"], []),
        ("jlcm", ["down.lookup"], []),
        ("lq_lora", ["q.term1.down", "q.term1.up", "q.term1.up.add"], []),
        ("dynasegformer", ["gate@upgate.in.0", "rows_by_index@upgate.in.lookup"], []),
        ("fwsvd", ["q.down", "q.up"], ["q"]),
        ("cospadi", ["down.down", "down.up"], []),
        ("vq_logits", ["head_spread"], []),
        ("mc_moe", ["router", "token_importance@scores.elements", "expert_sum"], []),
        ("widenet", ["router", "expert_sum"], []),
        ("llsa", ["select.0", "select.1"], []),
        ("lamamba_diff", ["scan@attention.out.3", "scan@attention.out.elements0"], []),
        ("sambay", ["mamba@layer.in.0", "gated_memory@layer.in.1", "second_values@scores"], []),
        ("pldr", ["head_matrix@q.post_rope"], []),
        ("t5gemma", ["encoder.q", "cross_k", "cross_qk"], []),
        ("encoder_slm", ["encoder.down", "cross_o"], []),
    ],
)
def test_the_trace_holds_what_the_method_does(name, there, gone):
    found = operators(name)
    assert [item for item in there if item not in found] == []
    assert [item for item in gone if item in found] == []


def test_sambay_keeps_one_full_cache_and_windows():
    found = operators("sambay")
    assert len(found["q"][0].layers) == 8 + 1  # of the self-decoder: 8 windows and the full layer
    assert {layer for op in found["k"] for layer in op.layers} == {1, 3, 5, 7, 9, 11, 13, 15, 17}
    prefill, step = ([op for op in found["qk"] if (op.k, op.n in rows) == (64, True)] for rows in ({2048}, {512, 2049}))
    assert {(op.m, op.layers[0]) for op in prefill} == {
        *((4096, layer) for layer in range(1, 18, 2)), *((2, layer) for layer in range(19, 32, 2))
    }  # fmt: skip
    assert [op.n for op in step] == [512] * 8 + [2049] * 8


def test_widths_change_with_the_steps_of_a_denoiser():
    recipe = recipes()["vidit_q"]
    model = model_named("video-dit")
    bits = [
        {op.name: op.weight.bits for op in step.operators if op.name in ("q", "up")}
        for step in decode_traces(model, recipe, 1024, 1)
    ]
    assert [item["up"] for item in bits] == [4] * 6 + [8] * 5 + [4] * 9
    assert {item["q"] for item in bits} == {4}
