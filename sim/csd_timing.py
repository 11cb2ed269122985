"""Cycles of the sparse DSP chain, unstalled: slabs of activations, loaded while the one before is used."""

from collections.abc import Sequence

from mixflight.arch.csd_chain import node_latency


def chain_schedule(*, entries: Sequence[int], steps: Sequence[int]) -> list[tuple[int, int]]:
    """(First, last) cycle in which the steps of each slab are taken, counted from the cycle of the first entry.

    ``entries`` activations a slab and ``steps`` that use it, both at least 1. There are two banks: an entry a cycle
    is taken while a bank is free; a slab's first step is taken at the earliest in the cycle after its last entry,
    and its bank is free again in the cycle after its last step.
    """
    schedule: list[tuple[int, int]] = []
    loaded = used = -1
    for number, (count, uses) in enumerate(zip(entries, steps, strict=True)):
        free = schedule[number - 2][1] if number >= 2 else -1
        loaded = max(loaded, free) + count
        first = max(loaded, used) + 1
        used = first + uses - 1
        schedule.append((first, used))
    return schedule


def chain_cycles(*, entries: Sequence[int] | None, steps: Sequence[int], length: int, group: int, variant: str) -> int:
    """Cycles from the first entry taken, or step where operands come chosen (``entries`` None), to the last sum."""
    last = sum(steps) - 1 if entries is None else chain_schedule(entries=entries, steps=steps)[-1][1]
    return last + node_latency(node=length // group - 1, group=group, variant=variant) + 1
