"""A small component with streams, for tests of what surrounds components."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Counter(wiring.Component):
    """Counts sums: something to instantiate."""

    def __init__(self, bits):
        self.bits = bits
        super().__init__({"step": In(1), "count": Out(bits)})

    def elaborate(self, platform):
        m = Module()
        with m.If(self.step):
            m.d.sync += self.count.eq(self.count + 1)
        return m


class MacLane(wiring.Component):
    """Accumulate ``a * w`` until ``last``, then offer the sum on ``o``; ``fault`` gives wrong sums."""

    def __init__(self, *, acc_bits=20, fault=0, counters=2, memory=False):
        self.acc_bits, self.fault, self.counters, self.memory = acc_bits, fault, counters, memory
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"a": signed(8), "w": signed(4), "last": 1}))),
            "o": Out(stream.Signature(signed(acc_bits))).array(1),
            "sums": Out(4).array(counters),
        })

    def elaborate(self, platform):
        m = Module()
        [o] = self.o
        acc = Signal(signed(self.acc_bits))
        total = Signal(signed(self.acc_bits))
        m.d.comb += total.eq(acc + self.i.p.a * self.i.p.w)
        m.d.comb += self.i.ready.eq(~o.valid | o.ready)
        for index in range(self.counters):
            m.submodules[f"counter_{index}"] = counter = Counter(4)
            m.d.comb += counter.step.eq(o.valid & o.ready)
            if index or not self.memory:
                m.d.comb += self.sums[index].eq(counter.count)
        with m.If(o.ready):
            m.d.sync += o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += acc.eq(Mux(self.i.p.last, 0, total))
            with m.If(self.i.p.last):
                m.d.sync += [o.payload.eq(total ^ self.fault), o.valid.eq(1)]
        if self.memory:
            m.submodules.memory = memory = Memory(shape=8, depth=16, init=[])
            write = memory.write_port()
            read = memory.read_port(domain="comb")
            m.d.comb += [write.addr.eq(self.i.p.w), write.data.eq(self.i.p.a), write.en.eq(self.i.valid),
                         read.addr.eq(self.i.p.w)]
            m.d.comb += self.sums[0].eq(read.data)
        return m


def beats_and_sums(count, random):
    """Random payloads and the sums that they must give, as unsigned words."""
    beats, sums, total = [], [], 0
    for index in range(count):
        a, w = random.randrange(-128, 128), random.randrange(-8, 8)
        last = index == count - 1 or random.random() < 0.1
        beats.append(a & 255 | (w & 15) << 8 | last << 12)
        total += a * w
        if last:
            sums.append(total & 0xFFFFF)
            total = 0
    return beats, sums
