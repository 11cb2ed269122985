"""What is found for each segment of a batch before it is used: maxima, inverses, sums' functions, scales."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.sfu_pipeline import BATCH, FP16_ROUND_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp16_convert import Fp16Round
from mixflight.rtl.sfu_divide import Divide
from mixflight.rtl.small_fifo import SmallFifo

SEGMENT = range(BATCH)
_LEAST_EXPONENT = 64
"""Below 2^-63 a largest magnitude has the scale 0: far above where its division would leave the exponents."""


class SfuScalars(wiring.Component):
    """Three numbers a segment, each written and read on its own.

    ``largest`` (with ``found``) is a segment's largest value. With ``quantise`` its inverse, f32(levels / largest), and
    FP16(f32(largest / levels)) follow from it; ``levels`` is an FP32 number. Else its negative is kept. ``factor``
    (with ``write``) is written as the inverse is. ``has_found`` and ``has_factor`` say that segments are ready which
    ``takes_found`` and ``takes_factor`` did not take; all are taken, in order. Reads come with their segments.
    """

    def __init__(self):
        super().__init__({
            "quantise": In(1), "levels": In(31),
            "found": In(1), "found_segment": In(SEGMENT), "largest": In(32),
            "write": In(1), "write_segment": In(SEGMENT), "factor": In(32),
            "has_found": Out(1), "takes_found": In(1), "has_factor": Out(1), "takes_factor": In(1),
            "negative_segment": In(SEGMENT), "negative": Out(32),
            "factor_segment": In(SEGMENT), "factor_read": Out(32),
            "scale_segment": In(SEGMENT), "scale": Out(16),
        })  # fmt: skip

    def elaborate(self, platform):
        """Divisions in the background; three memories; two counts."""
        m = Module()
        m.submodules.waiting = waiting = SmallFifo(shape=31 + 4, depth=BATCH)
        m.submodules.divide = divide = Divide()
        m.submodules.half = half = Fp16Round()
        largest, segment = waiting.head[:31], waiting.head[31:]
        second = Signal()
        m.d.comb += [
            waiting.push.eq(self.found & self.quantise), waiting.word.eq(Cat(self.largest[:31], self.found_segment)),
            waiting.pop.eq(waiting.some & second), divide.valid.eq(waiting.some),
            divide.tag.eq(Cat(segment, second, largest[23:] < _LEAST_EXPONENT)),
            divide.a.eq(Mux(second, largest, self.levels)), divide.b.eq(Mux(second, self.levels, largest)),
        ]
        with m.If(waiting.some):
            m.d.sync += second.eq(~second)
        inverse = divide.done & ~divide.done_tag[4]
        rounding = Signal(FP16_ROUND_STAGES)
        m.d.sync += rounding.eq(Cat(divide.done & divide.done_tag[4], rounding))
        m.d.comb += [
            half.en.eq(divide.done | rounding.any()), half.value.eq(Mux(divide.done_tag[5], 0, divide.quotient)),
        ]
        scaled = delayed(m, half.en, divide.done_tag[:4], FP16_ROUND_STAGES, "scaled")

        self._kept(m, "negative", self.found & ~self.quantise, self.found_segment,
                   self.largest ^ (1 << 31), self.negative_segment, self.negative)
        self._kept(m, "factor", self.write | inverse, Mux(inverse, divide.done_tag[:4], self.write_segment),
                   Mux(inverse, divide.quotient, self.factor), self.factor_segment, self.factor_read)
        self._kept(m, "scale", rounding[-1], scaled, half.half, self.scale_segment, self.scale)
        for name, more in (("found", rounding[-1] | (self.found & ~self.quantise)), ("factor", self.write)):
            count, has, less = Signal(range(BATCH + 1)), getattr(self, f"has_{name}"), getattr(self, f"takes_{name}")
            with m.If(more & ~less):
                m.d.sync += [count.eq(count + 1), has.eq(1)]
            with m.Elif(less & ~more):
                m.d.sync += [count.eq(count - 1), has.eq(count != 1)]
        return m

    def _kept(self, m: Module, name: str, write_en, write_segment, word, read_segment, here):
        m.submodules[f"{name}_memory"] = stored = memory.Memory(shape=len(here), depth=BATCH, init=[])
        write, read = stored.write_port(), stored.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(write_en), write.addr.eq(write_segment), write.data.eq(word), read.addr.eq(read_segment),
            here.eq(read.data),
        ]
