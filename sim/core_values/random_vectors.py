"""Random MISC: operations on vectors, rows of an embedding, what attention needs."""

import numpy as np

from mixflight.sim.core_values.random_maker import GLOBAL_WINDOW, HEAD, RAW, Maker
from mixflight.sim.core_values.random_memory import CELLS, EMBEDDING_BYTES, EMBEDDINGS, OUT


def vector(maker: Maker) -> None:
    """An operation of a decode step on vectors of any length, in place or not."""
    name = str(maker.rng.choice(["norm", "norm", "rope", "quantise", "quantise", "residual", "bias",
                                 "activation:silu:gated"]))  # fmt: skip
    parts, vectors = maker.whole(0, 1), maker.whole(1, 6)
    elements = HEAD if name == "rope" or maker.chance(0.3) else maker.whole(16, 400)
    operation(maker, name, vectors, elements, parts)


def operation(maker: Maker, name: str, vectors: int, elements: int, parts: int) -> None:
    """``name`` on so many vectors of about so many elements."""
    others = {"parts": parts, "a_line": maker.operand(vectors, elements)}
    if name == "quantise":
        others |= {"target": 1, "group": maker.any(0, 4, 5, 5, 6), "out_line": maker.act_line()}
        elements = -(-elements >> others["group"]) << others["group"] if others["group"] else elements
    else:
        many = name == "residual" or name.endswith(":gated")
        others |= {"b_line": maker.operand(vectors if many else 1, elements)}
        in_place = maker.chance(0.4)
        others["out_line"] = others["a_line"] if in_place else maker.vector_line()
    maker.checked(name, vectors, elements, others)


def embed(maker: Maker) -> None:
    """A row of the embedding from DDR, and its FP32."""
    n, group = maker.whole(64, 512, 64), maker.any(0, 5, 5, 6)
    line, row = maker.vector_line(RAW, GLOBAL_WINDOW - 20), maker.whole(0, EMBEDDINGS - 1)
    at, size = row * EMBEDDING_BYTES, n + 2 * (n >> group if group else 1)
    # a row whose scales come behind its 512 codes: shorter ones take codes for scales, which must be finite
    stored = maker.ddr[0][at + n : at + size].copy().view(np.float16)
    if not np.isfinite(stored).all() or (np.abs(stored) > 100).any():
        return
    if maker.try_("LD", maker.ld("global", at, -(-size // 4) * 4, line=line, ddr=1, wide=0)):
        out = maker.vector_line()
        maker.checked("embed", 1, n, {"b_line": line, "group": group, "out_line": out})


def append(maker: Maker) -> None:
    """Cells of the cache of some heads."""
    heads = maker.whole(1, 3)
    maker.checked("kv_append", 2 * heads, HEAD, {
        "a_line": maker.operand(heads, HEAD), "b_line": maker.operand(heads, HEAD), "target": 1,
        "parts": maker.whole(0, 1), "out_line": maker.act_line(),
    })  # fmt: skip


def softmax(maker: Maker, causal: int = 0) -> None:
    """Softmax in place."""
    vectors, elements = maker.whole(1, 4), maker.whole(4, 300)
    line = maker.operand(vectors, elements)
    maker.checked("softmax", vectors, elements, {"a_line": line, "out_line": line, "causal": causal})


def probabilities(maker: Maker, causal: int = 0) -> None:
    """Scales of values from the cache, and the codes of what stands for probabilities."""
    vectors, elements = maker.whole(1, 4), maker.whole(4, 300)
    line = maker.vector_line(RAW, GLOBAL_WINDOW - 20)
    each = -(-4 * -(-elements // maker.shape.channels) // 32) * 32
    if maker.try_("LD", maker.ld("global", maker.whole(CELLS, OUT - each, 32), each, line=line)):
        maker.checked("probability_quantise", vectors, elements, {
            "a_line": maker.operand(vectors, elements), "b_line": line, "target": 1, "causal": causal,
            "out_line": maker.act_line(),
        })  # fmt: skip


def causal(maker: Maker) -> None:
    """Rotation, softmax or probabilities of successive tokens."""
    way = (turn, softmax, probabilities)[maker.whole(0, 2)]
    way(maker, causal=1)


def turn(maker: Maker, causal: int) -> None:
    """Rotation in place."""
    vectors = maker.whole(1, 6)
    line = maker.operand(vectors, HEAD)
    maker.checked("rope", vectors, HEAD, {"a_line": line, "out_line": line, "causal": causal})
