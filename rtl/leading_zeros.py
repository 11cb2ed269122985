"""Zeros above the leading one of a word."""

from amaranth import *
from amaranth.utils import ceil_log2


def leading_zeros(m: Module, word, name: str) -> Signal:
    """How many bits of ``word`` lie above its leading one, as a tree of halves; of a zero the value means nothing."""
    depth = ceil_log2(len(word))
    padded = Cat(Const(0, (1 << depth) - len(word)), word) if len(word) < 1 << depth else word
    nodes = [(~padded[i], None) for i in range(1 << depth)]     # (all zeros, zeros above the leading one)
    for level in range(depth):
        above = []
        for i in range(0, len(nodes), 2):
            (low_empty, low), (high_empty, high) = nodes[i], nodes[i + 1]
            empty = Signal(name=f"{name}_empty_{level}_{i // 2}")
            count = Signal(level + 1, name=f"{name}_{level}_{i // 2}")
            m.d.comb += [
                empty.eq(low_empty & high_empty),
                count.eq(high_empty if low is None else Cat(Mux(high_empty, low, high), high_empty)),
            ]
            above.append((empty, count))
        nodes = above
    return nodes[0][1]
