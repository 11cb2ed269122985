"""Random programs of several cores that meet: each as ``random_program`` makes one, with barriers and exchanges.

    random_cores     a program a core; all meet at the same barriers and exchanges, of lines of both buffers

What an exchange brings is worked on behind it and stored at the end, so memories show lines that came too late, or to
another place. Tokens are where what an exchange sends or brings meets other instructions.
"""

from collections.abc import Sequence

from mixflight.arch.compact import LINE_BYTES, codes
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.sim.core_values.execute import exchange
from mixflight.sim.core_values.order import Access
from mixflight.sim.core_values.random_maker import ACT_WINDOW, RAW, Maker, nothing
from mixflight.sim.core_values.random_program import (
    DECODE_FAMILIES,
    RandomProgram,
    check_families,
    draw,
    finished,
    prepare,
)  # fmt: skip

_OPERATION, _BUFFER = codes("SYS", "operation"), codes("SYS", "buffer")
ALIKE = ("barrier", "meeting")
"""Families that draw barriers, at which cores that draw apart from each other would not meet."""
APART = tuple(name for name in DECODE_FAMILIES if name not in ALIKE)
"""What cores do between meetings."""
_MORE = 1000
"""Between the seeds of two cores."""


def random_cores(
    machine: CoreMachine, seed: int, count: int = 60, families: Sequence[str] = APART, meetings: int = 6,
    windows: str = "low",
) -> tuple[RandomProgram, ...]:  # fmt: skip
    """Programs of about ``count`` instructions for the cores of ``machine``, with ``meetings`` of all. They share a
    DDR. ``windows`` as of ``random_program``."""
    check_families(families)
    if machine.cores < 2 or any(name in families for name in ALIKE):
        raise InputError(f"cores that meet must be 2 at least, and meet nowhere else, not {machine.cores}")
    makers = [Maker(machine, seed + _MORE * core, matrices="matrix" in families, windows=windows)
              for core in range(machine.cores)]  # fmt: skip
    for maker in makers:
        maker.ddr = makers[0].ddr
        maker.state.ddr[:] = [makers[0].ddr[0].copy()]
        prepare(maker, families)
    for _ in range(meetings):
        for maker in makers:
            draw(maker, maker.whole(0, 2 * count // meetings), families)
        if makers[0].chance(0.2):
            for maker in makers:
                maker.barrier()
        else:
            _exchange(makers)
    return tuple(finished(maker, sequenced="loops" in families) for maker in makers)


def _exchange(makers: Sequence[Maker]) -> None:
    """Parts of a window of lines that every operation can take, some of them empty, to all cores."""
    first = makers[0]
    name = "global" if first.chance(0.5) else "act"
    begin, size = (first.windows.vector, RAW) if name == "global" else (first.windows.act, ACT_WINDOW)
    cuts = sorted(begin + first.whole(0, size) for _ in range(len(makers) + 1))
    parts = [Access(name, cuts[core], cuts[core + 1], False) for core in range(len(makers))]
    sent = []
    for core, maker in enumerate(makers):
        lines = parts[core].end - parts[core].first
        received = cuts[-1] - cuts[0] - lines
        fields = nothing("SYS") | {
            "operation": _OPERATION["exchange"], "buffer": _BUFFER[name], "line": parts[core].first, "lines": lines,
            "value": received * LINE_BYTES,
        }  # fmt: skip
        brought = [part._replace(write=True) for number, part in enumerate(parts) if number != core]
        maker.add("SYS", fields, [part for part in (parts[core], *brought) if part.first < part.end])
        sent.append(fields)
    exchange([maker.state for maker in makers], sent)
