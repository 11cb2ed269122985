# amaranth: UnusedElaboratable=no
"""Runs cut into bursts: places, lengths, and one a cycle."""

import random

import pytest
from amaranth.sim import Simulator

from mixflight.arch.errors import InputError
from mixflight.rtl.axi_bursts import PAGE_BYTES, AxiBursts
from mixflight.rtl.axi_read import AxiRead
from mixflight.rtl.axi_write import AxiWrite


def expected(address, beats, beat, burst):
    found, end = [], address + beats * beat
    while address < end:
        stop = min(end, (address // burst + 1) * burst)
        found.append((address, (stop - address) // beat - 1, stop == end))
        address = stop
    return found


@pytest.mark.parametrize(("bits", "burst"), [(512, 512), (512, 4096), (32, 1024), (256, 64)])
def test_runs_become_the_fewest_bursts_that_end_at_multiples(bits, burst):
    beat, rng = bits // 8, random.Random(bits + burst)
    runs = [(beat * rng.randrange(1 << 16) + (rng.randrange(4) << 32), rng.choice([1, 2, 7, 8, 9, 200])) for _ in range(20)]
    dut, seen, cycles = AxiBursts(data_bits=bits, burst_bytes=burst), [], []
    wanted = [item for address, beats in runs for item in expected(address, beats, beat, burst)]

    async def feed(ctx):
        for address, beats in runs:
            ctx.set(dut.request.p.address, address)
            ctx.set(dut.request.p.beats, beats)
            ctx.set(dut.request.valid, 1)
            await ctx.tick().until(dut.request.ready)
        ctx.set(dut.request.valid, 0)

    async def drain(ctx):
        ctx.set(dut.burst.ready, 1)
        for cycle in range(len(wanted) + 1):
            _, _, valid, address, length, last = await ctx.tick().sample(
                dut.burst.valid, dut.burst.p.address, dut.burst.p.length, dut.burst.p.last)
            if valid:
                seen.append((address, length, bool(last)))
                cycles.append(cycle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(feed)
    simulator.add_testbench(drain)
    simulator.run()
    assert seen == wanted
    assert cycles == list(range(1, len(wanted) + 1)), "the first a cycle after its run, then one a cycle"
    assert all(address // PAGE_BYTES == (address + length * beat) // PAGE_BYTES for address, length, _ in seen)


@pytest.mark.parametrize(("master", "given", "message"), [
    (AxiRead, {"data_bits": 48}, "data_bits must be a power of two from 32 to 1024, not 48, in an AXI master"),
    (AxiRead, {"burst_bytes": 8192}, "burst_bytes must be a power of two from 128 to 4096, not 8192, in an AXI master"),
    (AxiWrite, {"data_bits": 32, "burst_bytes": 2048}, "burst_bytes must be a power of two from 8 to 1024, not 2048"),
    (AxiWrite, {"outstanding": 0}, "outstanding must be at least 1, not 0, in an AXI master"),
    (AxiRead, {"buffered": 1}, "outstanding must be at least 1 and buffered 2, not 16 and 1, in an AXI master"),
])
def test_refusals(master, given, message):
    with pytest.raises(InputError, match=message):
        master(**given)
