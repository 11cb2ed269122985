"""Parts of a cache in a prefill, chunks with token flows and eviction, and what the tables of tokens and towers add:
closed forms."""

import pytest

from mixflight.workloads.check import Check
from mixflight.workloads.model import model_named
from mixflight.workloads.quantities import measure
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

BASE = 'summary = "x"\n[weight]\n"*" = "int8"\n[act]\n"*" = "int8"\n'
PLAIN = '[kv]\nk = "int8"\nv = "int8"\n'
MODEL = model_named("smollm2-135m")  # 30 layers, 9 heads on 3 of 64


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(BASE + text)
    return recipe_named(str(path))


def total(trace, field, *names):
    return sum(len(op.layers) * getattr(op, field) for op in trace.operators if op.name in names)


PARTS = """
[kv]
k = {t = "split", axis = "token", parts = [[0.25, "int8"], [0.75, "int4"]], side_bits = 0.125}
v = "int8"
pivot = {tokens = 5, k = "int8", v = "int8"}
window = {tokens = 16, k = "int8", v = "int8"}
"""


def test_parts_of_a_cache_tile_the_causal_triangle_of_a_prefill(tmp_path):
    trace = prefill_trace(MODEL, written(tmp_path, PARTS), 101)
    triangle = 30 * 9 * 64 * 101 * 102 // 2
    assert total(trace, "macs", "qk") == triangle
    assert total(trace, "macs", "av") == triangle
    keys = [op for op in trace.operators if op.name == "qk"]
    assert {(op.n, op.weight.name) for op in keys} == {(5, "int8"), (20, "int8"), (60, "int4"), (16, "int8")}
    assert [(op.m // 3, op.n) for op in keys if op.weight.name == "int4"] == [(60, 60), (16, 60)]  # seen by the window
    row8, row4 = 64 * 8 + 16, 64 * 4 + 16
    bits = 3 * (41 * row8 + 60 * row4) + 3 * 80 * 64 // 8
    assert total(trace, "kv_read_bytes", "qk") == 30 * bits // 8


def test_one_format_stays_one_product(tmp_path):
    trace = prefill_trace(MODEL, written(tmp_path, PLAIN), 64)
    assert [(op.m, op.n) for op in trace.operators if op.name == "qk"] == [(192, 64)]


CHUNKED = '[decode]\nkind = "autoregressive"\nchunk = 32\n'


def test_chunks_see_what_flows_left_of_earlier_ones(tmp_path):
    flow = (
        '[[tokens]]\nsite = "cache"\nof = "all"\nkeep = 0.25\n[[tokens]]\nsite = "layer:10"\nof = "all"\nkeep = 0.5\n'
    )
    trace = prefill_trace(MODEL, written(tmp_path, PLAIN + flow + CHUNKED), 96)
    pairs = 0
    for kept, new, layers in ((8, 32, 10), (4, 16, 20)):
        pairs += layers * sum(new * (chunk * kept) + new * (new + 1) // 2 for chunk in range(3))
    assert total(trace, "macs", "qk") == 9 * 64 * pairs
    assert total(trace, "m", "q") == 96 * 10 + 48 * 20
    assert total(trace, "m", "kv_append") == 96 * 10 + 48 * 20


def test_chunks_append_their_own_tokens_and_see_the_slots(tmp_path):
    evict = PLAIN + "evict = {slots = 40}\n"
    trace = prefill_trace(MODEL, written(tmp_path, evict + CHUNKED), 96)
    assert total(trace, "m", "kv_append") == 30 * 96
    pairs = sum(32 * seen + 32 * 33 // 2 for seen in (0, 32, 40))
    assert total(trace, "macs", "qk") == 30 * 9 * 64 * pairs


def test_loaded_tokens_are_not_written_again(tmp_path):
    loaded = PLAIN + 'pivot = {tokens = 24, k = "int8", v = "int8", loaded = true}\n'
    trace = prefill_trace(MODEL, written(tmp_path, loaded), 96)
    assert total(trace, "m", "kv_append") == 30 * 72
    assert total(trace, "macs", "qk") == 30 * 9 * 64 * (72 * 24 + 72 * 73 // 2)


def test_tokens_that_join_the_cache_are_read_and_not_computed(tmp_path):
    recipe = written(tmp_path, PLAIN + '[[tokens]]\nsite = "cache"\nof = "all"\nadd = 7\n')
    assert total(prefill_trace(MODEL, recipe, 32), "m", "q") == 30 * 32
    step = next(decode_traces(MODEL, recipe, 32, 1))
    assert {op.n for op in step.operators if op.name == "qk"} == {32 + 7 + 1}


def test_a_tower_may_run_once_for_every_few_tokens_and_cross_attention_for_some_queries(tmp_path):
    text = '[[topology]]\nedit = "tower"\nname = "chunks"\nmodel = "bert-base"\ntokens = 16\ntimes = "T/16"\n'
    text += '[[topology]]\nedit = "cross"\ntokens = 50\nqueries = 4\nlayers = [3]\n'
    trace = prefill_trace(MODEL, written(tmp_path, PLAIN + text), 64)
    assert total(trace, "m", "chunks.q") == 12 * 64
    assert total(trace, "macs", "cross_qk") == 9 * 4 * 50 * 64
    assert total(trace, "macs", "cross_k") == 50 * 576 * 192


def test_a_ring_stores_its_span(tmp_path):
    ring = PLAIN + '[[attn]]\npattern = "headmap"\nheads = 3\nfull = 1\nsink = 4\nrecent = 12\nring = true\n'
    recipe = written(tmp_path, ring)
    check = Check(quantity="kv_ratio", reported=1, confidence="derived", against="w8a8", model=MODEL.name, prefill=160,
                  decode=1)  # fmt: skip
    assert measure(recipe, check)[0] == pytest.approx(3 * 160 / (160 + 2 * 16))
    memory = measure(recipe, Check(quantity="memory_ratio", reported=1, confidence="derived", against="w8a8",
                                   model=MODEL.name, prefill=160, decode=1))[0]  # fmt: skip
    assert 1 < memory < 1.01


def test_plain_steps_refresh_and_run_every_few(tmp_path):
    text = PLAIN + '[[attn]]\npattern = "topk"\nphase = "decode"\nbudget = 16\nrefresh = 4\n'
    text += '[[ops]]\nname = "now"\nat = ["scores"]\nphase = "decode"\nevery = 3\nelementwise = [{adds = 1}]\n'
    steps = list(decode_traces(MODEL, written(tmp_path, text), 40, 6))
    assert [max(op.n for op in step.operators if op.name == "qk") for step in steps] == [41, 16, 16, 16, 45, 16]
    assert [any("now@" in op.name for op in step.operators) for step in steps] == [True, False, False] * 2


def test_latents_leave_the_ends_of_the_cache_in_full(tmp_path):
    text = PLAIN + 'latent = {k = 0.25, v = 0.5}\nwindow = {tokens = 8, k = "int8", v = "int8"}\n'
    text += 'pivot = {tokens = 2, k = "int8", v = "int8"}\n'
    recipe = written(tmp_path, text)
    trace = prefill_trace(MODEL, recipe, 64)
    assert total(trace, "m", "k_up") == 30 * 54
    assert total(trace, "macs", "qk") == 30 * 9 * 64 * 64 * 65 // 2
    ends = 9 * 64 * (2 * 3 // 2 + 62 * 2 + 8 * 9 // 2)  # of a window of 8, of 2 pivots
    middle = 9 * 96 * (54 * 55 // 2 + 8 * 54)  # values of 96 of 192 channels, absorbed
    assert total(trace, "macs", "av") == 30 * (ends + middle)
    step = next(decode_traces(MODEL, recipe, 64, 1))
    assert sorted({op.n for op in step.operators if op.name == "qk"}) == [2, 8, 55]
