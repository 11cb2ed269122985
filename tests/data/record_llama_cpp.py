"""Record what llama.cpp says greedily on the same file, an outside reference for the golden model.

    pip install xllamacpp          (wheels of llama.cpp with a Python binding, in an environment of its own)
    python tests/data/record_llama_cpp.py SmolLM2-135M-Instruct.Q4_1.gguf      writes llama_cpp_smollm2.json beside this file

For each prompt and each generated token: the token, the one next to it, and by how much its logarithm of probability
is ahead, which is the difference of their logits. llama.cpp runs on the CPU, its cache in FP16 (its default).
"""

import importlib.metadata
import json
import sys
from pathlib import Path

TOKENS = 24
PROMPTS = (
    "The capital of France is",
    "Water boils at a temperature of",
    "def fibonacci(n):",
    "Once upon a time, in a small village,",
    "The three primary colours are",
    "A hardware accelerator for language models",
    "In the year 1969, the first humans",
    "2 + 2 =",
)
PATH = Path(__file__).with_name("llama_cpp_smollm2.json")


def record(model: str) -> dict[str, object]:
    """The recorded document."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = model
    settings.n_ctx, settings.n_parallel, settings.warmup, settings.cpuparams.n_threads = 512, 1, False, 1
    server, rows = xllamacpp.Server(settings), []
    for prompt in PROMPTS:
        answer = server.handle_completions(
            {"prompt": prompt, "n_predict": TOKENS, "temperature": 0, "n_probs": 2, "cache_prompt": False}
        )
        choice = answer["choices"][0]
        seen = choice["logprobs"]["content"]
        best = [[one["top_logprobs"][rank] for one in seen] for rank in (0, 1)]
        rows.append({
            "prompt": prompt, "text": choice["text"], "tokens": [one["id"] for one in seen],
            "second": [one["id"] for one in best[1]],
            "margin": [round(a["logprob"] - b["logprob"], 5) for a, b in zip(*best, strict=True)],
        })  # fmt: skip
    return {"xllamacpp": importlib.metadata.version("xllamacpp"), "cache": "f16", "rows": rows}


if __name__ == "__main__":
    PATH.write_text(json.dumps(record(sys.argv[1])) + "\n")
