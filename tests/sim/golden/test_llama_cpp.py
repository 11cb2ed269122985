"""The golden model beside llama.cpp on the same file: the same next token, but for near ties (docs/llama-cpp.md)."""

import json
from pathlib import Path

import numpy as np
import pytest

from mixflight.sim.golden.llama import Session, load_llama
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

ROOT = Path(__file__).parents[3]
RECORD = json.loads((ROOT / "tests/data/llama_cpp_smollm2.json").read_text())
NEAR = 0.25
"""A difference of logits below which arithmetic of 8 bits may turn a choice: 28 % of probability."""


@pytest.fixture(scope="module")
def compared(smollm2_path):
    """Per prompt its record and the flips: position, our token, how far it is ahead of llama.cpp's in our logits."""
    file = open_gguf(smollm2_path)
    tokenizer, llama = tokenizer_of(file), load_llama(file)

    def flips(row):
        prompt, tokens = list(tokenizer.encode(row["prompt"])), row["tokens"]
        logits = Session(llama).extend(prompt + tokens[:-1], every=True)[len(prompt) - 1 :]
        best = logits.argmax(axis=1)
        return [(int(at), int(best[at]), float(logits[at, best[at]] - logits[at, tokens[at]]))
                for at in np.flatnonzero(best != tokens)]  # fmt: skip

    return tokenizer, [(row, flips(row)) for row in RECORD["rows"]]


def test_every_choice_that_is_no_near_tie_is_llama_cpps(compared):
    flipped = [(row["margin"][at], ours) for row, flips in compared[1] for at, _, ours in flips]
    assert sum(len(row["tokens"]) for row, _ in compared[1]) == 192
    assert len(flipped) == 9
    assert all(theirs < NEAR and ours < NEAR for theirs, ours in flipped)
    assert sum(margin >= NEAR for row, _ in compared[1] for margin in row["margin"]) == 168   # where it could differ


def test_the_page_shows_each_flip_with_both_margins(compared):
    tokenizer, rows = compared
    page = (ROOT / "docs/llama-cpp.md").read_text()
    for row, flips in rows:
        same = flips[0][0] if flips else len(row["tokens"])
        shown = "; ".join(f"{at + 1}: `{_shown(tokenizer, row['tokens'][at])}` {row['margin'][at]:.3f}, "
                          f"`{_shown(tokenizer, best)}` {ours:.3f}" for at, best, ours in flips)  # fmt: skip
        line = f"| `{row['prompt']}` | {same} | {shown or 'none'} |"
        assert line in page, line


def _shown(tokenizer, token):
    return tokenizer.decode([token]).replace("\n", "\\n")
