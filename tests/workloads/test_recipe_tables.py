"""Recipes with all tables: a made-up method in TOML alone, closed forms of what it changes, refusals, round trip."""

import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.sim.simulate import simulate
from mixflight.workloads.model import model_named, models
from mixflight.workloads.quantities import FITTING
from mixflight.workloads.recipe import recipe_named, recipes
from mixflight.workloads.recipe_checks import identical, rows_of, tolerances
from mixflight.workloads.recipe_text import to_toml
from mixflight.workloads.trace import decode_traces, prefill_trace

BASE = 'summary = "x"\n[weight]\n"*" = "int8"\n[act]\n"*" = "int8"\n[kv]\nk = "int8"\nv = "int8"\n'

MADE_UP = """
id = "X1"
summary = "a method that nobody published"
[scenario]
model = "smollm2-135m"
prefill = 64
decode = 24
[weight]
"*" = {t = "sum", terms = [{t = "int", b = 3, per = "group", group = 32}, {t = "prod", rank = 8, f = ["int8", "int8"]}]}
head = "int8"
[act]
"*" = {t = "int", b = 8, per = "token", static = true}
[kv]
k = {t = "split", axis = "token", parts = [[0.25, "int8"], [0.75, "int4"]]}
v = "int4"
window = {tokens = 8, k = "int8", v = "int8"}
evict = {slots = 48}
[[attn]]
pattern = "window"
tokens = 40
sink = 4
scorer = [{name = "guess", elementwise = [{elements = "B*H*S", adds = 1}]}]
[[ops]]
name = "twist"
at = ["qkv.in"]
matmul = [{n = "d", k = "d/3", weight = "int8", act = "int8"}]
[[topology]]
edit = "drop"
layers = [29]
[[tokens]]
site = "layer:10"
of = "all"
keep = 0.5
[decode]
kind = "speculative"
width = 4
kept = {law = "empirical", values = [1, 2, 3]}
draft = {layers = 3}
[[check]]
quantity = "layers"
reported = 29
confidence = "derived"
"""


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return recipe_named(str(path))


def test_a_made_up_method_needs_toml_alone(tmp_path):
    recipe, model = written(tmp_path, MADE_UP), model_named("smollm2-135m")
    first = prefill_trace(model, recipe, 64)
    assert {layer for op in first.operators for layer in op.layers} == {-1, *range(29)}
    by_name = {}
    for op in first.operators:
        by_name.setdefault(op.name, []).append(op)
    assert {(op.m, len(op.layers)) for op in by_name["q"]} == {(64, 10), (32, 19)}  # half the tokens from layer 10 on
    assert by_name["q.term1.down"][0].n == 8
    assert by_name["twist@qkv.in"][0].macs == 64 * 576 * 192
    assert by_name["attention_input_quantise"][0].variant == "static"
    steps = list(decode_traces(model, recipe, 64, 24))
    assert sum(step.kept for step in steps) == pytest.approx(24)
    assert all(step.tokens == 4 for step in steps)
    step = steps[-1].operators
    assert any(op.name == "draft.q" and len(op.layers) == 3 for op in step)
    assert any(op.name == "guess.elements" for op in step)
    assert max(op.n for op in step if op.kind == "qk" and not op.name.startswith("draft")) <= 48
    assert [row.status for row in rows_of(recipe)] == ["pass"]
    result = simulate(accelerator_named("mixpe-w4a8"), model, recipe, "mine", 64, 24)
    assert result.decode.time_ms > 0
    assert result.decode.energy.pj > 0


def test_every_preset_expands_and_is_written_and_read_back(tmp_path):
    for recipe in recipes().values():
        again = written(tmp_path, to_toml(recipe))
        for field in recipe.__struct_fields__:
            if field not in ("name", "family"):
                assert getattr(again, field) == getattr(recipe, field), (recipe.name, field)
        scenario = recipe.scenario or FITTING
        assert prefill_trace(model_named(scenario.model), recipe, scenario.prefill).macs > 0


def test_no_check_that_is_judged_fails_and_tolerances_exist():
    found = [row for recipe in recipes().values() for row in rows_of(recipe)]
    assert len(found) >= 15
    assert [row for row in found if row.status == "fail"] == []
    assert set(tolerances()) >= {"exact", "rounded", "loose"}


def test_identical_traces_are_found(tmp_path):
    one = recipe_named("w8a8")
    assert identical([one, written(tmp_path, to_toml(one)), recipe_named("w4a8g128")]) == [["w8a8", "mine"]]


