# amaranth: UnusedElaboratable=no
"""A core as a kernel: its wrapper, what describes it to AMD's tools, its bases, its drivers."""

import ctypes
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from amaranth.sim import Simulator
from core_host import C99, Counts, Model, bus_of, compile_driver, find_compiler_of_c
from tiny_llama import TinyLlama

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.compact import compact
from mixflight.arch.core_registers import core_registers
from mixflight.arch.isa import encode
from mixflight.rtl import project
from mixflight.rtl.core import Core
from mixflight.rtl.core_control import Control
from mixflight.rtl.core_harness import CoreProcess, build_core
from mixflight.rtl.design import ChosenTop, cores_of
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.inspect import signature_ports
from mixflight.rtl.kernel_bases import BASES_AT, KernelBases
from mixflight.rtl.lint import lint
from mixflight.rtl.vitis import DRIVERS, kernel_files

PART = "xcu280-fsvh2892-2L-e"
MACHINES = ("mixpe-mini", "flightllm-mini")


@pytest.fixture(scope="module")
def core():
    made = Core(accelerator_named(MACHINES[0]))
    made._MustUse__used = True
    return made


@pytest.fixture(scope="module")
def files(core):
    return kernel_files(core, "flightllm_core", PART)


def stub(core):
    """The core's ports with nothing inside; to write all of it takes a minute."""
    ports = ["input clk", "input rst", *(f"{port.direction} [{port.width - 1}:0] {port.name}" for port in signature_ports(core))]
    return f"/* verilator lint_off UNUSEDSIGNAL */ /* verilator lint_off UNDRIVEN */ module flightllm_core ({', '.join(ports)}); endmodule\n"


def test_the_wrapper_fits_the_core_and_the_bases(core, files):
    text = files["vitis/flightllm_core_kernel.v"] + files["vitis/kernel_bases.v"] + stub(core)
    assert lint(text, top="flightllm_core_kernel") == []


def test_joined_cores_are_one_kernel():
    cores = cores_of(accelerator_named("mixpe-duo"))
    cores._MustUse__used = True
    files = kernel_files(cores, "flightllm_core", PART)
    text = files["vitis/flightllm_core_kernel.v"] + files["vitis/kernel_bases.v"] + stub(cores)
    assert lint(text, top="flightllm_core_kernel") == []
    root = ElementTree.fromstring(files["vitis/kernel.xml"])
    assert [int(argument.get("offset"), 16) for argument in root.iter("arg")][:2] == [0x3F000, 0x3F008]
    assert "#define CORE_KERNEL_BASES 0x3f000u" in files["driver/core_kernel.h"]
    banks = re.findall(r":((?:HBM|DDR)\[\d+\])$", files["vitis/link.cfg"], re.M)
    assert banks == [*(f"HBM[{channel}]" for channel in range(8)), *["DDR[0]"] * 4]


def test_the_description_has_every_port_of_the_wrapper_and_no_other(core, files):
    root = ElementTree.fromstring(files["vitis/kernel.xml"])
    ports = {port.get("name") for port in root.iter("port")}
    declared = set(re.findall(r"^  (?:in|out)put wire (?:\[\d+:0\] )?(\w+)", files["vitis/flightllm_core_kernel.v"], re.M))
    assert {re.sub(r"_[a-z]+$", "", name) for name in declared - {"ap_clk", "ap_rst_n"}} == ports
    assert {"ap_clk", "ap_rst_n", "m_axi_0_awaddr", "s_axi_control_awaddr"} <= declared
    assert ports == {"s_axi_control", *core.memories}
    assert root.find("kernel").get("hwControlProtocol") == "user_managed"
    arguments = list(root.iter("arg"))
    assert [argument.get("port") for argument in arguments] == list(core.memories)
    assert [int(argument.get("offset"), 16) for argument in arguments] == [BASES_AT + 8 * p for p in range(len(arguments))]
    for argument in arguments:
        assert f".{argument.get('name')}:" in files["vitis/link.cfg"]
        assert f"ipx::add_register {argument.get('name')} " in files["vitis/package_kernel.tcl"]


