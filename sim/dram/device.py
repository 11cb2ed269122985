"""One DRAM channel: when each command is legal, and what it changes. Time is in memory clocks.

State is three arrays: ``bank`` (bank, OPEN_ROW and the last clock of each command), ``group`` (group, last clocks) and
``channel`` (last clocks, the last four activates as a ring). A ``ready_*`` function reads, a command function writes.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.dram_standard import DramStandard

Clocks = NDArray[np.int64]

loop = njit(cache=True, _nrt=False)
"""Compiled without counting references to arrays: nothing is allocated, and counting takes most of the time."""
part = njit(cache=True, _nrt=False, inline="always")
"""The same, for a part of one loop: a call would hand over all arrays."""

NEVER = -(1 << 40)
CLOSED = -1

ACT, PRE, READ, WRITE, REFRESH, PRE_ALL = 0, 1, 2, 3, 4, 5
COMMANDS = ("ACT", "PRE", "RD", "WR", "REF", "PREA")

# Columns of the state: the clock of the last command of that kind; of a bank also its open row.
OPEN_ROW = 4
RING, RING_AT = 5, 9

# Rows of the timing table: distances between two commands, burst and latencies folded in.
(
    ACT_ACT_BANK, ACT_ACT_GROUP, ACT_ACT, FOUR_ACT, ACT_PRE, ACT_READ, ACT_WRITE, PRE_ACT, READ_PRE, WRITE_PRE,
    READ_READ, READ_READ_GROUP, WRITE_WRITE, WRITE_WRITE_GROUP, READ_WRITE, WRITE_READ, WRITE_READ_GROUP,
    REFRESH_ACT, REFRESH_EVERY, READ_DATA, WRITE_DATA,
) = range(21)  # fmt: skip


def timing_table(standard: DramStandard) -> Clocks:
    """Distances between commands, from the standard's rows; the last two are from a command to its data's end."""
    t, burst = standard.timing, standard.burst_clocks
    return np.array([
        t.nRC, t.nRRDL, t.nRRDS, t.nFAW, t.nRAS, t.nRCDRD, t.nRCDWR, t.nRP, t.nRTP, t.nCWL + burst + t.nWR,
        max(t.nCCDS, burst), t.nCCDL, max(t.nCCDS, burst), t.nCCDL, t.nCL + burst + t.nRTW - t.nCWL,
        t.nCWL + burst + t.nWTRS, t.nCWL + burst + t.nWTRL, t.nRFC, t.nREFI, t.nCL + burst, t.nCWL + burst,
    ], np.int64)  # fmt: skip


def new_state(standard: DramStandard) -> tuple[Clocks, Clocks, Clocks]:
    """A channel with every row closed and no command yet: (banks, groups, channel)."""
    bank = np.full((standard.banks, 5), NEVER, np.int64)
    bank[:, OPEN_ROW] = CLOSED
    channel = np.full(10, NEVER, np.int64)
    channel[RING_AT] = 0
    return bank, np.full((1 << standard.bits("group"), 4), NEVER, np.int64), channel


@loop
def ready_activate(t: Any, bank: Any, group: Any, channel: Any) -> Any:
    """First clock at which a row of ``bank`` may be opened; ``bank`` and ``group`` are rows of the state."""
    ready = max(bank[ACT] + t[ACT_ACT_BANK], bank[PRE] + t[PRE_ACT])
    ready = max(ready, max(group[ACT] + t[ACT_ACT_GROUP], channel[ACT] + t[ACT_ACT]))
    ready = max(ready, channel[RING + channel[RING_AT]] + t[FOUR_ACT])
    return max(ready, channel[REFRESH] + t[REFRESH_ACT])


@loop
def activate(bank: Any, group: Any, channel: Any, row: Any, now: Any) -> None:
    """Open ``row``."""
    bank[OPEN_ROW] = row
    bank[ACT] = now
    group[ACT] = now
    channel[ACT] = now
    channel[RING + channel[RING_AT]] = now
    channel[RING_AT] = (channel[RING_AT] + 1) % 4


@loop
def ready_precharge(t: Any, bank: Any) -> Any:
    """First clock at which the open row of ``bank`` may be closed."""
    return max(bank[ACT] + t[ACT_PRE], max(bank[READ] + t[READ_PRE], bank[WRITE] + t[WRITE_PRE]))


@loop
def precharge(bank: Any, now: Any) -> None:
    """Close the open row."""
    bank[OPEN_ROW] = CLOSED
    bank[PRE] = now


@loop
def ready_read(t: Any, bank: Any, group: Any, channel: Any) -> Any:
    """First clock at which a burst of the open row may be read."""
    ready = max(bank[ACT] + t[ACT_READ], max(channel[READ] + t[READ_READ], group[READ] + t[READ_READ_GROUP]))
    return max(ready, max(channel[WRITE] + t[WRITE_READ], group[WRITE] + t[WRITE_READ_GROUP]))


@loop
def ready_write(t: Any, bank: Any, group: Any, channel: Any) -> Any:
    """First clock at which a burst of the open row may be written."""
    ready = max(bank[ACT] + t[ACT_WRITE], max(channel[WRITE] + t[WRITE_WRITE], group[WRITE] + t[WRITE_WRITE_GROUP]))
    return max(ready, channel[READ] + t[READ_WRITE])


@loop
def access(bank: Any, group: Any, channel: Any, kind: Any, now: Any) -> None:
    """Read or write a burst: ``kind`` is READ or WRITE."""
    bank[kind] = now
    group[kind] = now
    channel[kind] = now


@loop
def ready_refresh(t: Any, banks: Any, channel: Any) -> Any:
    """First clock at which all banks, closed, may be refreshed."""
    ready = channel[REFRESH] + t[REFRESH_ACT]
    for bank in banks:
        ready = max(ready, max(bank[PRE] + t[PRE_ACT], bank[ACT] + t[ACT_ACT_BANK]))
    return ready
