"""Two queues in front of one matrix engine: MM and MV."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from mixflight.rtl.core_ports import UnitPort, unit
from mixflight.rtl.head_fifo import HeadFifo


class ProductQueues(wiring.Component):
    """Gives the instructions of ``mm`` and ``mv`` to ``engine``, a unit of MV; its ``done`` goes where they came from.

    A program orders MM and MV by tokens, so one of them waits at a time; if both do, MM comes first. ``pending``
    instructions may be on their way. Nothing takes a cycle.
    """

    def __init__(self, *, pending: int = 8):
        self.pending = pending
        super().__init__({
            "mm": Out(wiring.Signature(unit("MM"))), "mv": Out(wiring.Signature(unit("MV"))),
            "engine": Out(UnitPort("MV")),
        })

    def elaborate(self, platform):
        """A bit an instruction says whose it is."""
        m = Module()
        m.submodules.order = order = HeadFifo(shape=1, depth=self.pending - 1)
        mm, mv, engine = self.mm.instruction, self.mv.instruction, self.engine.instruction
        m.d.comb += [
            engine.valid.eq((mm.valid | mv.valid) & order.room),
            engine.payload.eq(Mux(mm.valid, Value.cast(mm.payload), Value.cast(mv.payload))),
            mm.ready.eq(engine.ready & order.room), mv.ready.eq(engine.ready & order.room & ~mm.valid),
            order.push.eq(engine.valid & engine.ready), order.word.eq(mm.valid),
            order.pop.eq(self.engine.done), self.mm.done.eq(self.engine.done & order.head),
            self.mv.done.eq(self.engine.done & ~order.head),
        ]
        return m
