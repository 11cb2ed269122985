"""``done`` pulses in order, where parts of instructions end on several units."""

from amaranth import *
from amaranth.lib import fifo, wiring
from amaranth.lib.wiring import In, Out


class Completion(wiring.Component):
    """Counts ``in_flight`` instructions and gives ``done`` for the oldest when all units that take part have ended it.

    ``taken``  an instruction is taken, which is allowed while ``room``; ``given``, a later cycle, in the same order:
               ``who`` takes part, a bit a unit (none: it ends at once)
    ``ended``  pulses of the units, each in the order of its instructions
    ``done``   at the earliest the cycle after the last ``ended``
    """

    def __init__(self, *, units: int, in_flight: int):
        self.units, self.in_flight = units, in_flight
        super().__init__({
            "room": Out(1), "taken": In(1), "given": In(1), "who": In(units), "ended": In(units), "done": Out(1),
        })

    def elaborate(self, platform):
        """A queue of who takes part, a counter a unit."""
        m = Module()
        m.submodules.queue = queue = fifo.SyncFIFO(width=self.units, depth=self.in_flight)
        count, complete = Signal(range(self.in_flight + 1)), Signal()
        m.d.comb += [self.room.eq(count != self.in_flight), queue.w_en.eq(self.given), queue.w_data.eq(self.who),
                     queue.r_en.eq(complete), self.done.eq(complete)]
        m.d.sync += count.eq(count + self.taken - complete)
        all_of = []
        for index in range(self.units):
            waiting = Signal(range(self.in_flight + 1), name=f"waiting_{index}")
            m.d.sync += waiting.eq(waiting + self.ended[index] - (complete & queue.r_data[index]))
            all_of.append(~queue.r_data[index] | (waiting != 0))
        m.d.comb += complete.eq(queue.r_rdy & Cat(all_of).all())
        return m
