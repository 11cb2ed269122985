import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads.recipe import recipe_named, recipes


def test_the_presets():
    general = {name for name, recipe in recipes().items() if recipe.family == "general"}
    assert general == {"fp16", "w8a8", "w4a8g128", "w4a8g32", "w4a16g128", "k8v4"}
    k8v4 = recipe_named("k8v4")
    assert k8v4.weight_format("layers.0.q").name == "q4_1"
    assert k8v4.weight_format("head").name == "q8_0"
    assert [item.name for item in k8v4.kv_formats()] == ["int8", "uint4-asym"]


RECIPE = 'summary = "x"\n[weight]\n"*" = "int8"\n[act]\n"*" = "int8"\n[kv]\nk = "int8"\nv = "int8"\n'


def _file(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_the_last_matching_pattern_wins(tmp_path):
    recipe = recipe_named(_file(tmp_path, RECIPE.replace("[act]", '"layers.3.*" = "q4_1"\n[act]')))
    assert recipe.weight_format("layers.3.q").name == "q4_1"
    assert recipe.weight_format("layers.4.q").name == "int8"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary", "sumary", "unknown key 'sumary'; the nearest valid key is 'summary'"),
        ('k = "int8"', 'k = "int9"', "format must be one of .*, not 'int9', in recipe 'mine', kv.k"),
        ('[weight]\n"*" = "int8"', '[weight]\n"*" = "int9"', r"not 'int9', in recipe 'mine', weight.'\*'"),
        ("[kv]", "[kvv]", "unknown key 'kvv'"),
        ("summary = ", "summary ", "must be TOML"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        recipe_named(_file(tmp_path, RECIPE.replace(old, new)))


def test_an_operator_without_a_format_is_an_error(tmp_path):
    recipe = recipe_named(_file(tmp_path, RECIPE.replace('[weight]\n"*"', '[weight]\n"layers.*"')))
    with pytest.raises(InputError, match=r"table \[weight\] must name a format for 'head'"):
        recipe.weight_format("head")
