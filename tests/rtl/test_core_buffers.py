# amaranth: UnusedElaboratable=no
"""The buffers of a core: arbitration and reads in Amaranth's simulator, and the memory blocks that they become."""

import pytest
from amaranth.sim import Simulator

from mixflight.arch.errors import InputError
from mixflight.rtl.core_buffers import BankBuffer, LineBuffer, WeightBuffer
from mixflight.rtl.core_ports import READ_LATENCY
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint
from mixflight.rtl.synthesis import run_yosys, script_of, synthesise


def line_buffer(**given):
    return LineBuffer(**{"depth": 8, "address_bits": 5, "shape": 32, "parts": 4, "readers": (1, 2), "writers": 2} | given)


def run(buffer, bench):
    simulator = Simulator(buffer)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_the_first_client_comes_first_and_both_are_answered_in_order():
    buffer = line_buffer()
    seen = []

    async def bench(ctx):
        for line in range(4):
            ctx.set(buffer.write[0].valid, 1)
            ctx.set(buffer.write[0].address, line)
            ctx.set(buffer.write[0].data, 0x01010101 * (line + 1))
            ctx.set(buffer.write[0].mask, 15)
            assert ctx.get(buffer.write[0].ready) == 1
            await ctx.tick()
        ctx.set(buffer.write[1].valid, 1)
        ctx.set(buffer.write[1].address, 3)
        ctx.set(buffer.write[1].data, 0xFFFFFFFF)
        ctx.set(buffer.write[1].mask, 0b0100)
        assert ctx.get(buffer.write[1].ready) == 0, "the first writer is still there"
        ctx.set(buffer.write[0].valid, 0)
        assert ctx.get(buffer.write[1].ready) == 1
        await ctx.tick()
        ctx.set(buffer.write[1].valid, 0)
        asks = {0: (0, 3), 1: (1, 3, 2), 2: (0, 3)}
        at = dict.fromkeys(asks, 0)
        for cycle in range(9):
            for client, lines in asks.items():
                ctx.set(buffer.read[client].valid, at[client] < len(lines))
                ctx.set(buffer.read[client].address, lines[min(at[client], len(lines) - 1)])
            ready = {client: ctx.get(buffer.read[client].ready) for client in asks}
            for client, lines in asks.items():
                if at[client] < len(lines) and ready[client]:
                    at[client] += 1
                    seen.append(("asked", client, cycle))
            await ctx.tick()
            for client in asks:
                if ctx.get(buffer.read[client].data_valid):
                    seen.append((ctx.get(buffer.read[client].data), client, cycle + 1))

    run(buffer, bench)
    answers = {client: [item for item in seen if item[1] == client and item[0] != "asked"] for client in range(3)}
    asked = {client: [item[2] for item in seen if item[1] == client and item[0] == "asked"] for client in range(3)}
    assert asked == {0: [0, 1], 1: [0, 1, 2], 2: [3, 4]}
    assert [item[0] for item in answers[0]] == [0x01010101, 0x04FF0404]
    assert [item[0] for item in answers[1]] == [0x02020202, 0x04FF0404, 0x03030303]
    assert [item[0] for item in answers[2]] == [0x01010101, 0x04FF0404]
    for client in range(3):
        assert [item[2] for item in answers[client]] == [cycle + READ_LATENCY for cycle in asked[client]]


def test_banks_are_ultraram_and_lines_block_ram():
    text = emit_verilog(WeightBuffer(channels=1, lanes=4, depth=256), "weights")
    assert lint(text, top="weights") == []
    found = synthesise(text, top="weights")
    assert (found.uram, found.bram, found.lutram) == (2 * 4, 0, 0)
    assert found.ff == 4 * 128 + 2
    text = emit_verilog(BankBuffer(channels=1, word_bits=256, depth=64), "scales")
    assert lint(text, top="scales") == []
    found = synthesise(text, top="scales")
    assert (found.uram, found.bram, found.lutram) == (0, 8, 0)


def test_a_line_buffer_is_of_the_blocks_that_it_asks_for():
    """A copy for each group of readers, 512 bits with an enable each 32: eight UltraRAMs, side A of which reads."""
    for kind, block in (("uram", "URAM288"), ("bram", "RAMB36E2")):
        text = emit_verilog(
            LineBuffer(depth=64, address_bits=14, shape=512, parts=16, readers=(1, 2), writers=3, kind=kind), "vectors")
        assert lint(text, top="vectors") == []
        _, netlist, _ = run_yosys(text, script_of(text, "vectors", "xcup"), "vectors", netlist=True)
        blocks = [cell for module in netlist["modules"].values() for cell in module["cells"].values()
                  if cell["type"].startswith(("URAM", "RAM"))]
        assert [cell["type"] for cell in blocks] == [block] * 16
        for pins in (cell["connections"] for cell in blocks if kind == "uram"):
            assert set(pins["RDB_WR_A"]) == {"0"}
            assert set(pins["RDB_WR_B"]).isdisjoint({"0", "1", "x"})


@pytest.mark.parametrize(("make", "message"), [
    (lambda: line_buffer(depth=12), "depth must be a power of two from 2 on, not 12, in a line buffer"),
    (lambda: line_buffer(depth=64), "depth must be at most 32 lines, not 64, in a line buffer"),
    (lambda: line_buffer(kind="ultra"), "kind must be one of bram, uram, not 'ultra', in a line buffer"),
    (lambda: WeightBuffer(channels=1, lanes=4, depth=100), "depth must be a power of two from 2 on, not 100, in a weight"),
    (lambda: BankBuffer(channels=1, word_bits=1024, depth=64), "a bank must be words of at most 512 bits and two lines"),
])
def test_refusals(make, message):
    with pytest.raises(InputError, match=message):
        make()
