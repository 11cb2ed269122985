"""Record what the golden model says, so that an unintended change of its numerics is seen.

    python tests/data/record_generation.py      writes generation_smollm2.json beside this file
"""

import json
from pathlib import Path

from mixflight.generate import generate

PROMPT, TOKENS = "The capital of France is", 16
PATH = Path(__file__).with_name("generation_smollm2.json")


def record() -> dict[str, object]:
    """The recorded document."""
    said = {kv: generate("smollm2", PROMPT, TOKENS, kv=kv) for kv in ("int8", "fp16")}
    return {
        "prompt": PROMPT,
        "prompt_tokens": said["int8"].prompt_tokens,
        **{kv: {"tokens": one.tokens, "text": one.text, "logits_sha256": one.logits_sha256} for kv, one in said.items()},
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(record(), indent=1) + "\n")