def test_the_driver_has_the_bases_where_they_are():
    assert f"#define CORE_KERNEL_BASES 0x{BASES_AT:x}u\n" in (DRIVERS / "core_driver.h").read_text()
    assert max(row.address + 4 * row.count for row in core_registers().rows) <= BASES_AT


def test_bases_are_kept_and_the_core_sees_the_rest():
    bases = KernelBases(ports=3)
    seen = []

    async def write(ctx, address, value, strobe=15):
        host = bases.host
        for name, word in (("awaddr", address), ("awvalid", 1), ("wdata", value), ("wvalid", 1), ("wstrb", strobe), ("bready", 1)):
            ctx.set(getattr(host, name), word)
        await ctx.tick().until(host.awready & host.wready)
        ctx.set(host.awvalid, 0)
        ctx.set(host.wvalid, 0)
        [answer] = await ctx.tick().sample(host.bresp).until(host.bvalid)
        return answer

    async def read(ctx, address):
        host = bases.host
        for name, word in (("araddr", address), ("arvalid", 1), ("rready", 1)):
            ctx.set(getattr(host, name), word)
        await ctx.tick().until(host.arready)
        ctx.set(host.arvalid, 0)
        return tuple(await ctx.tick().sample(host.rdata, host.rresp).until(host.rvalid))

    async def core(ctx):
        bus = bases.core
        while True:
            ctx.set(bus.awready, 1)
            ctx.set(bus.wready, 1)
            ctx.set(bus.arready, 1)
            _, _, wrote, asked, address, value, place = await ctx.tick().sample(
                bus.awvalid & bus.wvalid, bus.arvalid, bus.awaddr, bus.wdata, bus.araddr)
            ctx.set(bus.bvalid, wrote)
            if wrote:
                seen.append((address, value))
            if asked:
                ctx.set(bus.arready, 0)
                await ctx.tick().repeat(2)
                ctx.set(bus.rvalid, 1)
                ctx.set(bus.rdata, place ^ 0x5555)
                await ctx.tick()
                ctx.set(bus.rvalid, 0)

    async def host(ctx):
        assert await write(ctx, 0x10, 77) == 0
        for port in range(3):
            assert await write(ctx, BASES_AT + 8 * port, 0x1000_0FFF * (port + 1)) == 0
            assert await write(ctx, BASES_AT + 8 * port + 4, port + 2) == 0
            expected = 0x1000_0FFF * (port + 1) & ~0xFFF | port + 2 << 32
            assert ctx.get(bases.base[port]) == expected
            assert await read(ctx, BASES_AT + 8 * port) == (expected & 0xFFFFFFFF, 0)
            assert await read(ctx, BASES_AT + 8 * port + 4) == (port + 2, 0)
        assert await write(ctx, BASES_AT + 24, 1) == 2
        assert await write(ctx, BASES_AT, 1, strobe=3) == 2
        assert (await read(ctx, BASES_AT + 24))[1] == 2
        assert await read(ctx, 0x44) == (0x44 ^ 0x5555, 0)
        assert await write(ctx, 0x8FFC, 78) == 0
        assert seen == [(0x10, 77), (0x8FFC, 78)]
        seen.append("end")

    simulator = Simulator(bases)
    simulator.add_clock(1e-6)
    simulator.add_testbench(host)
    simulator.add_testbench(core, background=True)
    simulator.run_until(1e-3)
    assert seen[-1] == "end"


