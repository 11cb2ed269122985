"""An instruction as the event loop reads it: one row of some 40 bytes, in program order; times in ticks."""

import functools
from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.isa import CLASSES, Ints

TICKS = 16
"""Times in the event loop are whole sixteenths of a cycle, so that equal states are equal."""

SHARED_DDR = 32
"""First channel number of DDR in the event loop; HBM has at most so many."""
CHANNELS = SHARED_DDR + 8

ROW = np.dtype([
    ("occupancy", np.int64), ("port_time", np.int64), ("latency", np.int64), ("operator", np.int32),
    ("waits", np.int32), ("releases", np.int32), ("kind", np.int8), ("limit", np.int8), ("first", np.int8),
    ("channels", np.int8), ("port", np.int8), ("use", np.int8), ("sync", np.int8),
], align=True)  # fmt: skip
"""``kind`` is -1 for control. ``waits`` and ``releases`` are pairs of classes (``pairs_of``). A transfer keeps
``channels`` channels from ``first`` on for its ``occupancy``, and the buffer it fills, ``port`` (-1: none), for
``port_time``; ``use`` says which channels those are. ``sync`` marks what all cores start together, and a transfer that
keeps its unit instead of channels."""

NO_CHANNEL, ALL_OWN, ONE_OWN, OTHERS = range(4)
"""``use``: no channel, all channels of the core, one of them, or any others."""

_N = len(CLASSES)
PAIR_BITS = 6


@functools.cache
def pairs_of(kind: int) -> tuple[Ints, Ints]:
    """By mask (``mixflight.arch.isa``): the pairs whose tokens class ``kind`` takes, and those it gives.

    A pair is 1 + giver x 6 + taker; pairs follow one another from the lowest ``PAIR_BITS`` bits on, 0 behind the last.
    """
    waits, releases = np.zeros(1 << _N - 1, np.int64), np.zeros(1 << _N - 1, np.int64)
    others = [other for other in range(_N) if other != kind]
    for mask in range(len(waits)):
        named = [other for bit, other in enumerate(others) if mask >> (_N - 2 - bit) & 1]
        for place, other in enumerate(named):
            waits[mask] |= 1 + other * _N + kind << PAIR_BITS * place
            releases[mask] |= 1 + kind * _N + other << PAIR_BITS * place
    return waits, releases


def channel_use(first: Ints, channels: Ints, own: int) -> Ints:
    """``use`` of transfers, with the core's ``own`` channels from 0 on."""
    one = (channels == 1) & (first < own)
    every = (first == 0) & (channels == own)
    return np.where(channels == 0, NO_CHANNEL, np.where(one, ONE_OWN, np.where(every, ALL_OWN, OTHERS)))


def rows_of(count: int) -> Any:
    """``count`` rows of nothing."""
    rows = np.zeros(count, ROW)
    rows["port"] = -1
    return rows


@njit(cache=True)
def place_rows(rows: Any, at: Any, timed: Any, which: Any, waits: Any, releases: Any, operators: Any) -> None:
    """Write the row ``which`` of ``timed`` to each place ``at``, with its own tokens and operator."""
    for index in range(len(at)):
        rows[at[index]] = timed[which[index]]
        rows[at[index]].waits = waits[index]
        rows[at[index]].releases = releases[index]
        rows[at[index]].operator = operators[index]
