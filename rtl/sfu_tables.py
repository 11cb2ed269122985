"""A table of significands in block memory and the linear interpolation between its entries."""

from collections.abc import Sequence

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.special_functions import ENTRIES, INTERPOLATION_STAGES
from mixflight.rtl.delay import delayed
from mixflight.rtl.fp32 import FP32

FRACTION = 23
HIDDEN = 1 << FRACTION


class TableInterpolation(wiring.Component):
    """FP32 from a significand read between two entries of a table, and an exponent field; one value a step.

    With T the table that the upper bits of ``index`` choose (the first one at 0), i the lower 8 bits, r = ``rest`` and
    b = ``rest_bits``, the significand is S = T[i] + floor(((T[i+1] - T[i])·r + 2^(b-1)) / 2^b), in [2^23, 2^24].
    ``value`` has the bits (``exponent`` << 23) + S - 2^23, so that S = 2^24 carries into the exponent, or is +0 where
    those are below 2^23. ``exponent`` is at most 254, and 253 where S can be 2^24.

    A value comes ``LATENCY`` steps after its operands. A row of the memory holds an entry and the step to the next; the
    multiplication and the sum behind it have registers for one DSP.
    """

    LATENCY = INTERPOLATION_STAGES

    def __init__(self, *, tables: Sequence[Sequence[int]], rest_bits: int):
        self.tables = tables
        self.rest_bits = rest_bits
        super().__init__({
            "en": In(1),
            "index": In(range(ENTRIES * len(tables))),
            "rest": In(rest_bits),
            "exponent": In(signed(9)),
            "value": Out(FP32),
        })

    def rows(self) -> tuple[data.StructLayout, list[dict[str, int]]]:
        """A row's shape, as narrow as the tables let it be, and all rows."""
        rows = [{"entry": low - HIDDEN, "step": high - low}
                for table in self.tables for low, high in zip(table, table[1:], strict=False)]
        step_bits = max(abs(row["step"]) for row in rows).bit_length() + 1
        entry_bits = max(row["entry"] for row in rows).bit_length()
        return data.StructLayout({"entry": entry_bits, "step": signed(step_bits)}), rows

    def elaborate(self, platform):
        """Read; hold the operands; multiply; add; put the exponent to it."""
        m = Module()
        layout, rows = self.rows()
        m.submodules.memory = stored = memory.Memory(shape=layout, depth=len(rows), init=rows)
        read = stored.read_port()
        m.d.comb += [read.addr.eq(self.index), read.en.eq(self.en)]

        rest = delayed(m, self.en, self.rest, 2, "rest")
        exponent = delayed(m, self.en, self.exponent, 4, "exponent")
        step = delayed(m, self.en, read.data.step, 1, "step")
        entry = delayed(m, self.en, read.data.entry, 2, "entry")
        half = Const(1 << self.rest_bits - 1, self.rest_bits)
        product = Signal(signed(len(step) + self.rest_bits), reset_less=True)
        total = Signal(FRACTION + 1 + self.rest_bits, reset_less=True)
        with m.If(self.en):
            m.d.sync += [product.eq(step * rest), total.eq(product + Cat(half, entry))]

        fields = Signal(FP32)
        carried = Signal(signed(10))
        m.d.comb += [
            carried.eq(exponent + total[-1]),
            fields.fraction.eq(total[self.rest_bits:]),
            fields.exponent.eq(carried),
        ]
        with m.If(self.en):
            m.d.sync += self.value.eq(Mux(carried > 0, fields.as_value(), 0))
        return m
