"""Drafts, parallel drafts, towers that decode, repeated prefills, diffusion and schedules: closed forms of their traces."""

from collections import Counter

import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.decoding import Denoise, Diffusion, Draft, Schedule, Speculative, steps
from mixflight.workloads.law import Draws, Geometric, Recorded
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

BASE = 'summary = "x"\n[weight]\n"*" = "int8"\n[act]\n"*" = "int8"\n[kv]\nk = "int8"\nv = "int8"\n'
SMALL = model_named("smollm2-135m")
LINEARS = 576 * 576 * 2 + 2 * 576 * 192 + 3 * 576 * 1536  # MACs of a token in a block of smollm2-135m


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(BASE + text)
    return recipe_named(str(path))


def linear_macs(operators, prefix=""):
    names = {f"{prefix}{name}" for name in ("q", "k", "v", "o", "gate", "up", "down")}
    return sum(len(op.layers) * op.macs * op.probability for op in operators if op.name in names)


def test_recorded_values_come_in_order_from_the_place_of_the_seed(tmp_path):
    path = tmp_path / "kept.csv"
    path.write_text("kept\n3\n1\n4\n")
    draws = Draws(Recorded(file=str(path), column="kept", seed=1))
    assert [draws.next() for _ in range(5)] == [1, 4, 3, 1, 4]
    two = Speculative(width=4, kept=Recorded(file=str(path), column="kept"))
    assert [step.kept for step in steps(two, 8, 11)] == [3, 1, 4, 3]


def test_a_parallel_draft_is_a_step_ahead_and_single_tokens_are_verified_after_a_refusal():
    law = Geometric(p=0.7, most=4, seed=3)
    found = list(steps(Speculative(width=4, kept=law, draft=Draft(layers=1, passes=4), parallel=True), 16, 200))
    draws = Draws(law)
    wanted, single, done = [], True, 0.0
    while done < 200:
        kept, tokens = draws.next(), 1 if single else 4
        wanted.append((tokens, min(kept, tokens, 200 - done)))
        done += wanted[-1][1]
        single = kept <= tokens
    assert [(step.tokens, step.kept) for step in found] == wanted
    assert {step.tokens for step in found} == {1, 4}
    assert [step.draft_passes for step in found[:3]] == [8, 4, 4]  # one more set before the first step
    assert all(step.ahead == 4 for step in found)
    plain = list(steps(Speculative(width=4, kept=law, draft=Draft(layers=1, passes=4)), 16, 200))
    assert all(step.tokens == 4 and step.ahead == 0 for step in plain)


def test_parallel_changes_the_trace(tmp_path):
    text = (
        '[decode]\nkind = "speculative"\nwidth = 3\nkept = {law = "geometric", p = 0.6, most = 3}\n'
        "draft = {layers = 2, passes = 3}\nparallel = "
    )
    together, after = (list(decode_traces(SMALL, written(tmp_path, text + flag), 16, 40)) for flag in ("true", "false"))
    assert [step.operators for step in together] != [step.operators for step in after]
    # The draft of the first step sees the three tokens that the target has not verified.
    seen = [max(op.n for op in run[0].operators if op.name == "draft.qk") for run in (together, after)]
    assert seen == [16 + 1 + 3, 16 + 3]


@pytest.mark.parametrize(("draft", "layers"), [("layers = 3", 3), ("share = 0.2", 6)])
def test_a_self_draft_costs_its_layers(tmp_path, draft, layers):
    recipe = written(tmp_path, f'[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\ndraft = {{{draft}, passes = 4}}')
    step = next(decode_traces(SMALL, recipe, 16, 4))
    assert linear_macs(step.operators, "draft.") == 4 * layers * LINEARS
    assert linear_macs(step.operators) == 5 * 30 * LINEARS
    assert {op.probability for op in step.operators if op.name == "draft.head"} == {4}


def test_a_self_draft_that_is_reused_is_not_computed_again(tmp_path):
    text = '[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\ndraft = {layers = 10, passes = 4, reuse = true}'
    step = next(decode_traces(SMALL, written(tmp_path, text), 16, 4))
    assert linear_macs(step.operators) == 5 * 20 * LINEARS
    assert linear_macs(step.operators, "draft.") == 5 * 10 * LINEARS  # 4 drafted tokens and the newest one
    assert {op.probability for op in step.operators if op.name == "draft.head"} == {4}
    assert not any(op.name == "embed" for op in step.operators)


def test_a_draft_may_skip_sublayers_of_the_target(tmp_path):
    text = (
        '[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\n'
        'draft = {passes = 4, skip = [{edit = "drop", share = 0.5, sublayer = "attention"}, '
        '{edit = "drop", share = 0.3, sublayer = "ffn"}]}'
    )
    step = next(decode_traces(SMALL, written(tmp_path, text), 16, 4))
    count = Counter({op.name: len(op.layers) for op in step.operators if op.name in ("draft.q", "draft.up")})
    assert count == {"draft.q": 15, "draft.up": 21}


def test_a_draft_model_has_a_cache_that_a_prefill_fills(tmp_path):
    text = '[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\ndraft = {model = "smollm2-135m", passes = 4'
    target = model_named("llama2-7b")
    first = prefill_trace(target, written(tmp_path, text + "}"), 64)
    assert linear_macs(first.operators, "draft.") == 64 * 30 * LINEARS
    assert not any(op.name == "draft.head" for op in first.operators)
    short = prefill_trace(target, written(tmp_path, text + ', context = "S/4"}'), 64)
    assert linear_macs(short.operators, "draft.") == 16 * 30 * LINEARS
    own = prefill_trace(SMALL, written(tmp_path, text.replace('model = "smollm2-135m"', "layers = 2") + "}"), 64)
    assert not any(op.name.startswith("draft.") for op in own.operators)


