"""The presets of the later methods on tokens (T18 ... T33) and of decoding (D1 ... D30): all rows are there, their checks
hold, their traces contain what the methods do, and they run on an integer machine."""


import pytest
from method_presets import preset, traces

from mixflight.arch.accelerator import accelerator_named
from mixflight.sim.simulate import simulate
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.recipe_checks import identical, rows_of
from mixflight.workloads.trace import decode_traces, prefill_trace

IDS = [f"T{i}" for i in range(18, 34)] + [f"D{i}" for i in range(1, 31)]
FAMILY = {"T": "tokens", "D": "decoding"}


@pytest.mark.parametrize("row", IDS)
def test_a_row_says_where_it_is_from_and_its_checks_hold(row):
    recipe = preset(row)
    assert recipe.family == FAMILY[row[0]]
    assert all((recipe.source, recipe.confidence, recipe.note, recipe.scenario))
    assert [(found.quantity, found.ours) for found in rows_of(recipe) if found.status == "fail"] == []


# Parts of the prefill and of the first decode step that make the method what it is.
CONTAINS = {
    "T18": ({"captioner.q", "image.q", "video.q"}, set()),
    "T19": ({"streamer.q", "select_clips@embed.out.0"}, set()),
    "T20": ({"local_encoding@embed.out.0", "window_attention@embed.out.2", "video_attention@embed.out.2"}, set()),
    "T21": ({"vision.q", "again.q", "again.vision.q"}, set()),
    "T22": ({"scorer.q", "vision.q", "choose_clips@embed.out.0"}, set()),
    "T23": ({"patch_embedding@embed.out.0"}, set()),
    "T24": ({"motion_mask@embed.out.elements", "scene_merge@embed.out"}, set()),
    "T25": ({"similarity@embed.out"}, set()),
    "T26": ({"thumbnail.q", "sample@embed.out.lookup"}, set()),
    "T27": ({"merge@embed.out.0", "page_rank@scores"}, set()),
    "T28": ({"register_attention@embed.out.1"}, set()),
    "T29": ({"local_compression@embed.out.3", "global_compression@embed.out.3"}, set()),
    "T30": ({"regions.q", "crop.q", "region_map@embed.out"}, set()),
    "T31": ({"pixel_shuffle@embed.out.lookup"}, set()),
    "T32": ({"choose_frames@embed.out", "merge@embed.out"}, set()),
    "T33": ({"decode_latents@embed.out.0"}, {"decode_latents@embed.out.0"}),
    "D1": ({"draft.q"}, {"draft.q", "draft.head"}),
    "D2": (set(), {"delimiter@head.out.elements0"}),
    "D3": (set(), {"confidence@head.out.elements1"}),
    "D4": (set(), {"filter@head.out.0"}),
    "D5": (set(), {"credit@head.out.elements", "credit@head.out.bytes"}),
    "D6": (set(), {"entropy@head.out.elements"}),
    "D9": (set(), {"certainty@head.out.elements"}),
    "D10": ({"compress_visual@head.in.1", "draft.q"}, {"draft.patch_embed", "draft.head"}),
    "D11": (set(), {"draft.table.bytes", "update@kv.write.bytes"}),
    "D12": (set(), {"prompt_tokens@embed.out.lookup"}),
    "D13": ({"visual_adaptor@head.in.1", "draft.q"}, {"draft.patch_embed", "draft.head"}),
    "D14": (set(), {"draft.accelerator@layer.out.0", "draft.head"}),
    "D15": (set(), {"draft.q", "exit_tracking@head.out.elements0"}),
    "D16": (set(), {"draft.q", "draft.up"}),
    "D17": ({"draft.q"}, {"draft.q", "draft.head"}),
    "D18": ({"draft.q"}, {"draft.q", "draft.head"}),
    "D20": (set(), {"draft.table.bytes", "recycle@head.out.bytes"}),
    "D21": ({"draft.q"}, {"draft.q", "gumbel_top_k@head.out.elements"}),
    "D22": (set(), {"acceptance@head.out.elements"}),
    "D23": ({"draft.q"}, {"draft.q", "draft.head"}),
    "D25": (set(), {"superpose@embed.out.lookup", "interpolate@head.out.lookup"}),
    "D26": ({"draft.q", "feature_sampling@head.in.0"}, {"draft.q", "feature_sampling@head.in.0"}),
    "D27": ({"draft.q"}, {"diffusion_head@layer.out.1", "draft_diffusion_head@layer.out.1"}),
    "D29": ({"vision.q", "cross_q"}, {"cross_q", "extrapolate@head.out.elements"}),
    "D30": (set(), {"reorder", "dissimilarity@head.out.elements"}),
}