def test_flightllm_is_what_its_publication_says():
    model, recipe = model_named("llama2-7b"), recipe_named("flightllm")
    trace = prefill_trace(model, recipe, 512)
    linears = [op for op in trace.operators if op.kind == "linear" and op.layers[0] >= 0]
    weights = sum(len(op.layers) * op.n * op.k for op in linears)
    assert sum(len(op.layers) * op.n * op.k * op.weight.bits for op in linears) / weights == pytest.approx(
        3.5, rel=5e-3
    )
    assert all((op.keep_n, op.keep_m) == (8, 16) for op in linears)
    assert sum(op.macs * len(op.layers) for op in linears) * 2 == 512 * weights
    assert all(op.index_bytes == op.n * op.k // 2 * 4 // 8 for op in linears)
    assert next(op for op in trace.operators if op.kind == "qk").density == pytest.approx(0.802)
    step = next(decode_traces(model, recipe, 512, 1))
    assert next(op for op in step.operators if op.kind == "qk").density == 1.0


def test_experts_are_the_expected_ones():
    model = model_named("mixtral-8x7b")
    step = next(decode_traces(model, recipe_named("fp16"), 9, 1))
    ups = [op for op in step.operators if op.name == "up"]
    assert [(op.count, op.m) for op in ups] == [(2, 1)]
    assert ups[0].weight_bytes == 2 * 2 * 4096 * 14336
    first = prefill_trace(model, recipe_named("fp16"), 512)
    assert sum(op.count * op.m for op in first.operators if op.name == "up") == 2 * 512


def test_every_model_expands():
    for model in models().values():
        assert prefill_trace(model, recipe_named("fp16"), min(64, model.context_length)).macs > 0


@pytest.mark.parametrize(
    ("table", "pattern", "message"),
    [
        ("weight", "layers.30.q", "must name layers 0 ... 29 of smollm2-135m, not 30"),
        ("act", "layers.31.*", "must name layers 0 ... 29 of smollm2-135m, not 31"),
        ("weight", "*.upp", r"must end with the name of a weight or a wildcard, not '\*\.upp' \(nearest: 'up'\)"),
        ("act", "layers.3.qkv", r"not 'layers\.3\.qkv' .*, in recipe 'mine', act"),
        ("weight", "attention", "must end with the name of a weight"),
    ],
)
def test_a_name_that_no_weight_has_is_refused(tmp_path, table, pattern, message):
    with pytest.raises(InputError, match=message):
        _expanded(tmp_path, BASE.replace(f"[{table}]\n", f'[{table}]\n"{pattern}" = "int4"\n'))


def _expanded(tmp_path, text):
    recipe = written(tmp_path, text)
    return prefill_trace(model_named("smollm2-135m"), recipe, 32), list(
        decode_traces(model_named("smollm2-135m"), recipe, 8, 4)
    )


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ('[[attn]]\npattern = "blok"\n', "unknown value 'blok'.*nearest valid value is 'block'"),
        ('[[attn]]\npattern = "window"\ntokns = 4\n', "unknown key 'tokns'.*nearest valid key is 'tokens'"),
        ('[[ops]]\nname = "a"\nat = ["qkv.inn"]\n', "nearest valid value is 'qkv.in'"),
        ('[[ops]]\nname = "a"\nat = ["qkv.in"]\nread_bytes = "d * z"\n', "a symbol must be one of"),
        ('[[ops]]\nname = "a"\nat = ["qkv.in"]\nread_bytes = "S"\n', "must stand at scores, kv.read, kv.write only"),
        ('[[ops]]\nname = "a"\nat = ["qkv.in"]\nlayers = [99]\nread_bytes = 1\n', "must name layers 0 ... 29"),
        ('[[kv.layers]]\nk = "int4"\nv = "int4"\nlayers = [30]\n', "kv.layers must name layers 0 ... 29, not 30"),
        ('[[topology]]\nedit = "drop"\nlayers = [77]\n', "must name layers of smollm2-135m that are there, not 77"),
        ('[[tokens]]\nsite = "layer:40"\nkeep = 0.5\n', "must be layer:0 ... layer:29"),
        ('[decode]\nkind = "speculative"\nwidth = 2\nkept = 3\n', "at most its 2 tokens, not 3"),
    ],
)
def test_what_a_table_cannot_say_is_refused(tmp_path, extra, message):
    with pytest.raises(InputError, match=message):
        _expanded(tmp_path, BASE + extra)
