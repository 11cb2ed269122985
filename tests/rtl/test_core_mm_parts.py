# amaranth: UnusedElaboratable=no
"""Around the matrix engine: lines of rows that go together from wherever they begin; two queues on one engine."""

import pytest
from amaranth import Value
from amaranth.sim import Simulator

from mixflight.arch.errors import InputError
from mixflight.rtl.core_mm_queue import ProductQueues
from mixflight.rtl.core_mm_rows import RowsBuffer
from mixflight.rtl.core_ports import READ_LATENCY, primitive
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint


def run(part, bench):
    simulator = Simulator(part)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("together", [2, 4])
def test_consecutive_lines_from_any_first_one(together):
    buffer, depth, width = RowsBuffer(depth=16, together=together), 16, 4 * 144
    content = [(line + 1) * 0x10001 << 3 * line for line in range(depth)]
    seen = {"rows": [], "read": []}

    async def bench(ctx):
        ctx.set(buffer.write.valid, 1)
        for line, word in enumerate(content):
            ctx.set(buffer.write.address, line)
            ctx.set(buffer.write.mask, 15)
            ctx.set(Value.cast(buffer.write.data), word)
            await ctx.tick()
        ctx.set(buffer.write.valid, 0)
        rows, single = list(range(depth - together + 1)), [3, 14, 0, 7]
        asked = {"rows": 0, "read": 0}
        for cycle in range(2 * depth + 8):
            wants_rows = asked["rows"] < len(rows) and cycle % 3 != 2
            ctx.set(buffer.rows.valid, wants_rows)
            ctx.set(buffer.rows.address, rows[min(asked["rows"], len(rows) - 1)])
            ctx.set(buffer.read.valid, asked["read"] < len(single))
            ctx.set(buffer.read.address, single[min(asked["read"], len(single) - 1)])
            assert ctx.get(buffer.rows.ready) == 1
            assert ctx.get(buffer.read.ready) == (not wants_rows)
            asked["rows"] += wants_rows
            asked["read"] += not wants_rows and asked["read"] < len(single)
            await ctx.tick()
            for name, port in (("rows", buffer.rows), ("read", buffer.read)):
                if ctx.get(port.data_valid):
                    seen[name].append((cycle, ctx.get(Value.cast(port.data))))

    run(buffer, bench)
    mask = (1 << width) - 1
    assert [[word >> width * i & mask for i in range(together)] for _, word in seen["rows"]] == [
        content[first : first + together] for first in range(depth - together + 1)
    ]
    assert [word for _, word in seen["read"]] == [content[line] for line in (3, 14, 0, 7)]
    assert seen["rows"][0][0] == READ_LATENCY - 1, "asked in cycle 0, there after two edges"


def test_blocks_are_written_alone_and_addresses_wrap():
    buffer = RowsBuffer(depth=8, together=2)
    found = []

    async def bench(ctx):
        for line, mask, value in ((7, 15, (1 << 576) - 1), (7, 0b0010, 0), (0, 15, 5)):
            ctx.set(buffer.write.valid, 1)
            ctx.set(buffer.write.address, line)
            ctx.set(buffer.write.mask, mask)
            ctx.set(Value.cast(buffer.write.data), value)
            await ctx.tick()
        ctx.set(buffer.write.valid, 0)
        ctx.set(buffer.rows.valid, 1)
        ctx.set(buffer.rows.address, 8 + 7)
        for _ in range(READ_LATENCY):
            await ctx.tick()
        found.append(ctx.get(Value.cast(buffer.rows.data)))

    run(buffer, bench)
    holes = (1 << 576) - 1 - ((1 << 144) - 1 << 144)
    assert found == [5 << 576 | holes]


def test_done_goes_to_where_an_instruction_came_from():
    queues = ProductQueues(pending=4)
    taken, ended = [], []
    layout = primitive("MV")

    async def bench(ctx):
        given = [("mm", 3), ("mv", 5), ("mv", 6), ("mm", 9)]
        for cycle in range(12):
            kind, rows = given[0] if given else (None, 0)
            for name in ("mm", "mv"):
                ctx.set(getattr(queues, name).instruction.valid, name == kind)
                if name == kind:
                    ctx.set(Value.cast(getattr(queues, name).instruction.payload),
                            layout.const({"rows": rows}).as_value().value)  # fmt: skip
            ctx.set(queues.engine.instruction.ready, cycle % 2)
            ctx.set(queues.engine.done, cycle in (4, 7, 8, 10))
            ended.extend((cycle, name) for name in ("mm", "mv") if ctx.get(getattr(queues, name).done))
            if ctx.get(queues.engine.instruction.valid) and cycle % 2:
                taken.append(ctx.get(queues.engine.instruction.payload.rows))
                assert ctx.get(getattr(queues, kind).instruction.ready)
                given.pop(0)
            await ctx.tick()

    run(queues, bench)
    assert taken == [3, 5, 6, 9]
    assert ended == [(4, "mm"), (7, "mv"), (8, "mv"), (10, "mm")]


def test_verilog_is_clean():
    for part, name in ((RowsBuffer(depth=16, together=2), "rows-buffer"), (ProductQueues(), "product-queues")):
        assert lint(emit_verilog(part, name), top=name.replace("-", "_")) == []


@pytest.mark.parametrize(("given", "message"), [
    ({"depth": 16, "together": 3}, "rows must go 2 or 4 together, not 3"),
    ({"depth": 12, "together": 2}, "depth must be a power of two from 4 to 131072, not 12"),
])  # fmt: skip
def test_refusals(given, message):
    with pytest.raises(InputError, match=message):
        RowsBuffer(**given)