@pytest.mark.parametrize("row", CONTAINS)
def test_traces_contain_what_the_method_does(row):
    prefill, steps = traces(row)
    wanted_first, wanted_step = CONTAINS[row]
    assert wanted_first <= {op.name for op in prefill.operators}
    assert wanted_step <= {op.name for op in steps[0].operators}


# What the others are, in numbers of their steps: (tokens of the first steps, contexts of the first steps).
STEPS = {
    "D2": ([512, 16, 16, 16, 512], [512] * 5),
    "D7": ([1, 4, 9, 16, 25, 36, 64, 100, 169, 256], [2, 6, 15, 31, 56, 92, 156, 256, 169, 425]),
    "D8": ([256, 128, 256, 128], [256] * 4),
    "D19": ([1, 1, 1], [513, 514, 515]),
    "D23": ([1, 4], [513, 517]),
    "D24": ([1, 1], [1025, 1026]),
    "D28": ([1, 1], [513, 514]),
}


@pytest.mark.parametrize("row", STEPS)
def test_steps_are_those_of_the_method(row):
    found, (tokens, contexts) = traces(row)[1], STEPS[row]
    assert [step.tokens for step in found[: len(tokens)]] == tokens
    assert [step.context for step in found[: len(contexts)]] == contexts


def names(trace, name):
    return [op for op in trace.operators if op.name == name]


def test_layers_streams_and_chunks_of_schedules():
    assert sum(len(op.layers) for op in names(traces("D19")[1][0], "q")) == 16
    assert {op.m for op in names(traces("D28")[1][0], "q")} == {4}
    assert len(traces("D28")[1]) == 45  # 0.7 of 64
    assert {op.m for op in names(traces("D30")[1][0], "q")} == {6}
    assert {op.m for op in names(traces("D25")[1][0], "q")} == {1}
    assert {op.m for op in names(traces("D29")[0], "q")} == {8}  # two prompts of 4 tokens
    chunks = names(traces("D24")[0], "q")
    assert [op.m for op in chunks] == [256 + 17] * 4
    assert sorted(op.n for op in names(traces("D24")[0], "qk")) == [256, 512, 768, 1024]


def test_pruned_layers_see_and_cache_fewer_visual_tokens():
    prefill, steps = traces("T27")  # 1,568 merged tokens up to layer 14, none from layer 22 on, 128 of text
    rows = {layer: op.m for op in names(prefill, "q") for layer in op.layers}
    assert (rows[0], rows[14], rows[15], rows[21], rows[22]) == (1696, 1696, 1500, 324, 128)
    seen = {layer: op.n for op in names(steps[0], "qk") for layer in op.layers}
    assert (seen[0], seen[27]) == (1697, 129)


def test_a_parallel_draft_alternates_single_tokens_and_chains():
    steps = traces("D23")[1]
    assert {step.tokens for step in steps} == {1, 4}
    assert [next(op.probability for op in step.operators if op.name == "draft.q") for step in steps[:3]] == [8, 4, 4]
    for before, after in zip(steps, steps[1:], strict=False):
        if before.kept < before.tokens:
            assert after.tokens == 1


def test_the_reused_draft_saves_the_first_layers():
    steps = traces("D15")[1]
    for step in steps:
        assert {layer for op in names(step, "q") for layer in op.layers} == set(range(8, 32))
        drafted = {op.probability for op in step.operators if op.name == "draft.head"}
        assert drafted == {step.tokens - 1}


def test_no_two_presets_are_the_same():
    assert identical([preset(row) for row in IDS]) == []


@pytest.mark.parametrize("row", IDS)
def test_a_preset_runs_on_integer_hardware(row):
    recipe = preset(row)
    found = simulate(
        accelerator_named("mixpe-w4a8"), model_named(recipe.scenario.model), recipe, recipe.name,
        recipe.scenario.prefill, min(recipe.scenario.decode, 64), float_operands="int8",
    )  # fmt: skip
    for phase in (found.prefill, found.decode):
        assert phase.time_ms > 0
        assert phase.energy.pj > 0


def test_three_samples_cost_three_streams():
    model, samples, one = model_named("llama2-7b"), recipe_named("three_samples"), recipe_named("fp16")
    macs = [next(decode_traces(model, recipe, 64, 4)).macs for recipe in (samples, one)]
    assert macs[0] == 3 * macs[1]
    assert prefill_trace(model, samples, 64).macs == prefill_trace(model, one, 64).macs
