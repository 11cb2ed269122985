"""The presets of cache methods (K1 ... K19) and of the first methods on tokens (T1 ... T17): all rows are there, their
checks hold, and their traces contain what the methods do beside a format or a number of tokens."""


import pytest
from method_presets import preset, traces

from mixflight.workloads.recipe_checks import rows_of

IDS = [f"K{i}" for i in range(1, 20)] + [f"T{i}" for i in range(1, 18)]
FAMILY = {"K": "cache", "T": "tokens"}


@pytest.mark.parametrize("row", IDS)
def test_a_row_says_where_it_is_from_and_its_checks_hold(row):
    recipe = preset(row)
    assert recipe.family == FAMILY[row[0]]
    assert all((recipe.source, recipe.confidence, recipe.note, recipe.scenario))
    assert [(found.quantity, found.ours) for found in rows_of(recipe) if found.status == "fail"] == []
    prefill, steps = traces(row, 2)
    assert prefill.macs > 0
    assert all(step.macs > 0 for step in steps)


CONTAINS = {
    "K1": ({"average_attention@scores.elements0"}, {"average_attention@scores.elements0"}),
    "K3": ({"k_up", "v_absorbed"}, {"k_up", "v_absorbed"}),
    "K5": ({"first_history@scores"}, {"block_maximum@scores.elements", "predictor.0", "predictor.1", "predictor.2"}),
    "K6": ({"magnitude_select@kv.write.elements"}, {"magnitude_select@kv.write.elements"}),
    "K7": ({"power_iteration@kv.write"}, {"qk", "av"}),
    "K8": ({"transform@kv.write.elements"}, {"inverse_transform@kv.read.elements"}),
    "K9": ({"probe_scores@scores"}, {"probe_again@scores"}),
    "K10": ({"probe_scores@scores"}, {"qk"}),
    "K11": ({"importance@scores.elements0", "vision.q"}, {"qk"}),
    "K12": ({"expand_keys@kv.read", "expand_keys@kv.read.elements"}, {"expand_keys@kv.read"}),
    "K13": ({"retrieve", "probe_query@q.post_rope.elements"}, {"retrieve", "retrieve.bytes"}),
    "K16": ({"rotate_keys@kv.write.elements", "rotate_keys@kv.write.bytes"}, {"qk"}),
    "K17": ({"coprocessor.q", "read_cache@kv.read.0"}, {"qk"}),
    "K18": ({"qk", "vision.q"}, {"chunk_relevance"}),
    "K19": ({"key_norm@kv.write.elements0"}, {"qk"}),
    "T1": ({"compress@embed.out.0", "vision.q"}, {"qk"}),
    "T2": ({"encoder.q", "projector@embed.out.1"}, {"qk"}),
    "T3": ({"context.q", "projector@embed.out.1"}, {"qk"}),
    "T4": ({"chunks.q", "projector@embed.out.0"}, {"qk"}),
    "T5": ({"scorer.q", "scorer_head@embed.out"}, {"qk"}),
    "T7": ({"qk"}, {"capsule@head.in.0"}),
    "T8": ({"cosine_transform@embed.out.elements0"}, {"qk"}),
    "T9": ({"unrotated_scores@scores"}, {"qk"}),
    "T10": ({"fusion.q", "compressor@embed.out.0"}, {"qk"}),
    "T11": ({"resampler@embed.out.1", "vision.q"}, {"qk"}),
    "T12": ({"frame_mean@embed.out.elements"}, {"qk"}),
    "T13": ({"predictor@layer.out.0"}, {"predictor@layer.out.1"}),
    "T14": ({"dual_attention@scores.elements0", "similarity@embed.out"}, {"qk"}),
    "T15": ({"clip_aligner@embed.out.0"}, {"qk"}),
    "T16": ({"cross_qk", "cross_k", "vision.q"}, {"cross_qk", "cross_q"}),
    "T17": ({"query_transformer@embed.out.2", "scene_similarity@embed.out"}, {"qk"}),
}


@pytest.mark.parametrize("row", CONTAINS)
def test_a_trace_contains_the_operators_of_the_method(row):
    prefill, steps = traces(row, 2)
    first, later = CONTAINS[row]
    assert first <= {op.name for op in prefill.operators}
    assert later <= {op.name for step in steps for op in step.operators}


def _formats(trace, name="qk"):
    return {op.weight.name for op in trace.operators if op.name == name}


def test_caches_of_several_formats_are_computed_part_by_part():
    for row in ("K2", "K4", "K9", "K10"):  # pivots, layers, salient tokens
        prefill, steps = traces(row, 2)
        assert len(_formats(prefill)) > 1, row
        assert len(_formats(steps[0])) > 1, row
    low_rank = {(op.n, op.k) for op in traces("K7", 2)[1][0].operators if op.name == "qk"}
    assert {(4, 128), (1024, 4), (1024, 128)} <= low_rank  # the factors of 64-token blocks beside codes and outliers


def test_heads_and_layers_have_budgets_of_their_own():
    duo = [op for op in traces("K14", 2)[1][0].operators if op.name == "qk"]
    assert {op.n for op in duo} == {320, 16385}
    assert len({op.count for op in duo if op.n == 320}) > 10  # streaming heads of a layer
    assert len({op.n for op in traces("K11", 2)[1][0].operators if op.name == "qk"}) > 20
    assert {op.n for op in traces("K13", 2)[1][0].operators if op.name == "qk"} == {2048, 4096}


def test_loaded_keys_are_not_computed():
    prefill, _ = traces("K16", 2)
    assert {op.m for op in prefill.operators if op.name == "q"} == {128}
    assert {op.n for op in prefill.operators if op.name == "qk" and op.m == 128} == {3968, 128}


def test_what_a_predictor_costs_against_the_attention_that_it_replaces():
    """A published predictor runs 309 M products a head and step at 16 K tokens; scores and output take 4.2 M."""
    step = traces("K5", 2)[1][1]
    predictor = sum(op.macs for op in step.operators if op.name.startswith("predictor"))
    assert predictor / 32 == pytest.approx(309e6, rel=2e-3)
    assert predictor > 70 * 32 * 2 * 128 * 16384


def test_pruned_values_save_bytes_and_no_multiplies():
    recipe, (prefill, _) = preset("K6"), traces("K6", 2)
    tokens = recipe.scenario.prefill
    assert sum(len(op.layers) * op.macs for op in prefill.operators if op.name == "qk") == (
        32 * 32 * 128 * tokens * (tokens + 1) // 2
    )
