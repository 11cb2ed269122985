"""An emitted array inside somebody else's design: a plain Verilog module, and an Amaranth system; run, not only read."""

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal

from mixflight.rtl.bench_systolic_array import array_job
from mixflight.rtl.design import choose_top
from mixflight.rtl.harness import build_model, run_jobs
from mixflight.rtl.inspect import inspect_verilog
from mixflight.rtl.lint import lint
from mixflight.verify_tiles import random_tile

ARRAY = {"rows": 2, "cols": 2, "lanes": 1, "group_max": 32}


@pytest.fixture(scope="module")
def array():
    """(What was chosen, its Verilog, its ports)."""
    chosen = choose_top("mixpe-array", **ARRAY, zero="none")
    text = chosen.emit()
    return chosen, text, inspect_verilog(text, top=chosen.module).ports


def in_verilog(module, ports, counted):
    """A module ``soc`` of the same ports around ``module``, with a counter of what a stream or channel transfers."""
    valid, ready = counted
    outer = [f"{port.direction} [{port.width - 1}:0] {port.name}" for port in ports]
    inner = ",\n    ".join(f".{port.name}({port.name})" for port in ports)
    return f"""
module soc({", ".join(outer)}, output reg [31:0] taken);
  initial taken = 0;
  always @(posedge clk)
    if (rst) taken <= 0;
    else if ({valid} && {ready}) taken <= taken + 1;
  {module} accelerator (
    {inner}
  );
endmodule
"""


class Soc(Elaboratable):
    """The same in Amaranth: an instance, and all that it has at the pins."""

    def __init__(self, module, ports, counted):
        self.module, self.counted, self.own = module, counted, [port for port in ports if port.name not in ("clk", "rst")]
        self.pins = {port.name: Signal(port.width, name=port.name) for port in self.own}
        self.taken = Signal(32)

    def elaborate(self, platform):
        m = Module()
        pins = self.pins
        connected = {f"{port.direction[0]}_{port.name}": pins[port.name] for port in self.own}
        m.submodules.accelerator = Instance(self.module, i_clk=ClockSignal(), i_rst=ResetSignal(), **connected)
        with m.If(pins[self.counted[0]] & pins[self.counted[1]]):
            m.d.sync += self.taken.eq(self.taken + 1)
        return m

    def text(self):
        """Its Verilog; the instance's module is another text."""
        return verilog.convert(self, name="soc", ports=[*self.pins.values(), self.taken], emit_src=False)


def in_amaranth(module, ports, counted):
    return Soc(module, ports, counted).text()


def faults(text):
    """Warnings of the whole text that a wrong connection gives."""
    return [item for item in lint(text, top="soc") if item.rule in ("UNDRIVEN", "LATCH", "IMPLICIT", "PINNOTFOUND")]


@pytest.mark.parametrize("around", [in_verilog, in_amaranth])
def test_an_instance_computes_what_the_array_does(around, array):
    chosen, text, ports = array
    whole = text + around(chosen.module, ports, ("out__0__valid", "out__0__ready"))
    assert faults(whole) == []
    random = np.random.default_rng(8)
    tiles = [random_tile(chosen, random, k=64, group=32) for _ in range(3)]
    job = array_job(chosen.component, [tile.beats() for tile in tiles])
    [seen] = run_jobs(build_model(whole, top="soc"), [job])
    assert seen.finished and not seen.protocol_errors
    golden = np.concatenate([tile.outputs().view(np.uint32).T.ravel() for tile in tiles])
    assert sorted(seen.outputs["out__0"]) == sorted(golden.tolist())
    [bare] = run_jobs(build_model(text, top=chosen.module), [job])
    assert seen.outputs == bare.outputs and seen.cycles == bare.cycles


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_whole_core_fits_into_both():
    chosen = choose_top("flightllm-core")
    text = chosen.emit()
    ports = inspect_verilog(text, top=chosen.module).ports
    for around in (in_verilog, in_amaranth):
        assert faults(text + around(chosen.module, ports, ("m_axi_0__arvalid", "m_axi_0__arready"))) == []
