"""Cycles of the widening unit, unstalled: a run of packed codes, one word a cycle at most."""

from mixflight.arch.widen import CODE_BITS, PORT_QUANTA


def widen_cycles(*, bits: int, beats: int, words: int) -> int:
    """Cycles from the first word of a run taken to its last beat taken, inclusive.

    In quanta of one bit a lane: a word brings ``PORT_QUANTA`` where that many fit beside what waits, a beat takes
    ``bits``. When all beats are made, what is left of ``words`` is padding and adds nothing.
    """
    capacity = max(CODE_BITS) + PORT_QUANTA
    filled = cycle = brought = made = 0
    while made < beats:
        takes = filled >= bits
        brings = brought < words and filled <= capacity - PORT_QUANTA
        filled += PORT_QUANTA * brings - bits * takes
        brought, made, cycle = brought + brings, made + takes, cycle + 1
    return cycle
