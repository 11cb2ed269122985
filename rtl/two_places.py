"""A queue of two places that says from registers alone whether it has room."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class TwoPlaces(wiring.Component):
    """Ends long ways of ``ready``: a value a cycle, each a cycle after it came. Ports as those of a FIFO."""

    def __init__(self, *, width: int):
        self.width = width
        super().__init__({
            "w_data": In(width), "w_en": In(1), "w_rdy": Out(1, init=1),
            "r_data": Out(width), "r_en": In(1), "r_rdy": Out(1),
        })

    def elaborate(self, platform):
        """The first place is what is read; ``w_rdy`` says that the second one is free."""
        m = Module()
        second, takes, leaves = Signal(self.width, reset_less=True), Signal(), Signal()
        m.d.comb += [takes.eq(self.w_en & self.w_rdy), leaves.eq(~self.r_rdy | self.r_en)]
        with m.If(self.w_rdy):
            m.d.sync += second.eq(self.w_data)
        with m.If(leaves):
            m.d.sync += [self.r_data.eq(Mux(self.w_rdy, self.w_data, second)), self.r_rdy.eq(takes | ~self.w_rdy),
                         self.w_rdy.eq(1)]
        with m.Elif(takes):
            m.d.sync += self.w_rdy.eq(0)
        return m
