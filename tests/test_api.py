import doctest
import subprocess
import sys

import pytest

import mixflight


def test_simulate_and_compare_agree():
    one = mixflight.simulate("mixpe-w4a8:w4a8g128", "llama2-7b", prefill=16, decode=4)
    table = mixflight.compare(["mixpe-w4a8", "int8"], "llama2-7b", recipe="w4a8g128", prefill=16, decode=4)
    assert list(table["arch"]) == ["mixpe-w4a8", "int8"]
    assert table.loc[0, "decode_time_ms"] == one.decode.time_ms
    assert (table["decode_energy_mj_per_token_low"] < table["decode_energy_mj_per_token"]).all()


def test_bad_input_raises():
    with pytest.raises(mixflight.InputError, match="ARCH must be"):
        mixflight.simulate("nope", "llama2-7b")


@pytest.mark.parametrize("what", ["import mixflight", "import mixflight.cli.app"])
def test_importing_loads_nothing_heavy(what):
    heavy = "{'numpy', 'numba', 'pandas', 'pyarrow', 'matplotlib', 'amaranth', 'jinja2', 'tokenizers'}"
    code = f"import sys; {what}; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_importing_the_package_loads_nothing_but_the_package():
    code = (
        "import sys; before = set(sys.modules); import mixflight; "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "['mixflight']"


def test_public_names_exist():
    for name in mixflight.__all__:
        assert getattr(mixflight, name)
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        mixflight.nope  # noqa: B018


def test_a_sweep_is_a_table_of_its_front(tmp_path):
    space = tmp_path / "space.toml"
    space.write_text(
        'summary = "s"\narch = "int8"\nmodel = "smollm2-135m"\nrecipe = "w8a8"\n'
        'scenario = {prefill = 8, decode = 2}\nobjectives = {tokens_per_s = "max"}\naxes = {"array.rows" = [8, 32]}\n'
    )
    table = mixflight.sweep(str(space), tmp_path / "out")
    assert table.attrs["evaluated"] == 2
    row = table.iloc[0]
    one = mixflight.simulate("int8", "smollm2-135m", recipe="w8a8", prefill=8, decode=2)
    if row["array.rows"] == 32:
        assert row["decode_time_ms"] == one.decode.time_ms
    else:
        assert row["decode_time_ms"] <= one.decode.time_ms


def test_a_model_is_loaded_with_its_recipe():
    found = mixflight.load_model("llama2-7b", "w4a8g128")
    assert (found.model.name, found.recipe.name) == ("llama2-7b", "w4a8g128")
    assert mixflight.load_model("llama2-7b").recipe.name == "fp16"


def test_a_top_is_written_as_on_the_command_line(tmp_path):
    pytest.importorskip("amaranth")
    built = mixflight.build_rtl("int8-pe", tmp_path / "pe")
    assert built.design.ports
    assert {str(path.relative_to(tmp_path / "pe")) for path in (tmp_path / "pe").rglob("*") if path.is_file()} == set(built.files)
    with pytest.raises(mixflight.InputError, match="--rows must not be given for int8-pe"):
        mixflight.build_rtl("int8-pe", tmp_path / "other", rows=4)
    assert not (tmp_path / "other").exists()


RTL_EXAMPLES = ("build_rtl", "verify")


@pytest.mark.parametrize("name", ["load_model", "simulate", "compare", "sweep", *RTL_EXAMPLES])
def test_the_example_in_the_docstring_runs(name, tmp_path, monkeypatch):
    if name in RTL_EXAMPLES:
        pytest.importorskip("amaranth")
    monkeypatch.chdir(tmp_path)
    [found] = doctest.DocTestFinder(recurse=False).find(getattr(mixflight, name), name)
    assert len(found.examples) >= 3
    said = []
    assert doctest.DocTestRunner().run(found, out=said.append).failed == 0, "".join(said)


def test_a_verification_is_a_table():
    pytest.importorskip("amaranth")
    table = mixflight.verify("int8-pe", model=None)
    assert list(table["top"]) == ["int8-pe"]
    assert (table["cycles_rtl"] == table["cycles_sim"]).all()
    assert table.loc[0, "tests"] > 0
    assert table.loc[0, "values"] > 60_000
    assert table.attrs == {"real_tiles_absent_because": "not asked for"}
    with pytest.raises(mixflight.InputError, match="--rows must not be given for int8-pe"):
        mixflight.verify("int8-pe", model=None, rows=4)
