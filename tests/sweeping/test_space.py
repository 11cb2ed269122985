import msgspec
import pytest

from mixflight.arch.errors import InputError
from mixflight.sweeping.comparison import Comparison
from mixflight.sweeping.design import Designer
from mixflight.sweeping.space import Space, assignment, space_named, studies

TEXT = """
summary = "small"
arch = "mixpe-w4a8"
model = "llama2-7b"
recipe = "w4a8g128"
constraints = ["area_over_int8 <= 1.1"]
[scenario]
prefill = 16
decode = 4
[objectives]
tokens_per_s = "max"
tokens_per_joule = "max"
[axes]
"array.rows" = [16, 32]
"array.cols" = {from = 16, to = 64, factor = 2}
"recipe.weight.*" = ["uint4-g128-z4", "q4_1"]
"free.wide" = [1, 2]
[derived]
"array.lanes" = "array_cols // wide"
"""


def space_of(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text)
    return space_named(str(path))


def test_the_grid_visits_every_combination_once_and_workloads_change_last(tmp_path):
    space = space_of(tmp_path, TEXT)
    assert space.size == 2 * 3 * 2 * 2
    seen = [assignment(space.values, index) for index in range(space.size)]
    assert len({tuple(item.items()) for item in seen}) == space.size
    assert [item["recipe.weight.*"] for item in seen] == ["uint4-g128-z4"] * 12 + ["q4_1"] * 12
    assert {item["array.cols"] for item in seen} == {16, 32, 64}


def test_a_design_has_the_values_of_its_point_and_nothing_else_changed(tmp_path):
    space = space_of(tmp_path, TEXT)
    designer = Designer(space)
    values = {"array.rows": 16, "array.cols": 64, "recipe.weight.*": "q4_1", "free.wide": 2}
    design = designer.design(values)
    array = design.accelerator.array
    assert (array.rows, array.cols, array.lanes) == (16, 64, 32)
    assert design.derived == {"array.lanes": 32}
    assert design.accelerator.buffers == space.base_machine().buffers
    workload = designer.workload(design.workload)
    assert workload.recipe.weight_format("q").name == "q4_1"
    assert workload.recipe.weight_format("head").name == "int8"
    assert designer.design({**values, "array.rows": 32}).workload == design.workload


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (('"array.rows" = [16, 32]', '"array.row" = [16]'), "an axis must be a field, not 'array.row': the nearest is 'array.rows'"),
        (('"array.rows" = [16, 32]', '"array.rows" = []'), "at least one value, in axis 'array.rows'"),
        (('"array.rows" = [16, 32]', '"array.rows" = [16, 16]'), "each value once, not 16 twice"),
        (("from = 16, to = 64, factor = 2", "from = 64, to = 16, factor = 2"), "a range must not be empty: from 64 to 16"),
        (("from = 16, to = 64, factor = 2", "from = 16, to = 64"), "a range must have one of step and factor"),
        (("from = 16, to = 64, factor = 2", "from = 16, to = 64, stp = 2"), "nearest valid key is 'step'"),
        (('tokens_per_s = "max"', 'token_per_s = "max"'), "the nearest is 'tokens_per_s'"),
        (('tokens_per_s = "max"', 'tokens_per_s = "most"'), "unknown value 'most' in table [objectives.'tokens_per_s']"),
        (('["area_over_int8 <= 1.1"]', '["area_over_int8"]'), "a constraint must be two expressions"),
        (('["area_over_int8 <= 1.1"]', '["__import__(1) < 2"]'), "a function must be one of"),
        (('arch = "mixpe-w4a8"', 'arch = "mixpe"'), "ARCH must be"),
        (('summary = "small"', 'sumary = "small"'), "nearest valid key is 'summary'"),
    ],
)  # fmt: skip
def test_bad_spaces_are_refused_in_one_line(tmp_path, change, line):
    assert change[0] in TEXT
    with pytest.raises(InputError) as refused:
        space_of(tmp_path, TEXT.replace(*change))
    assert line in str(refused.value)
    assert "space.toml" in str(refused.value)


def test_an_unknown_study_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"SPACE must be .*nearest: mixpe.*not 'mixp'"):
        space_named("mixp")


@pytest.mark.parametrize("name", studies())
def test_shipped_studies_are_sound_and_read_back(name):
    space = space_named(name)
    again = msgspec.json.decode(space.digest_text(), type=Space)
    assert again == space and list(again.values) == list(space.values)
    assert space.size <= space.points or space.method != "grid"


def test_comparisons_know_their_doubt():
    comparison = Comparison.parse("power_w * 2 <= limit + 1")
    assert comparison.symbols() == {"power_w", "limit"}
    assert comparison.holds({"power_w": 2, "limit": 3})
    bands = {"power_w": (1.9, 2.1)}
    assert comparison.may_hold({"power_w": 2.05, "limit": 3}, bands)
    assert not comparison.surely_holds({"power_w": 1.95, "limit": 3}, bands)
    assert comparison.surely_holds({"power_w": 1.95, "limit": 3.2}, bands)


@pytest.mark.parametrize("name", studies())
def test_the_page_says_what_the_studies_found(name):
    page = (studies()[name].resolve().parents[2] / "docs" / "sweeps.md").read_text()
    assert space_named(name).finding in page
