# amaranth: UnusedElaboratable=no
"""Barriers and exchanges on a ring of cores: lines of both buffers, cycles, cores that do not come."""

import numpy as np
import pytest
from amaranth import Cat, Elaboratable, Module, Value
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator

from mixflight.arch.compact import codes
from mixflight.arch.errors import InputError
from mixflight.arch.exchange_pipeline import (
    exchange_cycles,
    lines_awaited,
    link_stages,
    meeting_cycles,
    meeting_stages,
)  # fmt: skip
from mixflight.rtl.core_buffers import LineBuffer
from mixflight.rtl.core_exchange import CoreExchange
from mixflight.rtl.core_ports import ACT_LINE, ACT_WORD, GLOBAL_LINE, LINE_BITS, LINE_WORDS
from mixflight.rtl.core_ring import CoreRing
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint

LINES = 16
OPERATIONS, BUFFERS = codes("SYS", "operation"), tuple(codes("SYS", "buffer"))
BITS = {"global": LINE_BITS, "act": 576}


class Joined(Elaboratable):
    """Cores of nothing but an exchange and buffers, of which others may use the ports too: of reads the first, of writes
    the last."""

    def __init__(self, cores, barrier, latency):
        self.link = link_stages(cores=cores, latency_cycles=latency, barrier_cycles=barrier)
        self.ring = CoreRing(cores=cores, meeting=meeting_stages(barrier_cycles=barrier), link=self.link)
        self.units = [CoreExchange(cores=cores) for _ in range(cores)]
        both = {"depth": LINES, "readers": (2,), "writers": 2}
        self.buffers = [{
            "global": LineBuffer(address_bits=GLOBAL_LINE, shape=LINE_BITS, parts=LINE_WORDS, **both),
            "act": LineBuffer(address_bits=ACT_LINE, shape=ACT_WORD, parts=4, **both),
        } for _ in range(cores)]  # fmt: skip

    def elaborate(self, platform):
        m = Module()
        m.submodules.ring = self.ring
        for number, (unit, buffers) in enumerate(zip(self.units, self.buffers, strict=True)):
            m.submodules[f"unit_{number}"] = unit
            connect(m, unit.port, self.ring.core[number])
            for name, port in (("global", "vector"), ("act", "act")):
                m.submodules[f"{name}_{number}"] = buffers[name]
                connect(m, getattr(unit, f"{port}_read"), buffers[name].read[1])
                connect(m, getattr(unit, f"{port}_write"), buffers[name].write[0])
        return m


def simulate(joined, bench):
    simulator = Simulator(joined)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


async def fill(ctx, joined, content):
    """Write ``content`` [core][buffer][line] by the ports of others."""
    for line in range(LINES):
        for core, buffers in enumerate(joined.buffers):
            for name, buffer in buffers.items():
                port = buffer.write[1]
                ctx.set(Value.cast(port.data), content[core][name][line])
                for signal, value in ((port.address, line), (port.valid, 1), (port.mask, (1 << len(port.mask)) - 1)):
                    ctx.set(signal, value)
        await ctx.tick()
    for buffers in joined.buffers:
        for buffer in buffers.values():
            ctx.set(buffer.write[1].valid, 0)


async def read_back(ctx, joined):
    """What the buffers hold."""
    found = [{name: [] for name in buffers} for buffers in joined.buffers]
    for line in range(LINES + 2):
        for core, buffers in enumerate(joined.buffers):
            for name, buffer in buffers.items():
                ctx.set(buffer.read[0].valid, line < LINES)
                ctx.set(buffer.read[0].address, min(line, LINES - 1))
                if ctx.get(buffer.read[0].data_valid):
                    found[core][name].append(ctx.get(Value.cast(buffer.read[0].data)))
        await ctx.tick()
    return found


async def run(ctx, joined, programs, offsets, rng, stalls=0.0, limit=3000):
    """Offer each core its instructions, (operation, buffer, first line, lines), the first at its offset; the cycles in
    which each core took and ended them."""
    taken, done = ([[] for _ in programs] for _ in range(2))
    for cycle in range(limit):
        for core, (unit, program) in enumerate(zip(joined.units, programs, strict=True)):
            at, port = len(taken[core]), unit.instruction
            offered = at < len(program) and cycle >= int(offsets[core]) and rng.random() >= stalls
            ctx.set(port.valid, int(offered))
            if offered:
                operation, buffer, line, lines = program[at]
                for name, value in (("operation", OPERATIONS[operation]), ("buffer", BUFFERS.index(buffer)),
                                    ("line", line), ("value", lines)):  # fmt: skip
                    ctx.set(getattr(port.p, name), value)
            for buffer in joined.buffers[core].values():
                ctx.set(buffer.read[0].valid, int(rng.random() < stalls))
                ctx.set(buffer.write[1].valid, int(rng.random() < stalls))
                ctx.set(buffer.write[1].mask, 0)
            if offered and ctx.get(port.ready):
                taken[core].append(cycle)
            if ctx.get(unit.done):
                done[core].append(cycle)
        if all(len(mine) == len(program) for mine, program in zip(done, programs, strict=True)):
            break
        await ctx.tick()
    for core, unit in enumerate(joined.units):
        ctx.set(unit.instruction.valid, 0)
        for buffer in joined.buffers[core].values():
            ctx.set(buffer.read[0].valid, 0)
            ctx.set(buffer.write[1].valid, 0)
    await ctx.tick().repeat(4)
    return taken, done


