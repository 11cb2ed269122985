"""What dequantisation lanes have in common: the FP32 accumulators behind the scaled group sums."""

from collections.abc import Mapping
from typing import Any

from amaranth import *
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.array_pipeline import SELECT_TO_PRODUCT, lane_latency, loop_latency
from mixflight.arch.errors import InputError
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import Fp32Add


class AccumulatingLane(wiring.Component):
    """What every lane has in common: FP32 accumulators of ``elements`` outputs, to which it adds scaled group sums.

    An element a step (a cycle with ``en``) is taken while ``i.valid``; the accumulator of output ``element`` becomes,
    from +0 if ``first``, its sum with one FP32 product or with two in a row, each addition rounded to nearest, ties to
    even. If ``last``, it is offered on ``out`` ``lane_latency`` steps after the element was presented. An output's
    elements must be ``loop_latency`` or more steps apart. ``out.valid`` falls when the value is taken, also
    without ``en``, and ``en`` must be 0 while a value is offered and not taken; nothing else changes without
    ``en``. Subclasses say what the products are of, and may say which ``adder`` adds them.
    """

    adder = Fp32Add

    def __init__(self, *, elements: int, zero: str, operands: Mapping[str, Any]):
        if elements < 1:
            raise InputError(f"elements must be at least 1, not {elements}, in a lane")
        self.elements = elements
        self.zero = zero
        self.lane_latency = lane_latency(zero)
        self.loop_latency = loop_latency(zero)
        fields = {"valid": 1, "first": 1, "last": 1, "element": range(elements), **operands}
        super().__init__({
            "en": In(1),
            "i": In(data.StructLayout(fields)),
            "out": Out(stream.Signature(unsigned(32))),
        })

    def products(self, m: Module) -> list:
        """The FP32 words to be added in this order, ``SELECT_TO_PRODUCT`` steps after the element was presented."""
        raise NotImplementedError

    def elaborate(self, platform):
        """The product path, the accumulator loop, the output register's valid bit."""
        m = Module()
        tag_layout = data.StructLayout({"valid": 1, "first": 1, "last": 1, "element": range(self.elements)})
        offered = Signal(tag_layout)
        m.d.comb += [offered[field].eq(self.i[field]) for field in ("valid", "first", "last", "element")]

        products = self.products(m)
        read = delayed(m, self.en, offered, SELECT_TO_PRODUCT, "tag", reset=True)
        added = delayed(m, self.en, read, self.adder.LATENCY * len(products), "tag_added", reset=True)
        accumulators = memory.Memory(shape=32, depth=max(2, self.elements), init=[])
        m.submodules.accumulators = accumulators
        read_port = accumulators.read_port(domain="comb")
        write_port = accumulators.write_port()

        total = Signal(32, name="total")
        m.d.comb += [
            read_port.addr.eq(read.element),
            total.eq(Mux(read.first, 0, read_port.data)),
        ]
        for number, product in enumerate(products):
            m.submodules[f"add_{number}"] = add = self.adder()
            m.d.comb += [
                add.en.eq(self.en),
                add.a.eq(total),
                add.b.eq(delayed(m, self.en, product, self.adder.LATENCY * number, f"product_{number}")),
            ]
            total = add.sum

        m.d.comb += [
            write_port.addr.eq(added.element),
            write_port.data.eq(total),
            write_port.en.eq(self.en & added.valid),
        ]

        # ``taken``: the value in the last adder's register has left while everything stood still.
        taken = Signal()
        m.d.comb += [
            self.out.payload.eq(total),
            self.out.valid.eq(added.valid & added.last & ~taken),
        ]
        with m.If(self.en):
            m.d.sync += taken.eq(0)
        with m.Elif(self.out.valid & self.out.ready):
            m.d.sync += taken.eq(1)
        return m
