import msgspec
import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.model import Model, model_named, models
from mixflight.workloads.recipe import recipe_named, recipes
from mixflight.workloads.trace import decode_traces, prefill_trace


def step(model, recipe, context, batch=1):
    return next(decode_traces(model_named(model), recipe_named(recipe), context - 1, 1, batch))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Published parameter counts; linears + embedding (unless tied) + norms (+ biases and positions for OPT).
        ("llama2-7b", 6_738_415_616),
        ("llama2-13b", 13_015_864_320),
        ("llama3-8b", 8_030_261_248),
        ("opt-6.7b", 6_658_473_984),
        ("smollm2-135m", 134_515_008),
    ],
)
def test_presets_have_the_published_number_of_parameters(name, parameters):
    model = model_named(name)
    count = model.linear_weights()
    norms = 2 * model.layers + 1
    if model.norm == "layernorm":
        norms *= 2
    count += norms * model.hidden
    if not model.tied_head:
        count += model.vocab * model.hidden
    if model.biases:
        count += model.layers * sum(n for n, _ in model.block_linears().values())
    if model.rope_theta == 0:
        count += (model.context_length + 2) * model.hidden  # OPT's table has two rows more
    assert count == parameters


def test_smollm2_decode_reads_96_4_mb_of_weights():
    # 106,168,320 weights of 5 bits and an 8.5-bit head of 49,152 x 576.
    assert step("smollm2-135m", "w4a8g32", 1).weight_bytes == 66_355_200 + 30_081_024


@pytest.mark.parametrize("name", ["llama2-7b", "llama3-8b", "opt-6.7b", "smollm2-135m"])
@pytest.mark.parametrize(("tokens", "batch"), [(1, 1), (128, 1), (77, 3)])
def test_prefill_macs_are_the_closed_form(name, tokens, batch):
    model = model_named(name)
    linear = sum(n * k for n, k in model.block_linears().values())
    attention = model.heads * model.head_dim * tokens * (tokens + 1)  # causal QK^T and AV
    expected = model.layers * (tokens * linear + attention) + model.vocab * model.hidden
    assert prefill_trace(model, recipe_named("fp16"), tokens, batch).macs == batch * expected


@pytest.mark.parametrize("name", ["llama2-7b", "llama3-8b", "opt-6.7b"])
@pytest.mark.parametrize(("context", "batch"), [(1, 1), (640, 1), (640, 8)])
def test_decode_macs_and_kv_bytes_are_the_closed_form(name, context, batch):
    model = model_named(name)
    trace = step(name, "w4a8g128", context, batch)
    assert trace.macs == batch * (model.linear_weights() + 2 * model.layers * model.heads * model.head_dim * context)
    token = 2 * model.layers * model.kv_heads * (model.head_dim + 2)  # INT8 K and V with an FP16 scale each
    assert trace.kv_bytes == batch * token * (context + 1)  # all read, one written


def test_llama2_7b_weights_at_group_128():
    # 4 bits and 20 bits of scale and zero point per 128; the head is INT8 with an FP16 scale per channel.
    linears, head = 6_607_077_376 - 32000 * 4096, 32000 * 4096 + 2 * 32000
    assert step("llama2-7b", "w4a8g128", 1).weight_bytes == linears * (4 + 20 / 128) / 8 + head


def test_weights_do_not_grow_with_the_batch():
    assert step("llama2-7b", "w8a8", 10, batch=16).weight_bytes == step("llama2-7b", "w8a8", 10).weight_bytes


def test_every_kind_of_operator_is_there():
    rows = list(step("smollm2-135m", "w4a8g32", 5).rows())
    kinds = {row["kind"] for row in rows}
    assert kinds == {
        "embed", "norm", "quantise", "linear", "rope", "kv_append", "qk", "softmax", "av", "residual", "activation"
    }  # fmt: skip
    names = [row["name"] for row in rows if row["layer"] == 0]
    order = ["attention_norm", "q", "k", "v", "rope_q", "kv_append", "qk", "softmax", "av", "o", "ffn_norm", "gate", "up",
             "ffn_activation", "down", "ffn_residual"]  # fmt: skip
    assert [name for name in names if name in order] == order
    assert rows[0]["name"] == "embed"
    assert rows[-1]["name"] == "head"
    assert len(rows) == step("smollm2-135m", "w4a8g32", 5).ops


def test_rows_of_the_embedding_have_the_heads_format_or_the_recipes():
    w4a8 = recipe_named("w4a8g32")
    own = msgspec.structs.replace(w4a8, embedding="q8_0")
    for model, recipe, name, bits in (("smollm2-135m", w4a8, "q8_0", 8.5), ("smollm2-135m", own, "q8_0", 8.5),
                                      ("llama2-7b", w4a8, "f16", 16), ("llama2-7b", own, "q8_0", 8.5)):  # fmt: skip
        embed = prefill_trace(model_named(model), recipe, 3).operators[0]
        assert (embed.name, embed.weight.name) == ("embed", name)
        assert embed.parameter_bytes == 3 * model_named(model).hidden * bits / 8
    with pytest.raises(InputError, match="format must be one of .* not 'q9', in recipe 'w4a8g32', embedding"):
        msgspec.structs.replace(w4a8, embedding="q9")


