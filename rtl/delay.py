"""Registers in a row."""

from amaranth import *


def delayed(m: Module, en, value, steps: int, name: str, *, reset: bool = False):
    """``value`` as it was ``steps`` cycles with ``en`` before; ``value`` itself for 0.

    Without ``reset`` the registers keep what they hold through a reset: right for data beside a valid bit.
    """
    for i in range(steps):
        later = Signal(value.shape(), name=f"{name}_{i + 1}", reset_less=not reset)
        with m.If(en):
            m.d.sync += later.eq(value)
        value = later
    return value
