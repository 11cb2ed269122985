"""Cycles of the special-function units' streams, unstalled."""

from mixflight.arch.special_functions import STAGES


def function_cycles(function: str, *, elements: int) -> int:
    """Cycles from the first operand taken to the last result taken, inclusive."""
    return elements + STAGES[function]