def test_opt_has_biases_layernorm_and_no_rotation():
    kinds = [op.kind for op in step("opt-6.7b", "fp16", 3).operators]
    assert "rope" not in kinds
    assert kinds.count("bias") == 6 + 3 + 1    # of linears, of norms, the positions
    assert not any(op.name == "gate" for op in step("opt-6.7b", "fp16", 3).operators)


def test_float_activations_are_not_quantised():
    assert not any(op.kind == "quantise" for op in step("llama2-7b", "fp16", 3).operators)


def test_queries_that_share_a_kv_head_are_rows_of_one_product():
    qk = next(op for op in step("llama3-8b", "w4a8g128", 100).operators if op.kind == "qk")
    assert (qk.count, qk.m, qk.n, qk.k) == (8, 4, 100, 128)


def test_a_decode_visits_the_contexts_after_the_prefill():
    contexts = [trace.context for trace in decode_traces(model_named("llama2-7b"), recipe_named("fp16"), 128, 3)]
    assert contexts == [129, 130, 131]


def test_layers_of_different_formats_stand_apart():
    recipe = recipe_named("w8a8")
    mixed = type(recipe)(
        name="mixed", summary="", weight=recipe.weight | {"layers.3.up": "q4_1"}, act=recipe.act, kv=recipe.kv
    )
    ups = [op for op in prefill_trace(model_named("smollm2-135m"), mixed, 4).operators if op.name == "up"]
    assert sorted(len(op.layers) for op in ups) == [1, 29]
    assert next(op for op in ups if len(op.layers) == 1).layers == (3,)


@pytest.mark.parametrize(
    ("prefill", "decode", "message"),
    [(1, 0, "decode must be at least 1"), (1, -3, "decode must be at least 1"), (-1, 1, "prefill must be at least 0"),
     (4000, 97, "at most the context length 4096")],
)  # fmt: skip
def test_bad_lengths_are_refused(prefill, decode, message):
    with pytest.raises(InputError, match=message):
        decode_traces(model_named("llama2-7b"), recipe_named("fp16"), prefill, decode)


def test_a_prefill_of_nothing_and_an_empty_batch_are_refused():
    with pytest.raises(InputError, match="prefill must be at least 1"):
        prefill_trace(model_named("llama2-7b"), recipe_named("fp16"), 0)
    with pytest.raises(InputError, match="batch must be at least 1"):
        prefill_trace(model_named("llama2-7b"), recipe_named("fp16"), 1, 0)
    with pytest.raises(InputError, match="batch must be at most 65536 sequences, not 65537"):
        decode_traces(model_named("llama2-7b"), recipe_named("w4a8g128"), 1, 1, 65_537)


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="128 does not divide 576"):
        prefill_trace(model_named("smollm2-135m"), recipe_named("w4a8g128"), 1)


def test_every_general_recipe_expands_on_llama2_7b():
    for recipe in recipes().values():
        if recipe.family == "general":
            assert prefill_trace(model_named("llama2-7b"), recipe, 8).weight_bytes > 0


def test_bad_models_are_refused():
    fields = {name: getattr(model_named("llama3-8b"), name) for name in Model.__struct_fields__}
    with pytest.raises(InputError, match="heads must be a multiple of kv_heads"):
        Model(**fields | {"kv_heads": 5})
    with pytest.raises(InputError, match="layers must be at least 1"):
        Model(**fields | {"layers": 0})
    assert set(models()) >= {"llama2-7b", "llama2-13b", "llama3-8b", "opt-6.7b", "smollm2-135m"}


def test_what_other_families_compute_beside_a_llama_is_in_the_trace():
    import msgspec

    plain = model_named("llama3-8b")
    rich = msgspec.structs.replace(
        plain, qk_norm=True, post_norms=True, biased=("q", "k"), attention_cap=50.0, logit_cap=30.0
    )
    recipe = recipe_named("w8a8")
    before, after = (next(decode_traces(model, recipe, 9, 1)) for model in (plain, rich))
    added = [op for op in after.operators if op.name not in {item.name for item in before.operators}]
    assert {op.name: (op.m, op.n) for op in added} == {
        "q_bias": (1, 4096), "k_bias": (1, 1024), "q_norm": (32, 128), "k_norm": (8, 128), "attention_cap": (32, 10),
        "attention_post_norm": (1, 4096), "ffn_post_norm": (1, 4096), "logit_cap": (1, 128256),
    }  # fmt: skip
    assert after.macs == before.macs


@pytest.mark.parametrize(("tokens", "batch"), [(128, 1), (33, 2)])
def test_softmax_sees_what_the_mask_leaves(tokens, batch):
    trace = prefill_trace(model_named("smollm2-135m"), recipe_named("w4a8g32"), tokens, batch)
    seen = batch * 9 * tokens * (tokens + 1) // 2
    for name in ("softmax", "probability_quantise"):
        assert next(op for op in trace.operators if op.name == name).vector_elements == seen
    qk = next(op for op in trace.operators if op.kind == "qk")
    assert qk.macs == seen * 64
    step_ = step("smollm2-135m", "w4a8g32", 50)
    assert next(op for op in step_.operators if op.name == "softmax").vector_elements == 9 * 50