def test_registers_that_the_constraints_name_are_there(core):
    chosen = ChosenTop(top="flightllm-core", module="flightllm_core", component=core, parameters={}, clock_mhz=225.0)
    constraints = project._constraints(chosen)
    assert "create_clock -name clk -period 4.444" in constraints
    text = emit_verilog(Control(depth=64, constants=64, slot_bytes=core.shape.slot_bytes), "control")
    for name in project.QUIET:
        assert f"/{name}_reg*" in constraints
        assert re.search(rf"^  reg \[31:0\] {name} = ", text, re.M)


@pytest.mark.parametrize(("language", "source"), [
    (C99, '#include "core_registers.h"\n#include "core_driver.h"\nint main(void) { return CORE_PORTS == 0; }\n'.replace("CORE_PORTS", "CORE_START")),
    (("-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror"), """\
#include "core_xrt.h"
int main() {
    CoreCard core{"core.xclbin"};
    core.memory(CORE_PORT_0, 4096).map<uint8_t*>()[0] = 1;
    core.to_card(CORE_PORT_0);
    core.from_card(CORE_PORT_0);
    return core_run(&core.bus(), 1, 1000);
}
"""),
], ids=["C", "XRT"])
def test_drivers_compile(tmp_path, core, files, language, source):
    for name, text in {**XRT_STUBS, "core_registers.h": core.documents["core_registers.h"], "core_kernel.h": files["driver/core_kernel.h"]}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "host").write_text(source)
    subprocess.run([find_compiler_of_c(), *language, "-fsyntax-only", f"-I{DRIVERS}", f"-I{tmp_path}", "host"], cwd=tmp_path, check=True)


_PRAGMA = "#pragma once\n#include <cstdint>\n#include <cstddef>\n#include <string>\n#include <vector>\n"
XRT_STUBS = {    # the part of XRT's own interface that the driver uses, as its documentation has it
    "xrt/xrt_device.h": _PRAGMA + "namespace xrt { struct xclbin; struct uuid {}; struct device { explicit device(unsigned); uuid load_xclbin(const xclbin&); }; }\n",
    "xrt/xrt_bo.h": _PRAGMA + '#include "xrt_device.h"\nenum xclBOSyncDirection { XCL_BO_SYNC_BO_TO_DEVICE, XCL_BO_SYNC_BO_FROM_DEVICE };\nnamespace xrt { using memory_group = uint32_t; struct bo { bo(const device&, size_t, memory_group); uint64_t address() const; void sync(xclBOSyncDirection); template <class T> T map(); }; }\n',
    "experimental/xrt_xclbin.h": _PRAGMA + "namespace xrt { struct xclbin { struct mem { int32_t get_index() const; }; struct arg { size_t get_index() const; std::vector<mem> get_mems() const; }; struct kernel { std::vector<arg> get_args() const; }; explicit xclbin(const std::string&); kernel get_kernel(const std::string&) const; }; }\n",
    "experimental/xrt_ip.h": _PRAGMA + '#include <xrt/xrt_device.h>\nnamespace xrt { struct ip { ip(const device&, const uuid&, const std::string&); void write_register(uint32_t, uint32_t); uint32_t read_register(uint32_t) const; }; }\n',
}


