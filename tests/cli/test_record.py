"""``mixflight trace MODEL --record TEXT`` on the real compressed model."""

import json

import command_line
import pytest

from mixflight.sim.evaluation.text import PATH


def test_a_record_is_one_compact_document(smollm2_path, tmp_path):
    path = tmp_path / "record.json"
    found = command_line.document("trace", smollm2_path, "--record", "The capital of France is", "-o", path)
    assert json.loads(path.read_text()) == found
    assert path.stat().st_size < 20_000
    assert found["tokens"] == 5
    assert round(found["weights"]["all"]["ones"], 3) == 2.0
    assert sum(found["activations"]["ffn_hidden"]["counts"]) == 5 * 30 * 1536


@pytest.mark.parametrize(("arguments", "message"), [
    (("smollm2", "--record", ""), "must not be empty"),
    (("smollm2", "--record", "nowhere.txt"), "nowhere.txt"),
    (("smollm2", "--record", PATH, "-o", "out.parquet"), "must be a .json or .npz file"),
    (("smollm2", "--record", "text", "--decode", "1"), "--record takes the file as it is"),
    (("llama2-7b", "--record", "text"), "must be smollm2 or a .gguf file"),
])
def test_bad_input_is_one_line(smollm2_path, arguments, message):
    assert message in command_line.refusal("trace", *arguments)
