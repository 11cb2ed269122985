"""The evaluation text is the one that recorded perplexities are about."""

import pytest

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation import text
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of


def test_the_text_is_the_recorded_one_and_long_enough(smollm2_path):
    tokens = tokenizer_of(open_gguf(smollm2_path)).encode(text.evaluation_text())
    assert len(tokens) == text.SMOLLM2_TOKENS >= 2300


def test_another_text_is_refused(monkeypatch, tmp_path):
    other = tmp_path / "text.txt"
    other.write_text("Another text.")
    monkeypatch.setattr(text, "PATH", other)
    with pytest.raises(InputError, match="SHA-256"):
        text.evaluation_text()
