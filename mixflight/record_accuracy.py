"""``python -m mixflight.record_accuracy [RECIPE...]``: what recipes cost on the real model, measured and kept.

Each row of the table is what ``mixflight evaluate --model smollm2 --recipe RECIPE --reference --json`` prints, over the
whole evaluation text, less the time that it took, with the versions it was made with. A row is written when it is
measured; rows of other recipes stay.
"""

import platform
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from mixflight.arch.errors import InputError
from mixflight.cli.evaluate import evaluation_document
from mixflight.evaluate import Scenario, evaluate_each
from mixflight.files import whole_file
from mixflight.reports.accuracy import accuracy_figure, accuracy_table

PATH = Path(__file__).resolve().parent / "sim" / "evaluation" / "accuracy.json"
DOCS = Path(__file__).resolve().parents[1] / "docs"
MODEL = "smollm2"
TIMES = ("scoring_s", "tokens_per_s")  # a machine's, not a recipe's
# In the order of the page: weights, activations, cache, attention, absent weights.
RECIPES = (
    "unquantised", "kv8", "w8", "w-q4k", "w4-g32", "w4-g64-z4", "w-iq4", "w-nf4-g64", "w-mxfp4", "w3-g32-z3", "w3-g32",
    "w-q2k", "w2-g32-z2", "a8-token", "a6-token", "a6-g32", "a4-g32", "a4-token", "a4-kronecker", "a4-hadamard",
    "w4a4-hadamard", "a16-kv8", "k8v4", "k4v8", "kv4", "kv4-channel", "kv2-channel", "window-128-sink", "window-128",
    "top-64", "blocks-30", "w4-2of4", "w4-8of16", "w4-4of16", "w4-2of16",
)  # fmt: skip


def rows(path: Path = PATH) -> dict[str, dict[str, Any]]:
    """The kept rows by recipe, in the order of the page."""
    held = msgspec.json.decode(path.read_bytes()) if path.exists() else []
    found = {row["recipe"]: row for row in held}
    return {name: found[name] for name in sorted(found, key=lambda name: RECIPES.index(name))}


def write(found: list[dict[str, Any]], path: Path = PATH) -> None:
    """The rows as one JSON list, a row a line."""
    with whole_file(path) as part:
        part.write_bytes(b"[\n" + b",\n".join(msgspec.json.encode(row) for row in found) + b"\n]\n")


def write_page(found: list[dict[str, Any]]) -> None:
    """The figure, and the table in the page's place for it."""
    page = DOCS / "accuracy.md"
    text = page.read_text(encoding="utf-8")
    old = re.search(r"(?m)^\| recipe \|.*\n(?:\|.*\n)+", text)
    if old is None:
        raise InputError(f"the page must hold a table that begins with | recipe |, in {page}")
    page.write_text(text[: old.start()] + accuracy_table(found) + "\n" + text[old.end() :], encoding="utf-8")
    (DOCS / "accuracy.svg").write_text(accuracy_figure(found), encoding="utf-8")


def main(names: list[str], path: Path = PATH) -> None:
    """Measure ``names``, or every recipe that has no row yet."""
    wanted = names or [name for name in RECIPES if name not in rows(path)]
    made_with = {"python": platform.python_version(), **{name: version(name) for name in ("numpy", "numba")}}
    for found in evaluate_each(MODEL, wanted, Scenario(), reference=True):
        row = {key: value for key, value in evaluation_document(found).items() if key not in TIMES}
        write([*(rows(path) | {found.recipe: row | {"made_with": made_with}}).values()], path)
        write_page([*rows(path).values()])
        print(f"{found.recipe}: {found.perplexity.value:.3f}, {found.tokens_per_s:.0f} tokens/s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
