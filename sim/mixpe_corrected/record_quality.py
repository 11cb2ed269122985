"""Write ``quality.toml``: errors and perplexities of the design points on SmolLM2 and the shipped text.

    python -m mixflight.sim.mixpe_corrected.record_quality [POINT…]

Half a minute a point on two cores. With points only those rows are made again.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.sim.evaluation.emulated import Emulated
from mixflight.sim.evaluation.score import Perplexity, losses
from mixflight.sim.evaluation.text import evaluation_text
from mixflight.sim.golden.llama import load_llama
from mixflight.sim.mixpe_corrected.quality import POINTS, QUALITY, Quality, quality_table, score
from mixflight.workloads.fetch import fetch_model, source_named
from mixflight.workloads.gguf import open_gguf
from mixflight.workloads.tokenizer import tokenizer_of

MODEL = "smollm2"
_HEADER = "# Written by `python -m mixflight.sim.mixpe_corrected.record_quality`; do not edit.\n"


def as_toml(shared: dict[str, object], rows: list[Quality]) -> str:
    """The file's text."""
    parts = [_HEADER + _lines(shared)]
    return "\n".join([*parts, *("[[rows]]\n" + _lines(msgspec.to_builtins(row)) for row in rows)])


def _lines(values: dict[str, object]) -> str:
    return "".join(f"{key} = {_value(value)}\n" for key, value in values.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6f}"
    return f'"{value}"' if isinstance(value, str) else str(value)


def main() -> None:
    """Measure and write, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("points", nargs="*", metavar="POINT", help="rows to make again; all of them without")
    names = parser.parse_args().points or [point.name for point in POINTS]
    known = {point.name: point for point in POINTS}
    for name in names:
        if name not in known:
            raise InputError(f"POINT must be one of {', '.join(known)}, not {name!r}")
    file = open_gguf(fetch_model(MODEL))
    llama, tokens = load_llama(file), tokenizer_of(file).encode(evaluation_text())
    reference = losses(tokens, Emulated(llama).logits())
    shared: dict[str, object] = {
        "model_sha256": source_named(MODEL).sha256,
        "text_sha256": hashlib.sha256(evaluation_text().encode()).hexdigest(),
        "text_tokens": len(tokens), "unquantised_perplexity": Perplexity.of(reference).value,
    }  # fmt: skip
    rows = {row.name: row for row in (quality_table().rows if QUALITY.exists() else ())}
    for name in names:
        print(f"measuring {name}", file=sys.stderr)
        rows[name] = score(llama, known[name], tokens, reference)
        Path(QUALITY).write_text(as_toml(shared, [rows[point] for point in known if point in rows]))


if __name__ == "__main__":
    main()
