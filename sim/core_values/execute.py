"""Runs primitive instructions one after the other in program order: what every buffer and memory then holds.

Program order is one order that tokens allow; ``order`` checks that they allow no other one with other values.
"""

from collections.abc import Callable, Iterable

from mixflight.arch.compact import codes
from mixflight.arch.errors import InputError
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values.products import multiply
from mixflight.sim.core_values.state import CoreState
from mixflight.sim.core_values.transfers import load, store
from mixflight.sim.core_values.vectors import compute

_SYS = {code: name for name, code in codes("SYS", "operation").items()}


def execute(state: CoreState, instructions: Iterable[Primitive]) -> None:
    """Run ``instructions`` on one core, in place; one that no core can carry out is an InputError that names it."""
    for item in instructions:
        if item.empty:
            continue
        try:
            _RUN[item.kind](state, item.fields)
        except InputError as error:
            raise InputError(f"{error}, in {item.kind} at instruction {item.number}") from None


def _sys(state: CoreState, fields: dict[str, int]) -> None:
    name = _SYS[fields["operation"]]
    if name == "exchange":
        raise InputError("values are those of one core, without exchange")


def _mm(state: CoreState, fields: dict[str, int]) -> None:
    raise InputError("MM has no values here")


_RUN: dict[str, Callable[[CoreState, dict[str, int]], None]] = {
    "LD": load, "ST": store, "MV": multiply, "MM": _mm, "MISC": compute, "SYS": _sys,
}  # fmt: skip
