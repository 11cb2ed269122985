"""Whether a matrix engine reads a block now."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


def wanted(run, end, held, emit, may_emit):
    """Whether an instruction under way (``run``) reads its block: unless that is the ``end`` of a group, which must be
    ``held`` or would ``emit`` results for which there is no room."""
    return run & ~(end & (held | (emit & ~may_emit)))


class MvWants(wiring.Component):
    """``wants``: what :func:`wanted` says where a group ends with the last pass of its last block.

    Combinational, a component of its own so that it is mapped for depth: it goes on into every client of the act
    buffer.
    """

    def __init__(self) -> None:
        super().__init__({
            "run": In(1), "b": In(12), "b_end": In(12), "last_pass": In(1), "held": In(1), "emit": In(1),
            "may_emit": In(1), "wants": Out(1),
        })  # fmt: skip

    def elaborate(self, platform):
        """The conditions."""
        m = Module()
        end = (self.b == self.b_end) & self.last_pass
        m.d.comb += self.wants.eq(wanted(self.run, end, self.held, self.emit, self.may_emit))
        return m