def test_drafts_that_contradict_themselves_are_refused(tmp_path):
    text = '[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\ndraft = '
    for draft in ("{layers = 2, share = 0.5}", '{model = "smollm2-135m", reuse = true}', "{layers = 99}"):
        with pytest.raises(InputError):
            next(decode_traces(SMALL, written(tmp_path, text + draft), 16, 4))


def test_strategies_that_cannot_run_are_refused(tmp_path):
    tower = '[[topology]]\nedit = "tower"\nname = "cap"\nmodel = "vit-b-16"\ntokens = 20\ndecode = 7'
    with pytest.raises(InputError, match="must be a decoder, not vit-b-16"):
        prefill_trace(SMALL, written(tmp_path, tower), 16)
    for text, why in (
        ('kind = "speculative"\nwidth = 5\nkept = 2\nparallel = true', "must have a draft"),
        ('kind = "denoise"\nsteps = 4\ncheap = 4', "cheap must be less than the 4 steps, not 4"),
        ('kind = "diffusion"\nkept = 2\nblock = 0.2', "at least 1 token, not 0"),
        ('kind = "autoregressive"\nagain = -1', "again"),
    ):
        with pytest.raises(InputError, match=why):
            list(decode_traces(SMALL, written(tmp_path, f"[decode]\n{text}"), 16, 4))


def test_the_draft_of_a_target_with_fewer_tokens_sees_those(tmp_path):
    text = (
        '[[tokens]]\nsite = "pre_llm"\nof = "all"\nkeep = 0.5\n'
        '[decode]\nkind = "speculative"\nwidth = 5\nkept = 2\ndraft = {model = "smollm2-135m", context = "S-2"}'
    )
    first = prefill_trace(model_named("llama2-7b"), written(tmp_path, text), 64)
    assert linear_macs(first.operators, "draft.") == 30 * 30 * LINEARS


def test_a_tower_that_decodes_runs_its_steps_before_the_prefill(tmp_path):
    recipe = written(tmp_path, '[[topology]]\nedit = "tower"\nname = "cap"\nmodel = "smollm2-135m"\ntokens = 20\n'
                               "times = 3\ndecode = 7")  # fmt: skip
    first = prefill_trace(model_named("llama2-7b"), recipe, 32)
    assert linear_macs(first.operators, "cap.") == 3 * (20 + 7) * 30 * LINEARS
    contexts = sorted(op.n for op in first.operators if op.name == "cap.qk")
    assert contexts == list(range(20, 28))
    assert sum(len(op.layers) for op in first.operators if op.name == "cap.head") == 7 + 1


def test_a_repeated_prefill_sees_all_tokens_as_often_as_expected(tmp_path):
    model = model_named("llava-1.5-7b")
    text = (
        '[[topology]]\nedit = "tower"\nname = "vision"\nmodel = "clip-vit-l-336"\ntokens = 144\nlayers = 23\n'
        '[[tokens]]\nsite = "pre_llm"\nkeep = 0.25\n[decode]\nkind = "autoregressive"\nagain = '
    )
    once, mean = (prefill_trace(model, written(tmp_path, text + times), 640).operators for times in ("0.0", "0.3"))
    whole = prefill_trace(model, written(tmp_path, ""), 640).operators
    macs = [sum(len(op.layers) * op.macs * op.probability for op in part) for part in (once, mean, whole)]
    assert macs[1] == pytest.approx(macs[0] + 0.3 * macs[2])
    assert {op.probability for op in mean if op.name.startswith("again.")} == {0.3}


@pytest.mark.parametrize(
    ("cache", "widths"),
    [("none", [48] * 8), ("prefix", [48, 32, 32, 32, 48, 16, 16, 16]), ("dual", [48, 16, 16, 16] * 2)],
)
def test_diffusion_processes_the_canvas_the_rest_or_the_block(cache, widths):
    found = list(steps(Diffusion(kept=4, length=32, block=16, cache=cache), 16, 32))
    assert [step.tokens for step in found] == widths
    assert all(step.context == 48 and not step.causal for step in found)
    assert sum(step.kept for step in found) == 32


def test_diffusion_ends_with_the_block_in_which_its_end_is_found():
    found = list(steps(Diffusion(kept=8, length=64, block=16, truncate=0.4), 10, 64))
    assert len(found) == 2 * 2
    assert all(step.tokens == 74 for step in found)


@pytest.mark.parametrize("cheap", range(8))
def test_cheap_steps_are_spread_behind_the_first(cheap):
    found = [step.tokens for step in steps(Denoise(steps=8, cheap=cheap, queries=0.5), 64, 1)]
    assert found.count(32) == cheap
    assert found[0] == 64
    places = [place for place, tokens in enumerate(found) if tokens == 32]
    assert all(abs(b - a - 8 / cheap) < 1 for a, b in zip(places, places[1:], strict=False))


def test_a_schedule_hands_over_to_a_small_model_with_a_cache_of_its_own(tmp_path):
    found = list(steps(Schedule(widths=(1, 4, 9, 16), small="smollm2-135m", small_from=2), 1, 30))
    assert [(step.tokens, step.context, step.model) for step in found] == [
        (1, 2, ""), (4, 6, ""), (9, 9, "smollm2-135m"), (16, 25, "smollm2-135m"),
    ]  # fmt: skip
    recipe = written(
        tmp_path, '[decode]\nkind = "schedule"\nwidths = [1, 4, 9]\nsmall = "smollm2-135m"\nsmall_from = 2'
    )
    traces = list(decode_traces(model_named("llama2-7b"), recipe, 1, 14))
    assert [max(len(op.layers) for op in trace.operators) for trace in traces] == [32, 32, 30]
    assert linear_macs(traces[2].operators) == 9 * 30 * LINEARS
