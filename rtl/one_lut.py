"""Functions of a few bits that stay one LUT each."""

from collections.abc import Callable

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.errors import InputError

INPUTS = 6
"""Of a LUT of UltraScale+."""


class OneLut(wiring.Component):
    """``out``, a ``function`` of ``count`` bits, at most six. Combinational.

    A component of its own so that it is mapped as one LUT. Where a signal comes late from another component, mapping
    does not know it, and puts the signal behind as many LUTs as another way through the component has.
    """

    def __init__(self, *, function: Callable[..., Value], count: int):
        if not 1 <= count <= INPUTS:
            raise InputError(f"a function of one LUT must be of 1 to {INPUTS} bits, not {count}")
        self.function, self.count = function, count
        super().__init__({"bits": In(count), "out": Out(1)})

    def elaborate(self, platform):
        """The function."""
        m = Module()
        m.d.comb += self.out.eq(self.function(*self.bits))
        return m


def one_lut(m: Module, name: str, function: Callable[..., Value], *bits: Value) -> Value:
    """``function`` of ``bits``, as a submodule ``name`` of ``m``."""
    m.submodules[name] = lut = OneLut(function=function, count=len(bits))
    m.d.comb += lut.bits.eq(Cat(bits))
    return lut.out
