"""Runs primitive instructions one after the other in program order: what every buffer and memory then holds.

Program order is one order that tokens allow; ``order`` checks that they allow no other one with other values. Several
cores run by turns from one barrier or exchange to the next.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from mixflight.arch.compact import codes
from mixflight.arch.errors import InputError
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values.products import multiply
from mixflight.sim.core_values.state import CoreState
from mixflight.sim.core_values.transfers import load, store
from mixflight.sim.core_values.vectors import compute

_SYS = codes("SYS", "operation")
_BUFFER = codes("SYS", "buffer")


def execute(state: CoreState, instructions: Iterable[Primitive]) -> None:
    """Run ``instructions`` on one core, in place; one that no core can carry out is an InputError that names it."""
    execute_together([state], [instructions])


def execute_together(states: Sequence[CoreState], programs: Sequence[Iterable[Primitive]]) -> None:
    """Run the program of every core; all must meet at the same barriers and exchanges."""
    runs = [_until_meetings(state, program) for state, program in zip(states, programs, strict=True)]
    while True:
        meetings = [next(run, None) for run in runs]
        waiting = [item for item in meetings if item is not None]
        if not waiting:
            return
        if len(waiting) < len(runs) or len({item.fields["operation"] for item in waiting}) > 1:
            raise InputError("all cores must meet at the same barriers and exchanges")
        if waiting[0].fields["operation"] == _SYS["exchange"]:
            exchange(states, [item.fields for item in waiting])


def _until_meetings(state: CoreState, program: Iterable[Primitive]) -> Iterator[Primitive]:
    """Run a core; each barrier or exchange comes out when it is reached."""
    for item in program:
        if item.kind == "SYS":
            if item.fields["operation"] in (_SYS["barrier"], _SYS["exchange"]):
                yield item
        elif not item.empty:
            try:
                _RUN[item.kind](state, item.fields)
            except InputError as error:
                raise InputError(f"{error}, in {item.kind} at instruction {item.number}") from None


def exchange(states: Sequence[CoreState], exchanges: Sequence[dict[str, int]]) -> None:
    """Every core's own lines to the same lines of all others; operands of each one's SYS."""
    for sender, fields in zip(states, exchanges, strict=True):
        lines = slice(fields["line"], fields["line"] + fields["lines"])
        for other in states:
            if fields["buffer"] == _BUFFER["global"]:
                other.vector[lines] = sender.vector[lines]
            else:
                other.act[lines], other.act_scales[lines] = sender.act[lines], sender.act_scales[lines]


_RUN: dict[str, Callable[[CoreState, dict[str, int]], None]] = {
    "LD": load, "ST": store, "MM": multiply, "MV": multiply, "MISC": compute,
}  # fmt: skip
