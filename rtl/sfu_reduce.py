"""The sum of a segment in the order of ``arch/numerics.md``, Reductions: 128 partial sums, then folded by halves."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from mixflight.arch.sfu_pipeline import PARTIALS, REDUCE_LOOP
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32_sum import Fp32Sum
from mixflight.rtl.placed_copy import place


class Reduce(wiring.Component):
    """Sums of segments of V values a step, V at most 16.

    A step with ``valid`` offers ``values``, of which those in ``mask`` count; ``first`` and ``last`` mark a segment's
    ends. After ``last`` nothing may be offered until ``done``, which comes with ``total`` after
    ``arch.sfu_pipeline.fold_cycles(V)`` steps, for one step.
    """

    def __init__(self, width: int):
        self.width = width
        self.slots = PARTIALS // width
        super().__init__({
            "en": In(1), "valid": In(1), "first": In(1), "last": In(1), "mask": In(width),
            "values": In(32).array(width), "done": Out(1), "total": Out(32),
        })

    def elaborate(self, platform):
        """A memory of partial sums and an adder a lane; who adds what to which is the same in all of them."""
        m = Module()
        slots, en = self.slots, self.en
        slot, used = Signal(range(slots)), Signal(range(slots + 1))
        whole = Signal()            # every slot has been written
        here, fresh = Signal(range(slots)), Signal()
        m.d.comb += [here.eq(Mux(self.first, 0, slot)), fresh.eq(self.first | ~whole)]
        with m.If(en & self.valid):
            m.d.sync += [
                slot.eq(here + 1),
                whole.eq(~self.first & whole | (here == slots - 1)),
                used.eq(Mux(self.first, 1, Mux(whole, slots, used + 1))),
            ]
        fold = self._fold(m)
        write = delayed(m, en, Mux(fold["on"], fold["write"], self.valid), REDUCE_LOOP - 1, "write", reset=True)
        at = delayed(m, en, Mux(fold["on"], fold["slot"], here), REDUCE_LOOP - 1, "at")

        lanes = [self._lane(m, platform, lane, write, at) for lane in range(self.width)]
        for lane, (first, second, a, b, _) in enumerate(lanes):
            other = Mux(fold["slot"] + fold["half"] < used, second.data, 0)
            for level in range(exact_log2(self.width)):
                if lane < 1 << level:
                    other = Mux(fold["cross"][level], lanes[lane + (1 << level)][0].data, other)
            m.d.comb += [
                first.addr.eq(Mux(fold["on"], fold["slot"], here)),
                second.addr.eq(fold["slot"] + fold["half"]),
            ]
            empty = Mux(fold["on"], fold["slot"] >= used, fresh)
            with m.If(en):
                m.d.sync += [
                    a.eq(Mux(empty, 0, first.data)),
                    b.eq(Mux(fold["on"], other, Mux(self.mask[lane], self.values[lane], 0))),
                ]
        m.d.comb += [self.total.eq(lanes[0][4].sum), self.done.eq(fold["done"])]
        return m

    def _lane(self, m: Module, platform, lane: int, write, at):
        """The two reads of a lane's partial sums, the registers of its adder's operands, and the adder."""
        m.submodules[f"partials_{lane}"] = stored = memory.Memory(shape=32, depth=self.slots, init=[])
        adder = Fp32Sum()
        place(m, platform, f"adder_{lane}", adder, like="adder_0")
        first, second = stored.read_port(domain="comb"), stored.read_port(domain="comb")
        port = stored.write_port()
        a, b = Signal(32, name=f"a_{lane}", reset_less=True), Signal(32, name=f"b_{lane}", reset_less=True)
        m.d.comb += [
            adder.en.eq(self.en), adder.a.eq(a), adder.b.eq(b),
            port.addr.eq(at), port.data.eq(adder.sum), port.en.eq(write & self.en),
        ]
        return first, second, a, b, adder

    def _fold(self, m: Module):
        """Steps through the halves after the segment's last values: first within lanes, then across."""
        on, issuing = Signal(), Signal()
        half, slot = Signal(range(self.slots)), Signal(range(self.slots))
        cross = Signal(max(exact_log2(self.width), 1))
        wait = Signal(range(REDUCE_LOOP))
        done = Signal()
        widest = self.slots // 2
        lanes_left = self.width > 1
        with m.If(self.en):
            m.d.sync += done.eq(0)
            with m.If(self.valid & self.last):
                m.d.sync += [on.eq(1), issuing.eq(0), wait.eq(REDUCE_LOOP - 1), half.eq(0), slot.eq(0), cross.eq(0)]
            with m.Elif(on & issuing):
                m.d.sync += slot.eq(slot + 1)
                with m.If((slot + 1 == half) | (half == 0)):
                    m.d.sync += [issuing.eq(0), wait.eq(REDUCE_LOOP - 1), slot.eq(0)]
            with m.Elif(on):
                m.d.sync += wait.eq(wait - 1)
                with m.If(wait == 1):
                    m.d.sync += issuing.eq(1)
                    with m.If((half == 0) & (cross == 0)):
                        m.d.sync += half.eq(widest)
                    with m.Elif(half > 1):
                        m.d.sync += half.eq(half >> 1)
                    with m.Elif((half == 1) & lanes_left):
                        m.d.sync += [half.eq(0), cross.eq(self.width >> 1)]
                    with m.Elif((cross > 1) & lanes_left):
                        m.d.sync += cross.eq(cross >> 1)
                    with m.Else():
                        m.d.sync += [on.eq(0), issuing.eq(0), done.eq(1), half.eq(0), cross.eq(0)]
        return {"on": on, "write": issuing, "half": half, "slot": slot, "cross": cross, "done": done}
