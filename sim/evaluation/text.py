"""The evaluation text: plain prose on several subjects, a dialogue, numbers and a little code.

It was written for this project and is under its licence, Apache-2.0. Recorded figures hold for these bytes, so a
change of the text is a change of every perplexity.
"""

import hashlib
from pathlib import Path

from mixflight.arch.errors import InputError

PATH = Path(__file__).with_name("text.txt")
SHA256 = "52b55b245d76a5ef369c730f241d93e100afcb4bbe02b6942d17b954ba331ce4"
SMOLLM2_TOKENS = 2436


def evaluation_text() -> str:
    """The text, if its bytes are the recorded ones."""
    data = PATH.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise InputError(f"the evaluation text must have the SHA-256 {SHA256}, not {found}, in {PATH}")
    return data.decode()
