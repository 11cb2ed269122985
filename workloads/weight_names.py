"""Names of weights, as the tables of a recipe match them.

    check_pattern  a pattern that no weight of any model can match is an InputError
    layer_named    the number of a block that a pattern names, if it names one
"""

import difflib
import re

from mixflight.arch.errors import InputError

# The last part of a weight's name; before it stand ``layers.N.``, ``shared.`` and the names of towers and drafts.
WEIGHTS = (
    "q", "k", "v", "o", "gate", "up", "down", "router", "router_gate", "router_up", "shared_gate",
    "cross_q", "cross_k", "cross_v", "cross_o", "head", "patch_embed",
)  # fmt: skip
ATTENTION = "attention"  # in ``act``: queries and probabilities

_LAYER = re.compile(r"layers\.(\d+)\.")


def check_pattern(pattern: str, names: tuple[str, ...], where: str) -> None:
    """The part after the last dot must be one of ``names`` unless it has a wildcard."""
    last = pattern.rpartition(".")[2]
    if last in names or any(character in last for character in "*?["):
        return
    near = difflib.get_close_matches(last, names, n=1, cutoff=0.0)[0]
    raise InputError(
        f"a pattern must end with the name of a weight or a wildcard, not {pattern!r} (nearest: {near!r}), in {where}"
    )


def layer_named(pattern: str) -> int | None:
    """The number that ``pattern`` gives a block of the model itself, if it is written out."""
    found = _LAYER.match(pattern)
    return int(found[1]) if found else None
