"""The matrix engine of a core on vectors as data: cycles of a tile, and the registers between reading and results.

``mixflight.rtl.core_mv`` is built from these numbers and verified against them.
"""

import functools

from mixflight.arch.array_pipeline import lane_latency, loop_latency
from mixflight.arch.compact import K_BLOCK
from mixflight.arch.csd_chain import node_latency

DOTS = {"dsp48e2": "dsp48e2", "dsp58": "dsp58", "shift-add-4x8": "shift-add"}
"""What a machine's engine is made of → the dot products of its engine on vectors."""
TAKE_CYCLES = 1
"""Cycles in which an instruction is taken and nothing is read."""
SELECT_STAGES = 1
"""Registers behind the buffers: the row's block of codes, the word of weights."""
SHIFT_ADD_STAGES = 2
"""Of shift-add products: the sums of each bit, and what they join to."""
SUM_STAGES = HOLD_STAGES = ROUND_STAGES = GATHER_STAGES = 1
"""Registers of a group's sum, of an event for the lanes, of a column's rounded sum, of the results of an event."""
QUEUE_CYCLES = 1
"""From entering an empty queue of results to leaving it."""
RESULT_EVENTS = 14
"""Events of one row whose results may be between their last block's reading and the buffer."""
CHAIN_GROUP = 2
"""Products between the reduction nodes of a DSP chain."""
NARROW_BITS = 4
"""Codes of more bits take two passes on shift-add products."""


def passes(*, dots: str, weight_bits: int) -> int:
    """Passes over a word of weights: shift-add products take four bits of a code at a time."""
    return 2 if dots == "shift-add" and weight_bits > NARROW_BITS else 1


def mv_cycles(
    *, columns: int, step: int, k: int, rows: int, passes: int, group: int, serial: int, more: bool = False,
    written: int = 0, keep: int = K_BLOCK, together: int = 1,
) -> int:  # fmt: skip
    """Cycles in which an MV keeps the engine, unstalled.

    ``step`` columns advance together, with 16 along ``k`` of ``together`` of the ``rows``, an *event* of each group; a
    group of ``group`` (0: all of K) ends ``serial`` cycles after another at the earliest, and an accumulator is met
    again after the lanes' loop. ``more``: a slab of the same tile follows, which meets the accumulators of this one.
    ``written``: as of :func:`results_end`; 0 where no results leave. Weights that ``keep`` so many of 16 have 16 in a
    word as well; a group is at least a word.
    """
    groups = k // group if group else 1
    reads = passes * group_words(k=k, groups=groups, keep=keep)
    steps = -(-columns // step)
    events = -(-rows // together) * steps
    pace, loop = event_pace(k=k, group=group, keep=keep, passes=passes, serial=serial), loop_latency("f16-min")
    period, last = pace * events, pace * (events - 1) + reads
    if written:
        last = reads + results_end(rows=rows, together=together, steps=steps, pace=pace, written=written)[0]
    if more and group:
        last = max(last, loop - TAKE_CYCLES)
    return TAKE_CYCLES + (groups - 1) * max(period, loop) + last


def event_pace(*, k: int, group: int, keep: int, passes: int, serial: int) -> int:
    """Cycles from the end of a group of one event to that of the next: the words of the group, or what lanes take."""
    return max(passes * group_words(k=k, groups=k // group if group else 1, keep=keep), serial)


def result_events(together: int) -> int:
    """Events whose results may be between their last block's reading and the buffer where so many rows go together:
    places of their queue, less two."""
    return RESULT_EVENTS if together == 1 else 2 * RESULT_EVENTS + 2


@functools.cache
def results_end(*, rows: int, together: int, steps: int, pace: int, written: int) -> tuple[int, int]:
    """Cycles from the first event of a tile's last group of K to its last event, and to its last line's having left.

    An event ends ``pace`` cycles after another at the earliest, and the line of its first row has left for the buffer
    ``written`` cycles later at the earliest; a row is a line, a line takes a cycle, and no more than
    :func:`result_events` events are on their way.
    """
    groups, most = -(-rows // together), result_events(together)
    short = rows - (groups - 1) * together
    events = groups * steps
    if events < 2 or (together <= pace and written + together - 1 <= most * pace):
        last = pace * (events - 1)
        return last, last + written + short - 1
    left: list[int] = []
    at = 0
    for event in range(events):
        lines = together if (event + 1) % groups else short
        if event:
            at += pace
        if event >= most:
            at = max(at, left[event - most])
        left.append(max(at + written + lines - 1, left[-1] + lines if left else 0))
    return at, left[-1]


def group_words(*, k: int, groups: int, keep: int) -> int:
    """Words of a step of columns in each of the ``groups`` of ``k``, of which ``keep`` of 16 are kept."""
    words = -(-k * keep // (K_BLOCK * K_BLOCK)) // groups
    return words if keep == K_BLOCK else max(1, words)


def dots_latency(dots: str) -> int:
    """Cycles from a step's operands to its sums of 16 products."""
    if dots == "shift-add":
        return SHIFT_ADD_STAGES
    return node_latency(node=K_BLOCK // CHAIN_GROUP - 1, group=CHAIN_GROUP, variant=dots)


def results_latency(serial: int) -> int:
    """Cycles from a group's sums to the results of all columns, of which a lane serves ``serial``."""
    return HOLD_STAGES + ROUND_STAGES + serial - 1 + lane_latency("f16-min") + GATHER_STAGES


def sums_latency(*, dots: str, read_latency: int) -> int:
    """Cycles from reading the last block of a tile to its last sums, where they are kept for a slab behind."""
    return read_latency + SELECT_STAGES + dots_latency(dots) + SUM_STAGES


def mv_latency(*, dots: str, serial: int, read_latency: int) -> int:
    """Cycles from reading the last block of a tile to offering its last results."""
    return sums_latency(dots=dots, read_latency=read_latency) + results_latency(serial) + QUEUE_CYCLES
