"""Cycles of a barrier and of an exchange between cores, in closed form; what the RTL of ``mixflight.rtl.core_exchange``
does to the cycle.

All cores begin together, ``barrier_cycles`` behind the begin of the last one. Lines go round a ring, each core's at
most one in ``cores`` - 1 cycles, so those of all others just fill its links. A core is done when the lines of all
others are written and its own are read. From the acceptance of the last core's instruction; nothing else uses the
buffers' ports.
"""

from collections.abc import Sequence

from mixflight.arch.errors import InputError

LINK_BYTES = 64
"""What a link of the ring moves in a cycle: a line. The scales of a line of codes go beside it."""
EXCHANGE_FIXED = 5
"""Register stages in the cores: read, write and the way between; those of a meeting and of links are not among them."""
READ_EARLY = 3
"""A core is done so many cycles and the way round the ring earlier with lines that it only reads."""
LONGEST_MEETING = 63
"""Most register stages of a meeting: a run is as long at least before it looks at other cores' states."""


def meeting_stages(*, barrier_cycles: int) -> int:
    """Register stages from a core's begin to what all cores see of it."""
    if not 2 <= barrier_cycles <= LONGEST_MEETING + 1:
        raise InputError(f"barrier_cycles must be 2 ... {LONGEST_MEETING + 1}, not {barrier_cycles}, in cores with RTL")
    return barrier_cycles - 1


def link_stages(*, cores: int, latency_cycles: int, barrier_cycles: int) -> int:
    """Register stages of a link of the ring. Lines of several cores must not meet at a link: one more than a multiple
    of ``cores`` - 1."""
    stages, rest = divmod(latency_cycles - barrier_cycles - EXCHANGE_FIXED, cores - 1)
    if rest or stages < 1 or (cores > 2 and stages % (cores - 1) != 1):
        raise InputError(
            f"exchange.latency_cycles must be barrier_cycles + {EXCHANGE_FIXED} + {cores - 1} s, with s the register "
            f"stages of a link, one more than a multiple of {cores - 1}, for {cores} cores with RTL, not "
            f"{latency_cycles} with barrier_cycles {barrier_cycles}"
        )  # fmt: skip
    return stages


def lines_awaited(lines: Sequence[int], core: int, *, link: int) -> int:
    """Cycles of an exchange beyond ``latency_cycles``, for a core: ``lines`` are those that each core sends, in the
    order of the ring. With two cores the other's lines, unless its own are many more."""
    others = len(lines) - 1

    def sent(by: int) -> int:
        return others * (max(lines[by % len(lines)], 1) - 1) + 1

    received = (sent(core - hops) - (others - hops) * link for hops in range(1, len(lines)))
    return max(*received, sent(core) - others * link - READ_EARLY)


def exchange_cycles(lines: Sequence[int], core: int, *, latency_cycles: int, link: int) -> int:
    """Cycles of an exchange, from the begin of the last core to the release of the tokens of ``core``."""
    return latency_cycles + lines_awaited(lines, core, link=link)


def meeting_cycles(*, barrier_cycles: int) -> int:
    """Cycles of a barrier, likewise."""
    return 1 + barrier_cycles
