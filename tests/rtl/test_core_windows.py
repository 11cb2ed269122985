# amaranth: UnusedElaboratable=no
"""One control bus for several cores: a window each, and one that writes to all."""

import ctypes
import subprocess

import pytest
from amaranth import Elaboratable, Module
from amaranth.lib.wiring import connect
from amaranth.sim import Simulator
from core_host import C99, Bus, bus_of, find_compiler_of_c

from mixflight.arch.core_errors import CoreError
from mixflight.arch.core_registers import as_markdown, c_header, core_registers
from mixflight.rtl.core_control import SETTLE_CYCLES, Control
from mixflight.rtl.core_windows import ControlWindows
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.lint import lint
from mixflight.rtl.vitis import DRIVERS

BITS = core_registers().address_bits
SLOTS = {"weight": 64, "scale": 64, "index": 64, "act": 64, "global": 64}
OKAY, SLVERR = 0, 2


def at(core, name):
    return (core << BITS) + core_registers()[name].address


class Joined(Elaboratable):
    """Control registers of cores without anything else."""

    def __init__(self, cores):
        self.windows = ControlWindows(cores=cores, window_bits=BITS)
        self.cores = [Control(depth=16, constants=16, slot_bytes=SLOTS, cores=cores) for _ in range(cores)]

    def elaborate(self, platform):
        m = Module()
        m.submodules.windows = self.windows
        for number, core in enumerate(self.cores):
            m.submodules[f"core_{number}"] = core
            connect(m, self.windows.core[number], core.bus)
        return m


async def until(ctx, signal):
    for _ in range(50):
        if ctx.get(signal):
            return
        await ctx.tick()
    raise AssertionError("no answer")


async def write(ctx, bus, address, value):
    for signal, given in ((bus.awaddr, address), (bus.wdata, value), (bus.wstrb, 15), (bus.bready, 1),
                          (bus.awvalid, 1), (bus.wvalid, 1)):  # fmt: skip
        ctx.set(signal, given)
    await until(ctx, bus.awready)
    await ctx.tick()
    ctx.set(bus.awvalid, 0)
    ctx.set(bus.wvalid, 0)
    await until(ctx, bus.bvalid)
    answer = ctx.get(bus.bresp)
    await ctx.tick()
    return answer


async def read(ctx, bus, address):
    for signal, given in ((bus.araddr, address), (bus.rready, 1), (bus.arvalid, 1)):
        ctx.set(signal, given)
    await until(ctx, bus.arready)
    await ctx.tick()
    ctx.set(bus.arvalid, 0)
    await until(ctx, bus.rvalid)
    answer = ctx.get(bus.rdata), ctx.get(bus.rresp)
    await ctx.tick()
    return answer


def simulate(joined, bench):
    simulator = Simulator(joined)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("cores", [2, 3])
def test_windows(cores):
    joined = Joined(cores)
    bus = joined.windows.bus

    async def bench(ctx):
        assert await write(ctx, bus, at(cores, "EPS"), 7) == OKAY
        for core in range(cores):
            assert await read(ctx, bus, at(core, "EPS")) == (7, OKAY)
            assert await write(ctx, bus, at(core, "POSITION"), 40 + core) == OKAY
        for core in range(cores):
            assert await read(ctx, bus, at(core, "POSITION")) == (40 + core, OKAY)
            assert await read(ctx, bus, at(core, "EPS")) == (7, OKAY)
        assert await read(ctx, bus, at(cores, "EPS")) == (0, SLVERR)
        if cores == 2:
            assert await write(ctx, bus, at(3, "EPS"), 1) == SLVERR
        assert await write(ctx, bus, at(cores, "STATUS"), 1) == SLVERR
        assert await write(ctx, bus, at(0, "STATUS"), 1) == SLVERR

    simulate(joined, bench)


