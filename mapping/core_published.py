"""A core's program of one length in the published encoding: every loop unrolled, a transfer over all channels merged.

What the published instructions have no field for (bits of a code, groups, sizes of vectors, N of N:M) is left out, as
is an address's part above its field, and an operation of the SFU that it does not know is written as ``add``: these
files say how much there is to store, the compact text is what runs. A merged transfer says its channels in the
innermost loop.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, encode, published, stream_of
from mixflight.mapping.core_program import BUFFERS, OPERATIONS, Piece
from mixflight.mapping.core_storage import SEQUENCED

_TARGETS = {"weight": "a", "scale": "bias", "index": "meta", "act": "b", "global": "global"}
_MISC = {"softmax": "softmax", "norm": "rmsnorm", "residual": "add", "activation:silu:gated": "silu",
         "activation:silu:plain": "silu"}  # fmt: skip


def published_words(pieces: Iterable[Piece]) -> Iterator[NDArray[np.uint32]]:
    """The words of ``pieces``, one after the other."""
    for piece in pieces:
        yield np.asarray(encode(stream_of(*_columns(piece), published()), published()))


def _columns(piece: Piece) -> tuple[NDArray[np.uint8], dict[str, dict[str, Ints]]]:
    """Kinds and fields of ``piece``, without what the sequencer alone carries out."""
    queued = piece.tables["SYS"]["operation"] < SEQUENCED
    kept = np.ones(len(piece.kinds), bool)
    kept[piece.kinds == CLASS_INDEX["SYS"]] = queued
    tables = {kind: _fields(kind, piece.tables[kind]) for kind in CLASSES}
    tables["SYS"] = {name: column[queued] for name, column in tables["SYS"].items()}
    return piece.kinds[kept], tables


def _fields(kind: str, table: Mapping[str, Ints]) -> dict[str, Ints]:
    fields = published().instructions[kind].fields
    found: dict[str, Ints] = {"wait": table["wait"], "release": table["release"]}
    line = {name: table[name] // LINE_BYTES for name in table if name.endswith("_address")}
    if kind in ("LD", "ST"):
        found |= {"channel": table["channel"], "address": table["address"], "length": table["bytes"],
                  "bank_address": line["buffer_address"], "memory": table["memory"],
                  "loop_1" if kind == "LD" else "loop": table["channels"]}  # fmt: skip
        if kind == "LD":
            known = list(fields["target"].values)
            codes = np.array([known.index(_TARGETS[name]) for name in BUFFERS], np.int64)
            found["target"] = codes[table["target"]]
    elif kind in ("MM", "MV"):
        found |= {"k_blocks": table["k"] // K_BLOCK, "output": table["last"],
                  "sparse": (table["keep_n"] < K_BLOCK).astype(np.int64), "meta_address": line["index_address"],
                  "bias_address": line["scale_address"], "out_address": line["out_address"],
                  "a_address": line["weight_address"], "b_address": line["in_address"]}  # fmt: skip
    elif kind == "MISC":
        known = list(fields["operation"].values)
        codes = np.array([known.index(_MISC.get(name, known[0])) for name in OPERATIONS], np.int64)
        found |= {"operation": codes[table["operation"]], "k_blocks": -(-table["elements"] // K_BLOCK),
                  "a_address": line["a_address"], "b_address": line["b_address"],
                  "out_address": line["out_address"]}  # fmt: skip
    return {name: column % fields[name].limit for name, column in found.items()}
