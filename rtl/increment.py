"""Adding a bit to a word with half the carry chain."""

from amaranth import *


def incremented(m: Module, word, up, name: str) -> Value:
    """``word`` + ``up``, a bit, modulo its width: the upper half is counted up beside the lower one and chosen."""
    half = len(word) // 2
    low, high = Signal(half, name=f"{name}_low"), Signal(len(word) - half, name=f"{name}_high")
    more = Signal(len(word) - half, name=f"{name}_more")
    m.d.comb += [
        low.eq(word[:half] + up), more.eq(word[half:] + 1),
        high.eq(Mux(up & word[:half].all(), more, word[half:])),
    ]
    return Cat(low, high)
