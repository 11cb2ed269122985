"""``mixflight generate`` and its API, on the real compressed model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mixflight.arch.errors import InputError
from mixflight.generate import generate, model_path
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

PROMPT = "The capital of France is"
RECORDED = json.loads((Path(__file__).parent.parent / "data" / "generation_smollm2.json").read_text())


def command(*arguments):
    code = "import typer; from mixflight.cli import app as a; a.COMMANDS = ('fetch', 'generate'); a.main()"
    return subprocess.run(
        [sys.executable, "-c", code, "generate", *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("kv", ["int8", "fp16"])
def test_tokens_and_logits_are_the_recorded_ones(smollm2_path, kv):
    pieces = []
    said = generate(smollm2_path, RECORDED["prompt"], 16, kv=kv, on_text=pieces.append)
    assert list(said.prompt_tokens) == RECORDED["prompt_tokens"]
    assert list(said.tokens) == RECORDED[kv]["tokens"]
    assert said.text == RECORDED[kv]["text"] == "".join(pieces)
    assert said.logits_sha256 == RECORDED[kv]["logits_sha256"]
    assert said.stopped == "length"


def test_the_text(smollm2_path):
    said = generate(smollm2_path, PROMPT, 16)
    assert said.text.startswith(" Paris.\n\nThe United States has a population of approximately")
    assert said.tokens_per_s > 0


def test_a_chat_stops_at_the_end_of_the_text(smollm2_path):
    said = generate(smollm2_path, "What is 2+2?", 40, chat=True)
    assert said.stopped == "end"
    assert len(said.tokens) < 40
    assert "4" in said.text
    assert said.prompt_tokens[0] == 1
    assert not set(said.tokens) & tokenizer_of(open_gguf(smollm2_path)).eos_ids


def test_the_command_writes_text_or_one_json_document(smollm2_path):
    plain = command("--model", "smollm2", "--prompt", PROMPT, "--tokens", "3", "--backend", "golden")
    assert (plain.returncode, plain.stdout) == (0, " Paris.\n\n")
    assert "3 tokens after a prompt of 5" in plain.stderr
    assert "tokens/s" in plain.stderr
    document = command("--model", str(smollm2_path), "--prompt", PROMPT, "--tokens", "3", "--json")
    assert document.returncode == 0
    assert document.stderr == ""
    read = json.loads(document.stdout)
    assert read["tokens"] == RECORDED["int8"]["tokens"][:3]
    assert read["text"] == " Paris.\n"
    assert read["prompt_tokens"] == RECORDED["prompt_tokens"]


@pytest.mark.parametrize(("arguments", "message"), [
    (("smollm2", PROMPT, "0"), "--tokens must be at least 1, not 0"),
    (("smollm2", "", "1"), "--prompt must not be empty"),
    (("llama2-7b", PROMPT, "1"), "must be smollm2 or a .gguf file"),
    (("/nowhere/model.gguf", PROMPT, "1"), "/nowhere/model.gguf"),
    (("smollm2", PROMPT, "1", "--backend", "verilog"), "'verilog' is not"),
])
def test_bad_input_is_one_line_and_status_2(arguments, message):
    model, prompt, tokens, *more = arguments
    done = command("--model", model, "--prompt", prompt, "--tokens", tokens, *more)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_the_context_and_the_arguments_are_checked_before_anything_is_computed(smollm2_path, tmp_path):
    with pytest.raises(InputError, match=r"the context of 8192, not 5 \+ 8188"):
        generate(smollm2_path, PROMPT, 8188)
    with pytest.raises(InputError, match="at least 1"):
        generate(smollm2_path, PROMPT, 0)
    with pytest.raises(InputError, match="empty"):
        generate(smollm2_path, "", 1)
    with pytest.raises(InputError, match="MODEL must be"):
        model_path("smollm2-135m")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(smollm2_path.read_bytes()[:100_000])
    with pytest.raises(InputError, match=r"cut\.gguf"):
        generate(cut, PROMPT, 1)
