"""Runs inside the simulator: a host of ``cocotbext-axi`` on the control registers, with random pauses on every channel."""

import itertools
import os
import random

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from mixflight.arch.core_registers import core_registers

MAP = core_registers()
ROUNDS = 120


def pauses(seed):
    chance = random.Random(seed)
    return itertools.starmap(chance.choices, itertools.repeat(([False, True], [3, 2])))


async def start(dut):
    dut.rst.value = 1
    for name in ("loaded", "executed", "finished", "fault", "fault_at", "memory_fault", "unsupported", "busy_units", "idle"):
        getattr(dut, name).value = 0
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(3):
        await RisingEdge(dut.clk)
    dut.rst.value = 0
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "bus_"), dut.clk, dut.rst)
    interfaces = (master.write_if.aw_channel, master.write_if.w_channel, master.write_if.b_channel,
                  master.read_if.ar_channel, master.read_if.r_channel)  # fmt: skip
    for seed, channel in enumerate(interfaces):
        channel.set_pause_generator(value[0] for value in pauses(seed))
    return master


async def write(master, address, value):
    return (await master.write(address, value.to_bytes(4, "little"))).resp


async def read(master, address):
    answer = await master.read(address, 4)
    return int.from_bytes(answer.data, "little"), answer.resp


@cocotb.test()
async def registers_keep_what_is_written(dut):
    """Every register that can be read says what was written last; the others refuse; nothing else changes."""
    master, chance = await start(dut), random.Random(5)
    kept = {row.address: 0 for row in MAP.rows if row.access == "rw"}
    for _ in range(ROUNDS):
        address, value = chance.choice(list(kept)), chance.randrange(1 << 32)
        assert await write(master, address, value) == AxiResp.OKAY
        kept[address] = value
        probe = chance.choice(list(kept))
        assert await read(master, probe) == (kept[probe], AxiResp.OKAY)
    dut.idle.value = 1
    assert await read(master, MAP["STATUS"].address) == (4, AxiResp.OKAY)
    assert int(dut.constants.value) & 0xFFFFFFFF == kept[MAP["EPS"].address]


@cocotb.test()
async def what_is_not_there_is_refused(dut):
    """Unknown addresses, registers of the other direction, and parts of words."""
    master = await start(dut)
    for address in (0x038, 0x0FC, 0x9000, 0xFFFC):
        assert await write(master, address, 1) == AxiResp.SLVERR
        assert await read(master, address) == (0, AxiResp.SLVERR)
    for row in MAP.rows:
        if row.access == "ro":
            assert await write(master, row.address, 1) == AxiResp.SLVERR
        if row.access == "wo":
            assert await read(master, row.address) == (0, AxiResp.SLVERR)
    half = await master.write(MAP["EPS"].address, b"\1\2")
    assert half.resp == AxiResp.SLVERR
    assert await read(master, MAP["EPS"].address) == (0, AxiResp.OKAY)


async def collect(dut, name, into):
    """(Index, value) of every write of a port."""
    valid, index, value = (getattr(dut, f"{name}__{part}") for part in ("valid", "index", "value"))
    while True:
        await RisingEdge(dut.clk)
        if valid.value == 1:
            into.append((int(index.value), int(value.value)))


@cocotb.test()
async def windows_reach_their_memories(dut):
    """Registers of the sequencer, constants and RoPE's steps come out once each, in order."""
    master, chance = await start(dut), random.Random(6)
    found = {name: [] for name in ("register", "constant", "rope")}
    for name, into in found.items():
        cocotb.start_soon(collect(dut, name, into))
    wanted = {name: [] for name in found}
    for _ in range(ROUNDS // 2):
        value = chance.randrange(1 << 32)
        for name, row in (("register", MAP["REGISTER"]), ("constant", MAP["CONSTANT"])):
            number = chance.randrange(row.count)
            assert await write(master, row.address + 4 * number, value) == AxiResp.OKAY
            wanted[name].append((number, value))
        step, pair = chance.randrange(1 << 40), chance.randrange(256)
        await write(master, MAP["ROPE_LOW"].address, step & 0xFFFFFFFF)
        await write(master, MAP["ROPE"].address, step >> 32 | pair << 8)
        wanted["rope"].append((pair, step))
    for _ in range(4):
        await RisingEdge(dut.clk)
    assert found == wanted


@cocotb.test()
async def a_run_is_busy_until_it_ends(dut):
    """START, the load before it, the end, an error; nothing is written meanwhile; counters count."""
    master = await start(dut)
    begun = []
    cocotb.start_soon(watch(dut, begun))
    await write(master, MAP["TEXT_INSTRUCTIONS"].address, 5)
    assert await write(master, MAP["START"].address, 3) == AxiResp.OKAY
    assert await write(master, MAP["EPS"].address, 9) == AxiResp.SLVERR
    assert await read(master, MAP["STATUS"].address) == (1, AxiResp.OKAY)
    assert begun == ["load"]
    dut.busy_units.value = 0b000101
    await pulse(dut, "loaded")
    await pulse(dut, "executed")
    await pulse(dut, "finished")
    dut.busy_units.value = 0
    assert await read(master, MAP["STATUS"].address) == (2, AxiResp.OKAY)
    assert begun == ["load", "go"]
    counts = [(await read(master, MAP["BUSY"].address + 4 * number))[0] for number in range(6)]
    assert counts[0] == counts[2] > 0
    assert counts[1] == counts[3] == counts[4] == counts[5] == 0
    assert (await read(master, MAP["EXECUTED"].address))[0] == 1
    cycles = (await read(master, MAP["CYCLES_LOW"].address))[0]
    assert cycles >= counts[0]
    assert await write(master, MAP["START"].address, 1) == AxiResp.OKAY
    dut.fault.value, dut.fault_at.value = 6, 3
    while (await read(master, MAP["STATUS"].address))[0] & 1:
        pass
    dut.fault.value = 0
    assert await read(master, MAP["STATUS"].address) == (6 << 8, AxiResp.OKAY)
    assert await read(master, MAP["ERROR_AT"].address) == (3, AxiResp.OKAY)
    assert begun == ["load", "go", "go"]
    np.savez(os.environ["MIXFLIGHT_RESULTS"], cycles=cycles)


async def pulse(dut, name):
    getattr(dut, name).value = 1
    await RisingEdge(dut.clk)
    getattr(dut, name).value = 0
    for _ in range(3):
        await RisingEdge(dut.clk)


async def watch(dut, into):
    while True:
        await RisingEdge(dut.clk)
        into.extend(name for name in ("load", "go") if getattr(dut, name).value == 1)