def made(cores, rng, length):
    """Content of the buffers, a program a core, and what the buffers hold behind it."""
    content = [{name: [int.from_bytes(rng.bytes(bits // 8), "little") for _ in range(LINES)] for name, bits in
                BITS.items()} for _ in range(cores)]  # fmt: skip
    expected = [{name: list(lines) for name, lines in buffers.items()} for buffers in content]
    programs = [[] for _ in range(cores)]
    for _ in range(length):
        if rng.random() < 0.2:
            for program in programs:
                program.append(("barrier", "global", 0, 0))
            continue
        name = BUFFERS[rng.integers(2)]
        cuts = np.sort(rng.integers(0, LINES + 1, cores + 1)).tolist()
        for core, program in enumerate(programs):
            first, end = cuts[core], cuts[core + 1]
            program.append(("exchange", name, first, end - first))
            for other in expected:
                other[name][first:end] = expected[core][name][first:end]
    return content, programs, expected


@pytest.mark.parametrize(("cores", "barrier", "latency", "stalls"), [
    (2, 8, 16, 0.0), (2, 2, 8, 0.6), (3, 4, 15, 0.3), (4, 3, 20, 0.5),
])  # fmt: skip
def test_all_hold_the_lines_of_all(cores, barrier, latency, stalls):
    rng = np.random.default_rng([cores, barrier])
    content, programs, expected = made(cores, rng, 12)
    joined = Joined(cores, barrier, latency)

    async def bench(ctx):
        await fill(ctx, joined, content)
        _, done = await run(ctx, joined, programs, rng.integers(0, 30, cores), rng, stalls)
        assert [len(mine) for mine in done] == [12] * cores
        assert await read_back(ctx, joined) == expected
        assert not any(ctx.get(Cat(unit.unsupported, unit.missing, unit.other_failed)) for unit in joined.units)

    simulate(joined, bench)


@pytest.mark.parametrize(("cores", "barrier", "latency"), [(2, 8, 16), (2, 2, 8), (3, 8, 19), (3, 5, 16), (4, 4, 12)])
def test_cycles_are_those_of_the_closed_form(cores, barrier, latency):
    rng, joined = np.random.default_rng(1), Joined(cores, barrier, latency)
    rounds = [("barrier", [0] * cores)]
    rounds += [("exchange", rng.integers(0, LINES // cores + 1, cores).tolist()) for _ in range(4)]
    rounds += [("exchange", [LINES] + [0] * (cores - 1)), ("exchange", [0] * cores)]

    async def bench(ctx):
        for operation, lines in rounds:
            firsts = np.cumsum([0, *lines[:-1]]).tolist()
            programs = [[(operation, "act", first, count)] for first, count in zip(firsts, lines, strict=True)]
            taken, done = await run(ctx, joined, programs, rng.integers(0, 12, cores), rng)
            last = max(mine[0] for mine in taken)
            for core in range(cores):
                expected = meeting_cycles(barrier_cycles=barrier)
                if operation == "exchange":
                    expected = exchange_cycles(lines, core, latency_cycles=latency, link=joined.link)
                assert done[core][0] + 1 - last == expected, (operation, lines, core)

    simulate(joined, bench)


def test_the_lines_of_the_other_core_are_what_counts():
    """A closed form by hand: two cores, as many cycles as lines come beyond the latency."""
    assert lines_awaited([7, 12], 0, link=3) == 12
    assert lines_awaited([7, 12], 1, link=3) == 7
    assert lines_awaited([7, 0], 0, link=3) == 1
    assert lines_awaited([100, 1], 0, link=3) == 100 - 3 - 3
    assert lines_awaited([5, 5, 5], 1, link=1) == 2 * 4 + 1


@pytest.mark.parametrize(("cores", "latency", "barrier"), [(2, 12, 8), (3, 14, 8), (3, 17, 8)])
def test_stages_that_do_not_fit(cores, latency, barrier):
    with pytest.raises(InputError, match="stages of a link"):
        link_stages(cores=cores, latency_cycles=latency, barrier_cycles=barrier)
    with pytest.raises(InputError, match="barrier_cycles must be 2"):
        meeting_stages(barrier_cycles=1)


def test_who_does_not_come_or_comes_to_another_meeting():
    joined, rng = Joined(2, 4, 12), np.random.default_rng(0)
    one, other = joined.units

    async def bench(ctx):
        ctx.set(other.stopped, 1)
        await run(ctx, joined, [[("barrier", "global", 0, 0)], []], [0, 0], rng, limit=20)
        assert ctx.get(one.missing) == 1 and ctx.get(other.missing) == 0
        ctx.set(other.stopped, 0)
        await run(ctx, joined, [[], [("exchange", "act", 0, 1)]], [0, 0], rng, limit=20)
        assert ctx.get(one.unsupported) == 1 and ctx.get(other.unsupported) == 1
        assert ctx.get(other.other_failed) == 0
        ctx.set(one.failed, 1)
        await ctx.tick().repeat(4)
        assert ctx.get(other.other_failed) == 1

    simulate(joined, bench)


def test_more_lines_than_a_buffer_has():
    joined, rng = Joined(2, 4, 12), np.random.default_rng(0)

    async def bench(ctx):
        await run(ctx, joined, [[("exchange", "act", 0, (1 << GLOBAL_LINE) + 1)], []], [0, 0], rng, limit=10)
        assert ctx.get(joined.units[0].unsupported) == 1

    simulate(joined, bench)


def test_the_verilog():
    for part, name in ((CoreExchange(cores=3), "core-exchange"), (CoreRing(cores=3, meeting=4, link=3), "core-ring")):
        lint(emit_verilog(part, name), top=name.replace("-", "_"))
