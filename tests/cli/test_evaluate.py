"""``mixflight evaluate`` on the real compressed model."""

import command_line
import pytest

from mixflight.arch.errors import InputError
from mixflight.evaluate import evaluate, evaluation_recipe, evaluation_recipes
from mixflight.workloads.recipe import recipes


def test_the_document(smollm2_path):
    found = command_line.document("evaluate", "--model", smollm2_path, "--recipe", "k8v4", "--tokens", 136)
    assert found["recipe"] == "k8v4"
    assert 0 < found["perplexity_low"] < found["perplexity"] < found["perplexity_high"] < 200
    assert found["tokens"] == 135 and found["text_tokens"] == 136 and found["windows"] == 1
    assert found["weight_bytes"] == 96_436_224
    assert found["macs"] > 134_479_872  # every weight once, and attention
    assert 0 < found["energy_mj_per_token_low"] < found["energy_mj_per_token"] < found["energy_mj_per_token_high"]
    assert found["scenario"] == {"prefill": 128, "decode": 128, "batch": 1}
    assert found["arch"] == "mixpe-w4a8"
    assert found["preparation"] == []


def test_every_recipe_has_a_name_of_its_own():
    assert not set(evaluation_recipes()) & set(recipes())
    for name in evaluation_recipes():
        assert evaluation_recipe(name).name == name


def test_weights_in_another_format_are_rounded_and_said_so(smollm2_path, tmp_path):
    path = tmp_path / "int8.toml"
    path.write_text(
        'summary = "INT8 weights per group"\n[weight]\n"*" = "q8_0"\n[act]\n"*" = "int8-g32"\nattention = "int8"\n'
        '[kv]\nk = "int8"\nv = "int8"\n'
    )
    rounded, stored = (evaluate(smollm2_path, recipe, most_tokens=129) for recipe in (str(path), None))
    assert rounded.preparation == ("210 weights rounded from the file's q4_1 to q8_0",)
    assert rounded.weight_bytes > 1.4 * stored.weight_bytes
    assert rounded.perplexity.value == pytest.approx(stored.perplexity.value, rel=0.05)


@pytest.mark.parametrize(("recipe", "message"), [
    ("no-such-recipe", "RECIPE must be a .toml file or one of"),
    ("w4a8g128", "128 does not divide 576"),
])
def test_a_refused_recipe_is_one_line(smollm2_path, recipe, message):
    assert message in command_line.refusal("evaluate", "--model", smollm2_path, "--recipe", recipe)


@pytest.mark.parametrize(("arguments", "message"), [
    (("--model", "llama2-7b"), "must be smollm2 or a .gguf file"),
    (("--model", "smollm2", "--tokens", "0"), "--tokens must be at least 1"),
])
def test_bad_input_is_one_line(arguments, message):
    assert message in command_line.refusal("evaluate", *arguments)


def test_several_recipes_are_rows(smollm2_path):
    found = command_line.document(
        "evaluate", "--model", smollm2_path, "--recipe", "k8v4", "--recipe", "window-128", "--tokens", 136
    )
    golden, emulated = found["rows"]
    assert (golden["recipe"], golden["arithmetic"]) == ("k8v4", "golden")
    assert (emulated["recipe"], emulated["arithmetic"]) == ("window-128", "emulated")
    assert emulated["perplexity"] == pytest.approx(golden["perplexity"], rel=0.15)  # 8 of 135 queries see less
    assert golden["kv_bytes"] > emulated["kv_bytes"] * 1.1
    assert golden["weight_bytes"] == emulated["weight_bytes"]
    assert golden["decode_tokens_per_s"] > 10


def test_too_short_a_text_is_refused(smollm2_path):
    with pytest.raises(InputError, match="at least 128 predicted tokens"):
        evaluate(smollm2_path, "unquantised", most_tokens=64)
