"""Lines of the act buffer several at once: those of the rows that share a word of weights."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2, exact_log2

from mixflight.arch.errors import InputError
from mixflight.rtl.core_ports import ACT_LINE, ACT_WORD, READ_LATENCY, ReadPort, act_read, act_write


def act_rows_read(together: int) -> wiring.Signature:
    """Lines ``address``, ``address`` + 1 ... of the act buffer, ``together`` of them; one alone is a plain line."""
    return ReadPort(ACT_LINE, ACT_WORD if together == 1 else data.ArrayLayout(ACT_WORD, together))


class RowsBuffer(wiring.Component):
    """An act buffer of ``depth`` lines, of which one client reads ``together`` consecutive ones a cycle.

    ``rows``   :func:`act_rows_read`, whatever line the first is; accepted always
    ``read``   single lines, accepted where ``rows`` asks for nothing
    ``write``  single lines, accepted always

    Line l lies in bank l mod ``together``, so consecutive lines lie in different banks. Address bits beyond ``depth``
    are ignored. A read accepted in the cycle of a write of its line gives the line before the write.
    """

    def __init__(self, *, depth: int, together: int):
        if together not in (2, 4):
            raise InputError(f"rows must go 2 or 4 together, not {together}, in a buffer of rows")
        if depth < 2 * together or depth & (depth - 1) or exact_log2(depth) > ACT_LINE:
            raise InputError(f"depth must be a power of two from {2 * together} to {1 << ACT_LINE}, not {depth}, in a "
                             "buffer of rows")
        self.depth, self.together = depth, together
        super().__init__({
            "rows": In(act_rows_read(together)), "read": In(act_read()), "write": In(act_write()),
        })

    def elaborate(self, platform):
        """A memory a bank; lines are turned to their places before the output register."""
        m = Module()
        within, rows, read, write = ceil_log2(self.together), self.rows, self.read, self.write
        address, asked, turned = Signal(ACT_LINE), Signal(), Signal(within, reset_less=True)
        m.d.comb += [
            rows.ready.eq(1), read.ready.eq(~rows.valid), write.ready.eq(1), asked.eq(rows.valid | read.valid),
            address.eq(Mux(rows.valid, rows.address, read.address)),
        ]
        first, line = address[:within], address[within:]
        with m.If(asked):
            m.d.sync += turned.eq(first)
        width = Shape.cast(ACT_WORD).width
        found = []
        for bank in range(self.together):
            store = memory.Memory(shape=width, depth=self.depth // self.together, init=[],
                                  attrs={"ram_style": "block"})
            m.submodules[f"bank_{bank}"] = store
            into, out = store.write_port(granularity=width // 4), store.read_port()
            m.d.comb += [
                into.addr.eq(write.address[within:]), into.data.eq(write.data),
                into.en.eq(Mux(write.valid & (write.address[:within] == bank), write.mask, 0)),
                out.addr.eq(line + (first > bank if bank < self.together - 1 else 0)), out.en.eq(asked),
            ]
            found.append(out.data)
        lines = Signal(width * self.together, reset_less=True)
        once = [self._answered(m, port, name) for port, name in ((rows, "rows"), (read, "read"))]
        with m.If(once[0] | once[1]):
            m.d.sync += lines.eq(Cat(Array(found)[(place + turned)[:within]] for place in range(self.together)))
        m.d.comb += [Value.cast(rows.data).eq(lines), Value.cast(read.data).eq(lines[:width])]
        return m

    def _answered(self, m, port, name):
        """Tells the client when its data are there; returns whether they are read now."""
        stage, stages = port.valid & port.ready, []
        for number in range(READ_LATENCY):
            after = Signal(name=f"{name}_{number}")
            m.d.sync += after.eq(stage)
            stages.append(after)
            stage = after
        m.d.comb += port.data_valid.eq(stage)
        return stages[0]
