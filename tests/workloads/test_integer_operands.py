import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.sim.simulate import simulate
from mixflight.workloads.integer_operands import INT8, with_integer_operands
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

MODEL = model_named("llama2-7b")


def prefill(recipe):
    return prefill_trace(MODEL, recipe_named(recipe), 32)


def test_integer_recipes_stay_as_they_are():
    for recipe in ("w4a8g128", "w8a8", "flightllm"):
        trace = prefill(recipe)
        assert with_integer_operands(trace) == (trace, ())


@pytest.mark.parametrize("recipe", ["fp16", "vptq", "gear", "mustafar", "cmoe", "flatquant"])
def test_operands_become_int8_and_stored_bytes_stay(recipe):
    trace = prefill(recipe)
    found, changed = with_integer_operands(trace)
    matrices = [op for op in found.operators if op.is_matrix]
    assert all(op.weight.kind == op.act.kind == "int" for op in matrices)
    floats = [op for op in trace.operators if op.is_matrix and "float" in (op.weight.kind, op.act.kind)]
    assert set(changed) == {op.name for op in floats}
    for field in ("macs", "weight_bytes", "parameter_bytes", "kv_read_bytes", "kv_write_bytes", "index_bytes"):
        assert found.total(field) == trace.total(field)
    # An INT operand keeps its format, so W4 stays four bits.
    assert [op.weight for op, old in zip(matrices, (o for o in trace.operators if o.is_matrix), strict=True)
            if old.weight.kind == "int"] == [o.weight for o in trace.operators if o.is_matrix and o.weight.kind == "int"]  # fmt: skip


def test_what_fp16_converts_is_what_an_int8_recipe_quantises():
    # INT8 activations have a quantise operator for every input; the conversions of FP16 process the same elements.
    def quantised(trace):
        return sum(len(op.layers) * op.vector_elements for op in trace.operators if op.kind == "quantise")

    for pass_ in (lambda name: prefill(name), lambda name: next(decode_traces(MODEL, recipe_named(name), 40, 1))):
        converted, _ = with_integer_operands(pass_("fp16"))
        assert quantised(converted) == quantised(pass_("w8a8"))
        assert {op.act for op in converted.operators if op.kind == "quantise"} == {INT8}


def test_products_of_two_results_run_without_bytes_of_weights():
    # The power iteration of GEAR multiplies what is on chip: nothing of it is read.
    recipe = recipe_named("gear")
    found = simulate(accelerator_named("mixpe-w4a8"), MODEL, recipe, "gear", 64, 1, float_operands="int8")
    assert {"power_iteration@kv.write", "qk"} <= set(found.int8_operands)
    assert found.prefill.time_ms > found.decode.time_ms > 0


def test_a_machine_of_fp16_converts_what_fp16_cannot_hold(tmp_path):
    """BF16 and F32 become INT8 there, FP16 stays; without the choice the refusal names it."""
    path = tmp_path / "mixed.toml"
    path.write_text(
        'summary = "x"\n[weight]\n"*" = "f16"\n"*.up" = "f32"\n"*.down" = "bf16"\n[act]\n"*" = "f16"\n"*.down" = "bf16"\n'
        '[kv]\nk = "f16"\nv = "f16"\n'
    )
    recipe, machine = recipe_named(str(path)), accelerator_named("fp16")
    with pytest.raises(InputError, match=r"not f32 weights with f16 activations.*--float-operands int8 converts them"):
        simulate(machine, MODEL, recipe, "mixed", 32, 1)
    found = simulate(machine, MODEL, recipe, "mixed", 32, 1, float_operands="int8")
    assert found.int8_operands == ("up", "down")
    plain = recipe_named("fp16")
    assert simulate(machine, MODEL, plain, "fp16", 32, 1, float_operands="int8").int8_operands == ()