def test_the_driver_writes_what_a_run_needs(tmp_path):
    driver, registers, written = compile_driver(tmp_path), core_registers(), []
    answers = {registers["STATUS"].address: [0, 0, 0, 1, 1, 6], registers["CYCLES_LOW"].address: [5], registers["CYCLES_HIGH"].address: [1], registers["EXECUTED"].address: [9]}
    bus = bus_of(lambda at: answers[at].pop(0) if at in answers else at, lambda at, value: written.append((at, value)))
    steps = (ctypes.c_uint64 * 2)(0x12_3456_789A, 3)
    model = Model(eps=1, inverse_hidden=2, inverse_head=3, inverse_root=4, head_elements=64, rope_steps=steps, rope_count=2)
    assert driver.set_text(ctypes.byref(bus), 0x1_0000_0040, 12, 0x80, 7) == 0
    assert driver.set_model(ctypes.byref(bus), ctypes.byref(model)) == 0
    driver.set_base(ctypes.byref(bus), 2, 0x3_0000_1000)
    driver.set_register(ctypes.byref(bus), 5, 99)
    assert driver.run(ctypes.byref(bus), 1, 10) == 0
    at = {row.name: row.address for row in registers.rows}
    assert written == [
        (at["TEXT_ADDRESS_LOW"], 0x40), (at["TEXT_ADDRESS_HIGH"], 1), (at["TEXT_INSTRUCTIONS"], 12),
        (at["CONSTANTS_ADDRESS_LOW"], 0x80), (at["CONSTANTS_ADDRESS_HIGH"], 0), (at["CONSTANTS_COUNT"], 7),
        (at["EPS"], 1), (at["INVERSE_HIDDEN"], 2), (at["INVERSE_HEAD"], 3), (at["INVERSE_ROOT"], 4), (at["HEAD_ELEMENTS"], 64),
        (at["ROPE_LOW"], 0x3456789A), (at["ROPE"], 0x12), (at["ROPE_LOW"], 3), (at["ROPE"], 1 << 8),
        (BASES_AT + 16, 0x1000), (BASES_AT + 20, 3), (at["REGISTER"] + 20, 99), (at["START"], 3),
    ]
    counts = Counts()
    driver.counts(ctypes.byref(bus), ctypes.byref(counts))
    assert (counts.cycles, counts.executed) == (5 | 1 << 32, 9)
    answers[at["STATUS"]] = [1]
    assert driver.run(ctypes.byref(bus), 0, 10) == -16
    answers[at["STATUS"]] = [0, 12 << 8]
    assert driver.run(ctypes.byref(bus), 0, 10) == -12
    answers[at["STATUS"]] = [0, *[1] * 10]
    assert driver.run(ctypes.byref(bus), 0, 10) == -17


@pytest.mark.slow
@pytest.mark.timeout(2400)      # compiles the core, if no other test has
def test_the_driver_runs_a_made_model_on_the_core(tmp_path):
    """Text, constants, model and registers all by the C driver; memory afterwards as the executor's."""
    machine = accelerator_named("mixpe-mini")
    made, driver = TinyLlama().on(machine, 128), compile_driver(tmp_path)
    first = made.step(0, 0).text.text
    with CoreProcess(build_core(Core(machine, generic=True)), hbm=made.hbm, ddr=made.ddr[0],
                     text=encode(first.stream, compact()), constants=first.constants.tolist()) as core:
        names = {row.address + 4 * number: (row.name, number) for row in core_registers().rows for number in range(row.count)}
        bus = ctypes.byref(keep := bus_of(lambda at: core.read(*names[at]), lambda at, value: core.write(names[at][0], value, names[at][1])))
        assert driver.set_text(bus, core.text_at, core.instructions, core.constants_at, core.constants) == 0
        for position, token in enumerate((7, 3, 11)):
            step, made_of = made.step(token, position), made.step(token, position).constants
            steps = (ctypes.c_uint64 * len(made_of.rope_steps))(*made_of.rope_steps)
            values = {name: getattr(made_of, name) for name in ("eps", "inverse_hidden", "inverse_head", "inverse_root", "head_elements")}
            assert driver.set_model(bus, ctypes.byref(Model(**values, rope_steps=steps, rope_count=len(steps)))) == 0
            driver.set_position(bus, made_of.position)
            for number in range(1, 32):
                driver.set_register(bus, number, step.numbered.get(number, 0))
            assert driver.run(bus, position == 0, 1_000_000) == 0
            made.decode(token, position)
            for mine, golden in zip(core.hbm, made.hbm, strict=True):
                assert (mine[: len(golden)] == golden).all()
        counts = Counts()
        driver.counts(bus, ctypes.byref(counts))
        assert counts.executed == core.read("EXECUTED") > 0
        assert counts.cycles == core.read("CYCLES_LOW")
        assert keep.read is not None
