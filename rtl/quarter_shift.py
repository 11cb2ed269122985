"""A choice among four places in a row: the step of which shifts by many places are made."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class QuarterShift(wiring.Component):
    """``out``: ``width`` bits of ``value`` from bit ``place`` x ``step`` on. Combinational.

    A component of its own so that each bit stays one LUT of six inputs: mapped as one piece, two such steps after one
    another are taken apart and cost half as much again.
    """

    def __init__(self, *, width: int, step: int, places: int):
        self.width, self.step, self.places = width, step, places
        super().__init__({
            "value": In(width + (places - 1) * step), "place": In(range(places)), "out": Out(width),
        })

    def elaborate(self, platform):
        """Halves of the way, one after the other."""
        m = Module()
        near = self.value
        for bit in reversed(range(len(self.place))):
            near = Mux(self.place[bit], near[self.step << bit:], near)[:self.width + ((1 << bit) - 1) * self.step]
        m.d.comb += self.out.eq(near)
        return m
