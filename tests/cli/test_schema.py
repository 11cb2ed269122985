"""The documents of --json have the form that docs/schemas promises: real ones, by an independent validator."""

import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from command_line import refusal
from small_results import small_document

from mixflight import documents
from mixflight.cli import app as cli
from mixflight.reports.document import encode_document

SCHEMAS = Path(__file__).resolve().parent.parent.parent / "docs" / "schemas"
LENGTHS = ("--prefill", "16", "--decode", "2")
TINY = ("--model", "smollm2-135m", *LENGTHS)
RUNS = [
    ("presets/1", ("models",)), ("presets/1", ("archs",)), ("presets/1", ("recipes",)), ("presets/1", ("gpu",)),
    ("presets/1", ("fetch", "--list")), ("presets/1", ("schema",)),
    ("trace/1", ("trace", "smollm2-135m", *LENGTHS)),
    ("trace/1", ("trace", "smollm2-135m", "-o", "{folder}/trace.parquet")),
    ("simulate/1", ("simulate", "--arch", "mixpe-w4a8:w4a8g32", *TINY, "--explain")),
    ("simulate-published/1", ("simulate", "--arch", "flightllm-u280", "--model", "llama2-7b", *LENGTHS, "--mode", "published")),
    ("compare/1", ("compare", "--arch", "int8:w8a8", "--gpu", "h100:fp16", *TINY)),
    ("compare/1", ("compare", "--arch", "flightllm-u280:flightllm", "--gpu", "v100s:fp16", "--model", "llama2-7b",
                   *LENGTHS, "--batches", "1,4096")),
    ("reproduce/1", ("reproduce", "mixpe")),
    ("rtl/1", ("rtl", "widen", "-o", "{folder}/widen")),
    ("power/1", ("power", "--validate")),
    ("doctor/1", ("doctor",)),
    ("verify/1", ("verify", "int8-pe", "--no-real")),
    ("coverage/1", ("verify", "flightllm-core", "--coverage", "{folder}/coverage", "--no-rtl", "--programs", "2")),
    ("synth/1", ("synth", "mul4x8-pe")),
    ("synth/1", ("synth", "mul4x8-pe", "--target", "osu018", "--no-energy")),
    ("compile/1", ("compile", "--arch", "flightllm-u280", "--model", "smollm2-135m", "--recipe", "flightllm",
                   "--max-context", "16", "--count-only")),
    ("sweep/1", ("sweep", "{folder}/space.toml", "-o", "{folder}/sweep")),
    ("advise/1", ("advise", "--model", "smollm2-135m", "--recipe", "w4a8g32", "--target", "tokens_per_s>=1", "--device",
                  "u280", "--prefill", "4", "--decode", "2", "-o", "{folder}/design.toml")),
    ("sensitivity/1", ("sensitivity", "--arch", "int8:w8a8", "--arch", "mul4x8:w4a8g32", *TINY)),
    ("gpu-validation/1", ("gpu", "--validate")),
    ("price-tables/1", ("prices",)), ("prices/1", ("prices", "45nm-literature")), ("prices/1", ("prices", "HBM2")),
    ("sram-prices/1", ("prices", "sram")),
    ("recipe-checks/1", ("recipes", "--check", "--only", "k8v4", "--only", "w4a8g128", "--only", "flightllm")),
    ("recipe-runs/1", ("recipes", "--simulate", "--only", "k8v4", "--arch", "mixpe-w4a8")),
]
REAL = [
    ("generate/1", ("generate", "--model", "smollm2", "--prompt", "One", "--tokens", "1")),
    ("recorded-prices/1", ("prices", "--operands", "smollm2", "--pe", "multiply-4x8", "-o", "{folder}/prices.toml")),
    ("evaluate/1", ("evaluate", "--model", "smollm2", "--tokens", "129", "--reference")),
    ("evaluations/1", ("evaluate", "--model", "smollm2", "--recipe", "k8v4", "--recipe", "fp16", "--tokens", "129")),
    ("record/1", ("trace", "smollm2", "--record", "a few words")),
]  # fmt: skip


RTL = {"rtl/1", "verify/1", "coverage/1", "synth/1"}
SPACE = """summary = "rows"
arch = "int8"
model = "smollm2-135m"
recipe = "w8a8"
scenario = {prefill = 4, decode = 2}
objectives = {tokens_per_s = "max"}
axes = {"array.rows" = [8, 16]}
"""


