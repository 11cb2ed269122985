"""A top whose inputs pass a register before they reach a component: for C++ programs that set pins once a cycle.

Verilator settles everything behind a pin at each evaluation, whether the pin changed or not; behind a register nothing
is left to settle but at the clock's edge. What a program sets before an edge is there in the cycle after the edge, as
if it had set the component's own pins behind the edge.
"""

import re

from amaranth.hdl import Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In

_ZERO = re.compile(r"^    (?:\\\S+ |\w+)\[\d+\] = \d+'h0+;\n", re.M)
_EMPTY = re.compile(r"^  initial begin\n  end\n", re.M)


def registered_inputs(component: wiring.Component, top: str) -> str:
    """Verilog of ``top``_bench: the module ``top`` of ``component`` with a register before each input but ``clk``."""
    inputs: dict[str, int] = {"rst": 1}
    outputs: dict[str, int] = {}
    for path, member, _ in component.signature.flatten(component):
        width = Shape.cast(member.shape).width
        if width:
            (inputs if member.flow == In else outputs)["__".join(map(str, path))] = width
    ports = ["clk", *inputs, *outputs]
    lines = [f"module {top}_bench ({', '.join(ports)});", "  input clk;"]
    for name, width in inputs.items():
        lines += [f"  input [{width - 1}:0] {name};", f"  reg [{width - 1}:0] held_{name};",
                  f"  always @(posedge clk) held_{name} <= {name};"]  # fmt: skip
    lines += [f"  output [{width - 1}:0] {name};" for name, width in outputs.items()]
    wires = {"clk": "clk"} | {name: f"held_{name}" for name in inputs} | {name: name for name in outputs}
    connections = [f".{port}({wire})" for port, wire in wires.items()]
    lines += [f"  {top} core ({', '.join(connections)});", "endmodule", ""]
    return "\n".join(lines)


def without_zeros(text: str) -> str:
    """Verilog ``text`` whose memories are not set to zeros word by word, for a simulator that begins with zeros."""
    return _EMPTY.sub("", _ZERO.sub("", text))