def test_all_begin_in_the_same_cycle_and_hear_of_errors():
    joined = Joined(2)
    bus, (one, other) = joined.windows.bus, joined.cores

    async def bench(ctx):
        ctx.set(other.other_failed, 1)     # of the run before: it does not count at once
        assert await write(ctx, bus, at(2, "START"), 1) == OKAY
        assert [ctx.get(core.stopped) for core in joined.cores] == [0, 0]
        assert [(await read(ctx, bus, at(core, "CYCLES_LOW")))[1] for core in range(2)] == [OKAY] * 2
        ctx.set(other.other_failed, 0)
        assert await write(ctx, bus, at(2, "EPS"), 1) == SLVERR  # they are busy
        await ctx.tick().repeat(2 * SETTLE_CYCLES)
        assert (await read(ctx, bus, at(1, "STATUS")))[0] & 1 == 1
        ctx.set(one.fault, CoreError.TOKENS)
        await ctx.tick().repeat(3)
        assert ctx.get(one.failed) == 1 and ctx.get(one.stopped) == 1
        ctx.set(other.other_failed, ctx.get(one.failed))
        ctx.set(one.fault, 0)
        await ctx.tick().repeat(3)
        found = [(await read(ctx, bus, at(core, "STATUS")))[0] for core in range(2)]
        assert [status & 1 for status in found] == [0, 0]
        assert [status >> 8 & 15 for status in found] == [CoreError.TOKENS, CoreError.OTHER_CORE]
        await write(ctx, bus, at(2, "START"), 1)
        assert ctx.get(one.failed) == 0 and ctx.get(other.failed) == 0

    simulate(joined, bench)


def test_what_says_where_the_windows_are():
    header = c_header("two", values={}, sequencer={}, cores=2)
    assert "#define CORE_CORES 2u" in header and "#define CORE_WINDOW(core) (0x10000u * (core))" in header
    assert "CORE_CORES" not in c_header("one", values={}, sequencer={})
    assert "What is written from `0x20000` on is written to all" in as_markdown(cores=2)


def test_the_verilog():
    lint(emit_verilog(ControlWindows(cores=3, window_bits=BITS), "control-windows"), top="control_windows")


def test_the_driver_begins_on_all_and_says_whose_error_it_was(tmp_path):
    """Statuses as three reads of each core find them: busy, busy, ended."""
    (tmp_path / "core_registers.h").write_text(c_header("two", values={}, sequencer={}, cores=2))
    (tmp_path / "shim.c").write_text(
        '#include "core_registers.h"\n#include "core_driver.h"\n'
        "int run_all(const struct core_bus *a, const struct core_bus *c, int l, uint64_t p)"
        " { return core_run_all(a, c, l, p); }\n"
    )
    library = tmp_path / "driver.so"
    subprocess.run([find_compiler_of_c(), *C99, "-fPIC", "-shared", f"-I{DRIVERS}", f"-I{tmp_path}", "shim.c", "-o",
                    library], cwd=tmp_path, check=True)  # fmt: skip
    run_all = ctypes.CDLL(str(library)).run_all
    run_all.argtypes = [ctypes.POINTER(Bus), ctypes.POINTER(Bus), ctypes.c_int, ctypes.c_uint64]
    written = []

    def run(errors, polls=10, busy=0):
        answers = [[0] * (1 - busy) + [1] * (2 + busy * polls) + [error << 8 | 2] for error in errors]
        cores = (Bus * 2)(*(bus_of(lambda _, mine=mine: mine.pop(0), lambda *_: None) for mine in answers))
        everyone = bus_of(lambda _: 0, lambda at, value: written.append((at, value)))
        return run_all(everyone, cores, 1, polls)

    assert run([0, 0]) == 0
    assert written == [(core_registers()["START"].address, 3)]
    assert run([CoreError.OTHER_CORE, CoreError.MEMORY]) == -CoreError.MEMORY
    assert run([CoreError.TOKENS, CoreError.OTHER_CORE]) == -CoreError.TOKENS
    assert run([0, CoreError.OTHER_CORE]) == -CoreError.OTHER_CORE
    assert run([0, 0], polls=1) == -17 and run([0, 0], busy=1) == -16
