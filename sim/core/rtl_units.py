"""What an instruction takes on a core whose units are in RTL: the closed forms of ``arch``, in the engine's terms.

*Occupancy* here is the distance to the next instruction of the same unit (of LD: of the same channels), *latency* what
then passes until tokens are given. An instruction taken in cycle t that is done in d gives them in d + 1, so the two
together are d + 1 - t.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, codes
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.core_memory_pipeline import (
    LOAD_FIXED,
    LOAD_GLOBAL,
    READ_LATENCY,
    STORE_FIXED,
    STORE_TURN,
    STORE_WIDE_LESS,
    load_busy,
    store_busy,
)  # fmt: skip
from mixflight.arch.isa import Ints
from mixflight.arch.mm_pipeline import lanes_in_core, rows_in_core
from mixflight.arch.mv_pipeline import event_pace, mv_cycles, mv_latency, passes, results_end, sums_latency
from mixflight.arch.sfu_pipeline import PATHS, misc_cycles
from mixflight.mapping.core_program import BUFFERS, OPERATIONS

_DONE = 1
"""From the cycle of a done to that of the tokens it gives."""
_LAYOUTS = tuple(codes("LD", "layout"))
_PLAIN_ENDS = 2
"""Cycles from the sums of an MV without results to its done."""


def product_times(machine: CoreMachine, table: Mapping[str, Ints]) -> tuple[Ints, Ints]:
    """(Occupancy, latency) of MV and MM: one engine, in which as many rows go together.

    Results that a tile leaves in their queue are taken to have left before those of the next come.
    """
    step, together = machine.column_step, rows_in_core(machine)
    serial = together * step // lanes_in_core(machine)
    dots = machine.products
    leaves = mv_latency(dots=dots, serial=serial, read_latency=READ_LATENCY) + 1
    kept = table["keep_n"] if isinstance(machine.mpe, Chains) else np.full_like(table["k"], K_BLOCK)
    names = ("rows", "columns", "k", "weight_bits", "group", "last")
    stored = sums_latency(dots=dots, read_latency=READ_LATENCY) - 1 + _PLAIN_ENDS
    busy, behind = [], []
    for rows, columns, k, bits, group, last, keep in zip(
        *(table[name].tolist() for name in names), kept.tolist(), strict=True
    ):
        words = {"k": k, "group": group, "keep": keep or K_BLOCK, "passes": passes(dots=dots, weight_bits=bits),
                 "serial": serial}  # fmt: skip
        busy.append(mv_cycles(columns=columns, step=step, rows=rows, together=together, more=not last,
                              written=leaves if last else 0, **words))  # fmt: skip
        ends, left = results_end(rows=rows, together=together, steps=-(-columns // step), pace=event_pace(**words),
                                 written=leaves)  # fmt: skip
        behind.append(left - ends if last else stored)
    return np.array(busy, np.int64), np.array(behind, np.int64)


def has_rtl(table: Mapping[str, Ints]) -> NDArray[np.bool_]:
    """Which MISC the unit in RTL carries out."""
    known: NDArray[np.bool_] = np.array([name in PATHS for name in OPERATIONS])
    return known[table["operation"]]


def misc_busy(machine: CoreMachine, table: Mapping[str, Ints]) -> Ints:
    """Occupancy of MISC, which has no latency beyond; 0 where ``has_rtl`` says no."""
    names = ("operation", "vectors", "elements", "group")
    found = [
        misc_cycles(OPERATIONS[operation], width=machine.sfu.elements_per_cycle, vectors=vectors, elements=elements,
                    group=group) if there and vectors else 0
        for there, operation, vectors, elements, group in zip(
            has_rtl(table).tolist(), *(table[name].tolist() for name in names), strict=True)
    ]  # fmt: skip
    return np.array(found, np.int64)


def load_times(machine: CoreMachine, table: Mapping[str, Ints]) -> tuple[Ints, Ints]:
    """(Occupancy, latency beside the memory's) of LD, whose ``offset`` is that of its first byte in a beat."""
    channels = machine.hbm.channels_per_core
    lanes = machine.column_step // channels
    names = ("target", "offset", "bytes", "channels", "layout", "code_bits", "memory")
    busy, latency = [], []
    for target, offset, size, wide, layout, bits, ddr in zip(*(table[name].tolist() for name in names), strict=True):
        unchanged = BUFFERS[target] != "weight" or not bits
        busy.append(load_busy(
            buffer=BUFFERS[target], address=offset, size=size, channels=channels, lanes=lanes, layout=_LAYOUTS[layout],
            bits=8 if unchanged else bits, wide=wide > 1, ddr=bool(ddr),
        ))  # fmt: skip
        latency.append(_DONE + LOAD_FIXED + (LOAD_GLOBAL if BUFFERS[target] == "global" and not ddr else 0))
    return np.array(busy, np.int64), np.array(latency, np.int64)


def store_times(machine: CoreMachine, table: Mapping[str, Ints]) -> tuple[Ints, Ints]:
    """(Occupancy, latency beside the memory's) of ST; the unit has one at a time."""
    channels = machine.hbm.channels_per_core
    wide = (table["channels"] > 1) & (channels > 1)
    busy = [
        store_busy(address=offset, size=size, channels=channels, wide=many)
        for offset, size, many in zip(*(table[name].tolist() for name in ("offset", "bytes")), wide.tolist(),
                                      strict=True)
    ]  # fmt: skip
    stages = _DONE + np.where(wide, STORE_FIXED - STORE_WIDE_LESS, STORE_FIXED)
    return np.array(busy, np.int64) + STORE_TURN, stages - STORE_TURN
