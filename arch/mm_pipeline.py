"""The matrix engine of a core on matrices as data: rows that share a word of weights, and cycles of a tile.

An MM is an MV whose rows go in groups of ``together``: what ``mv_pipeline`` counts for a row is counted for a group.
"""

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.mv_pipeline import TAKE_CYCLES, group_words, mv_cycles


def rows_together(machine: CoreMachine) -> int:
    """Rows that share a word of weights in MM on ``machine``: its chains' MACs a cycle on a matrix, over a vector's.

    Chains: the rows packed in a DSP, times the chains of a unit over those of them that work on a vector. An array's
    PEs all work on a vector: 1.
    """
    engine = machine.mpe
    if not isinstance(engine, Chains):
        return 1
    return engine.packed_rows * engine.chains_per_mpu // engine.mv_chains_per_mpu


def rows_in_core(machine: CoreMachine) -> int:
    """Rows that go together in the RTL of a core of ``machine``, on a matrix and on a vector of several rows.

    One of several cores takes rows one by one.
    """
    return 1 if machine.cores > 1 else rows_together(machine)


def lanes_in_core(machine: CoreMachine) -> int:
    """Dequantisation lanes of the RTL of a core of ``machine``: no more than sums that a step of columns has."""
    return min(machine.memory_unit.lanes, machine.column_step * rows_in_core(machine))


def mm_cycles(
    *, columns: int, step: int, k: int, rows: int, together: int, passes: int, group: int, lanes: int,
    more: bool = False, behind: bool = False, keep: int = K_BLOCK, written: int = 0,
) -> int:  # fmt: skip
    """Cycles in which an MM keeps the engine, unstalled; ``together`` = 1 is an MV.

    ``lanes`` dequantise the ``together`` x ``step`` sums of a group of rows and a step of columns, so such groups end
    that many cycles apart at least, also from the last one of the tile that this one comes directly ``behind``. The
    rest as :func:`mixflight.arch.mv_pipeline.mv_cycles`.
    """
    serial, reads = together * step // lanes, passes * group_words(k=group or k, groups=1, keep=keep)
    waits = max(0, serial - TAKE_CYCLES - reads) if behind else 0
    return waits + mv_cycles(columns=columns, step=step, k=k, rows=rows, together=together, passes=passes, group=group,
                             serial=serial, more=more, keep=keep, written=written)  # fmt: skip
