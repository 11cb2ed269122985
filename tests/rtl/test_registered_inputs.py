"""A register before every input: what reaches the component, and when; memories without their zeros."""

from amaranth import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from mixflight.rtl.compiled_model import compile_model
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.registered_inputs import registered_inputs, without_zeros
from mixflight.rtl.toolchain import run_tool

MAIN = """
#include <cstdio>
#include "Vtop.h"
int main() {
    Vtop top;
    auto step = [&] { top.clk = 1; top.eval(); top.clk = 0; top.eval(); };
    top.rst = 1, step();
    for (int value : {5, 9, 0}) {
        top.rst = 0, top.a = value;
        top.eval();
        std::printf("%d %d ", top.total, top.last);
        step();
    }
    std::printf("%d %d\\n", top.total, top.last);
}
"""


class Adder(wiring.Component):
    """A sum at once, and the one before."""

    a: In(4)
    total: Out(5)
    last: Out(5)

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.total.eq(self.a + 1)
        m.d.sync += self.last.eq(self.total)
        return m


def test_an_input_is_there_behind_the_edge():
    adder = Adder()
    text = without_zeros(emit_verilog(adder, "adder")) + registered_inputs(adder, "adder")
    model = compile_model(text, top="adder_bench", main=MAIN)
    done = run_tool([str(model.executable)])
    assert done.stdout.split() == ["1", "0", "6", "1", "10", "6", "1", "10"]


def test_only_zeros_are_left_out():
    zeros = "  initial begin\n    words[0] = 8'h00;\n    \\a.b [1] = 8'h00;\n  end\n"
    text = zeros + "  initial begin\n    t[0] = 4'h0;\n    t[1] = 4'h2;\n  end\n"
    assert without_zeros(text) == "  initial begin\n    t[1] = 4'h2;\n  end\n"
