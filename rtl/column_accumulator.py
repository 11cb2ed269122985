"""The group sums below a column of the weight-stationary array."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out


class ColumnAccumulator(wiring.Component):
    """Gather the sums that leave a column into group sums, one a token; read any of them.

    In a step (``en`` = 1) with ``valid``, place ``token`` of bank ``bank`` becomes ``sum``, ``2**shift`` fold with
    ``high``, added to what it held, or to 0 with ``fresh``. ``read_sum`` is what place ``read_token`` of bank
    ``read_bank`` holds now, without a step's delay. ``shift`` = 0 leaves the multiple out, ``banks`` is 1 or 2.
    """

    def __init__(self, *, tokens: int, banks: int, sum_shape, total_shape, shift: int = 0):
        self.banks = banks
        self.depth = banks << (tokens - 1).bit_length()
        self.total_shape = total_shape
        self.shift = shift
        super().__init__({
            "en": In(1), "valid": In(1), "fresh": In(1), "high": In(1), "token": In(range(tokens)), "bank": In(1),
            "sum": In(sum_shape), "read_token": In(range(tokens)), "read_bank": In(1), "read_sum": Out(total_shape),
        })

    def elaborate(self, platform):
        """One memory, read twice and written once."""
        m = Module()
        m.submodules.sums = sums = memory.Memory(shape=self.total_shape, depth=max(2, self.depth), init=[])
        before = sums.read_port(domain="comb")
        read = sums.read_port(domain="comb")
        write = sums.write_port()
        place = Cat(self.token, self.bank) if self.banks == 2 else self.token
        term = Signal(self.total_shape)
        m.d.comb += [
            term.eq(Mux(self.high, self.sum << self.shift, self.sum) if self.shift else self.sum),
            before.addr.eq(place),
            write.addr.eq(place),
            write.en.eq(self.en & self.valid),
            write.data.eq(Mux(self.fresh, 0, before.data) + term),
            read.addr.eq(Cat(self.read_token, self.read_bank) if self.banks == 2 else self.read_token),
            self.read_sum.eq(read.data),
        ]
        return m