@pytest.fixture(scope="module")
def said():
    """Run a command in this process; the document that it prints."""
    group = cli.command_line()

    def run(arguments, capsys):
        group([*arguments, "--json"], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    return run


def _unknown_keys(value, schema, root, where=""):
    """Keys of ``value`` that ``schema`` does not name, and that so are not promised."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        if "$ref" in choice or choice.get("type") in ("array", "object"):
            schema = choice | {key: entry for key, entry in schema.items() if key != "anyOf"}
            return _unknown_keys(value, choice, root, where) if value is not None else []
    if isinstance(value, list):
        return [key for item in value for key in _unknown_keys(item, schema["items"], root, f"{where}[]")]
    if isinstance(value, dict) and "properties" in schema:
        return [f"{where}.{key}" for key in value if key not in schema["properties"]] + [
            key for name, item in value.items() if name in schema["properties"]
            for key in _unknown_keys(item, schema["properties"][name], root, f"{where}.{name}")
        ]  # fmt: skip
    return []


@pytest.mark.parametrize(("name", "arguments"), RUNS, ids=[" ".join(run[1][:3]) for run in RUNS])
def test_what_is_said_is_what_is_promised(name, arguments, said, capsys, tmp_path):
    if name in RTL:
        pytest.importorskip("amaranth")
    (tmp_path / "space.toml").write_text(SPACE)
    check(name, said([word.format(folder=tmp_path) for word in arguments], capsys))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), REAL, ids=[" ".join(run[1][:3]) for run in REAL])
def test_what_is_said_of_the_real_model_is_what_is_promised(name, arguments, said, capsys, tmp_path, smollm2_path):
    check(name, said([word.format(folder=tmp_path) for word in arguments], capsys))


def test_a_page_is_said_to_be_written(said, capsys, tmp_path):
    (tmp_path / "results.json").write_bytes(encode_document(small_document()))
    check("report/1", said(["report", str(tmp_path), "--figures", str(tmp_path)], capsys))


def test_a_generation_on_rtl_says_what_is_promised():
    pytest.importorskip("amaranth")
    from mixflight.cli.generate import document
    from mixflight.rtl_energy import ComponentEnergy, RecordedStep
    from mixflight.rtl_session import TokenRun

    fields = {"cycles": 7, "engine_cycles": 7, "read_bytes": 96, "written_bytes": 3, "energy_j": 0.1, "seconds": 2.0,
              "tokens": 1}
    assert set(fields) <= set(TokenRun.__struct_fields__)
    classes, memories = dict.fromkeys(("LD", "MV"), 3), {"hbm": 96, "ddr": 0, "text": 0}
    priced = ComponentEnergy(recorded_j=0.1, low_j=0.05, high_j=0.3, estimated_j=0.09)
    recorded = RecordedStep(busy_cycles=classes, ended=classes, executed=9, read_bytes=memories, written_bytes=memories,
                            products=512, sfu_elements=4, components={"hbm": priced})  # fmt: skip
    steps = (SimpleNamespace(**fields, recorded=recorded), SimpleNamespace(**fields, recorded=None))
    said = SimpleNamespace(arch="mixpe-mini", clock_mhz=225.0, layers=1, prompt="One", prompt_tokens=(1,), tokens=(2,), text="x",
                           stopped="length", steps=steps, logits_sha256=("ab", "cd"), tokens_per_s=1.5)  # fmt: skip
    found = {"schema": "generate-rtl/1", **document("smollm2", said)}
    check("generate-rtl/1", json.loads(json.dumps(found)))


def check(name, found):
    """Hold a document to its published schema, and the schema to the document."""
    schema = json.loads((SCHEMAS / documents.file_name(name)).read_text())
    jsonschema.Draft202012Validator(schema).validate(found)
    assert next(iter(found.items())) == ("schema", name)
    assert sorted(set(_unknown_keys(found, schema, schema))) == []


def test_every_promised_document_is_checked_here():
    checked = {name for name, _ in RUNS + REAL}
    assert set(documents.DOCUMENTS) - checked == {
        "fetch/1",  # needs a network; tests of fetch compare its keys
        "demo/1",  # takes a minute; the slow test below
        "report/1",
        "generate-rtl/1",  # takes a built core; its document is made below
    }


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_published_files_are_made_from_the_types(name):
    assert (SCHEMAS / documents.file_name(name)).read_text() == documents.schema_text(name)
    jsonschema.Draft202012Validator.check_schema(documents.schema_of(name))


def test_no_file_without_a_type_is_published():
    assert {path.name for path in SCHEMAS.iterdir()} == {documents.file_name(name) for name in documents.DOCUMENTS}


def test_a_document_that_breaks_the_form_is_found(said, capsys):
    found = said(("simulate", "--arch", "int8:w8a8", *TINY), capsys)
    check = jsonschema.Draft202012Validator(documents.schema_of("simulate"))
    assert check.is_valid(found)
    assert not check.is_valid(found | {"schema": "simulate/2"})
    assert not check.is_valid(found | {"decode": found["decode"] | {"time_ms": "fast"}})
    del found["prefill"]["energy_mj_low"]
    assert not check.is_valid(found)
    found["decode"]["components"][0]["colour"] = "blue"
    assert _unknown_keys(found, check.schema, check.schema) == [".decode.components[].colour"]


def test_the_command_prints_the_schema(said, capsys):
    assert said(("schema", "compare"), capsys) == documents.schema_of("compare/1")


def test_an_unknown_name_is_refused():
    assert "NAME must be one of presets/1, fetch/1, " in refusal("schema", "nope")


@pytest.mark.slow
def test_the_demo_says_what_is_promised(said, capsys, tmp_path, smollm2_path):
    check("demo/1", said(["demo", "-o", str(tmp_path / "demo")], capsys))
