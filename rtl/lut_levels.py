"""The longest path of a mapped design in LUT levels: how many LUTs lie between two registers.

A carry chain, a multiplexer beyond a LUT and a read of LUT memory count one level each, like a LUT; registers, shift
registers and DSPs end paths (a DSP48E2 of the chain has a register at every port). Ports count as registers. Nothing
is placed, so this is no frequency: at 225 MHz a level and its routing have about 0.5 ns in a budget of 8.
"""

import json
import sys
import tempfile
from pathlib import Path

from mixflight.rtl.synthesis import SynthesisError
from mixflight.rtl.toolchain import last_lines, run_tool

_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    libyosys.run_pass(line.strip(), design)
"""
_LOGIC = ("LUT", "INV", "CARRY", "MUXF")
_MEMORY = ("RAM32", "RAM64")


def lut_levels(text: str, *, top: str) -> tuple[int, str]:
    """Levels of the longest path of ``text`` on UltraScale+, flattened, and the name of a net at its end."""
    with tempfile.TemporaryDirectory(prefix="mixflight-levels-") as name:
        folder = Path(name)
        (folder / "top.v").write_text(text)
        (folder / "script.ys").write_text(
            f"read_verilog top.v\nsynth_xilinx -family xcup -noiopad -noclkbuf -flatten -top {top}\n"
            "write_json netlist.json\n")
        done = run_tool([sys.executable, "-c", _RUNNER, "script.ys"], folder=folder)
        if done.returncode != 0:
            raise SynthesisError(f"Yosys must synthesise {top}: {last_lines(done.stdout)}")
        module = json.loads((folder / "netlist.json").read_text())["modules"][top]
    return _longest(module)


def _longest(module: dict) -> tuple[int, str]:
    sources: dict[int, list[int]] = {}      # net → nets one level before it
    for cell in module["cells"].values():
        inputs = _inputs(cell)
        if inputs is None:
            continue
        for pin, direction in cell["port_directions"].items():
            if direction == "output":
                for bit in cell["connections"].get(pin, []):
                    sources[bit] = inputs
    levels: dict[int, int] = {}
    for net in sources:
        _visit(net, sources, levels)
    deepest = max(levels, key=lambda net: levels[net], default=None)
    names = {bit: name for name, entry in module["netnames"].items() for bit in entry["bits"]}
    return (levels[deepest], names.get(deepest, "")) if deepest is not None else (0, "")


def _inputs(cell: dict) -> list[int] | None:
    """Nets that a combinational cell's outputs depend on; None for a cell that ends paths."""
    kind = cell["type"]
    if kind.startswith(_LOGIC):
        pins = [pin for pin, direction in cell["port_directions"].items() if direction == "input"]
    elif kind.startswith(_MEMORY):
        pins = [pin for pin in cell["port_directions"] if pin.startswith("ADDR")]
    else:
        return None
    return [bit for pin in pins for bit in cell["connections"].get(pin, []) if isinstance(bit, int)]


def _visit(net: int, sources: dict[int, list[int]], levels: dict[int, int]) -> None:
    """Depth first with a stack: carry chains are longer than Python's."""
    stack = [net]
    while stack:
        here = stack[-1]
        waiting = [before for before in sources[here] if before in sources and before not in levels]
        if waiting:
            stack += waiting
        else:
            levels[here] = 1 + max((levels.get(before, 0) for before in sources[here]), default=0)
            stack.pop()
