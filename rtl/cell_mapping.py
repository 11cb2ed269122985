"""Emitted Verilog mapped by Yosys and ABC to the cells of a Liberty file, kept by the hash of both.

The design is flattened, so delays cross modules. ABC maps for area, buffers what drives more than its library
allows and takes the smallest sizes otherwise. Nothing is placed: no wires, no clock
tree, no scan. Libraries without tie cells leave constants at pins.
"""

import json
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixflight.rtl.cache import cache_folder, digest, write_atomically
from mixflight.rtl.liberty import Library, as_text
from mixflight.rtl.synthesis import SynthesisError, digest_text
from mixflight.rtl.toolchain import last_lines, package_version, run_tool

SCRIPT = ("synth -flatten -top {top}", "dfflibmap -liberty cells.lib",
          "abc -liberty cells.lib -constr load.constr -D 100000", "opt_clean -purge")
"""What maps. The target of 100 ns never binds: sizes are the smallest."""

_CONSTRAINT = "set_load 0.02 [all_outputs]\n"

_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    libyosys.run_pass(line.strip(), design)
"""

Bit = int | str
"""A net, or the constant '0' or '1'."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One cell and what its pins are joined to."""

    name: str
    cell: str
    pins: Mapping[str, Bit]


@dataclass(frozen=True, kw_only=True)
class Netlist:
    """Cells of one library, flat."""

    top: str
    inputs: Mapping[str, tuple[Bit, ...]]
    outputs: Mapping[str, tuple[Bit, ...]]
    instances: tuple[Instance, ...]
    text_sha256: str = ""
    tools: Mapping[str, str]

    def counts(self) -> dict[str, int]:
        """Cell → how often, in alphabetical order."""
        counts: dict[str, int] = {}
        for instance in self.instances:
            counts[instance.cell] = counts.get(instance.cell, 0) + 1
        return dict(sorted(counts.items()))

    def area(self, library: Library) -> float:
        """Sum of the cells' areas, in the library's unit."""
        return sum(library.cells[cell].area * number for cell, number in self.counts().items())

    def nets(self) -> list[int]:
        """Every net, inputs first, in a fixed order."""
        seen: dict[Bit, None] = dict.fromkeys(bit for bits in self.inputs.values() for bit in bits)
        for instance in self.instances:
            seen.update(dict.fromkeys(instance.pins.values()))
        return [bit for bit in seen if isinstance(bit, int)]


def map_to_cells(text: str, *, top: str, liberty: Path, library: Library) -> Netlist:
    """Map ``text`` to the cells of ``library``, or take the netlist from the cache.

    Raises
    ------
    SynthesisError
        Yosys refused the text, or the library cannot make it.
    """
    tools = {"pyosys": package_version("pyosys")}
    script = "; ".join([*(line.format(top=top) for line in SCRIPT), _CONSTRAINT])
    entry = cache_folder("synth") / f"{digest(text, script, json.dumps(tools), library.sha256)}.netlist.json"
    if entry.is_file():
        document = json.loads(entry.read_text())
    else:
        document = _run(text, top, liberty)
        write_atomically(entry, json.dumps(document))
    netlist = netlist_of(document, top, text_sha256=digest_text(text), tools=tools)
    unknown = sorted(set(netlist.counts()) - set(library.cells))
    if unknown:
        raise SynthesisError(f"every cell of {top} must come from {library.name}, not {', '.join(unknown[:5])}")
    return netlist


def _run(text: str, top: str, liberty: Path) -> dict:
    with tempfile.TemporaryDirectory(prefix="mixflight-cells-") as name:
        folder = Path(name)
        (folder / f"{top}.v").write_text(text)
        (folder / "cells.lib").symlink_to(liberty.resolve())
        (folder / "load.constr").write_text(_CONSTRAINT)
        (folder / "script.ys").write_text("\n".join([
            f"read_verilog {top}.v", f"hierarchy -check -top {top}", *(line.format(top=top) for line in SCRIPT),
            "write_json netlist.json"]) + "\n")
        done = run_tool([sys.executable, "-c", _RUNNER, "script.ys"], folder=folder)
        result = folder / "netlist.json"
        if done.returncode != 0 or not result.is_file():
            raise SynthesisError(f"Yosys must map {top} to {liberty.name}: {last_lines(done.stdout)}")
        document = json.loads(result.read_text())
    module = document["modules"][top]
    version = re.match(r"Yosys (\S+)", document["creator"])
    return {"modules": {top: {
        "ports": module["ports"],
        "cells": {name: {"type": cell["type"], "connections": cell["connections"]}
                  for name, cell in module["cells"].items() if cell["type"] != "$scopeinfo"}}},
        "yosys": version[1] if version else document["creator"]}


def netlist_of(document: dict, top: str, *, text_sha256: str = "", tools: Mapping[str, str] | None = None) -> Netlist:
    """The netlist of a document as Yosys' ``write_json`` writes it; an undefined bit is '0'."""
    module = document["modules"][top]

    def bit(value: Bit) -> Bit:
        return "0" if value in ("x", "z") else value

    ports = {"input": {}, "output": {}}
    for name, port in module["ports"].items():
        ports[port["direction"]][name] = tuple(map(bit, port["bits"]))
    return Netlist(
        top=top, inputs=ports["input"], outputs=ports["output"], text_sha256=text_sha256,
        instances=tuple(Instance(name=name, cell=cell["type"].removeprefix("\\"),
                                 pins={pin: bit(bits[0]) for pin, bits in cell["connections"].items() if bits})
                        for name, cell in sorted(module["cells"].items())),
        tools={**(tools or {}), "yosys": document.get("yosys", "")})


PROBE_BITS = 64
"""Nets that one probe port of :func:`simulation_text` shows."""


def simulation_text(netlist: Netlist, library: Library) -> tuple[str, list[int]]:
    """Verilog of the netlist with cell models made from the library's functions, and ports that show every net.

    Port ``probe_i`` shows nets ``64 i`` and up of the returned list. Clock is ``clk``.
    """
    nets = netlist.nets()

    def wire(bit: Bit) -> str:
        return f"n{bit}" if isinstance(bit, int) else f"1'b{bit}"

    def bus(bits: tuple[Bit, ...]) -> str:
        return "{" + ", ".join(wire(bit) for bit in reversed(bits)) + "}"

    probes = [nets[at:at + PROBE_BITS] for at in range(0, len(nets), PROBE_BITS)]
    ports = [f"input [{len(bits) - 1}:0] {name}" for name, bits in netlist.inputs.items()]
    ports += [f"output [{len(bits) - 1}:0] {name}" for name, bits in netlist.outputs.items()]
    ports += [f"output [{len(part) - 1}:0] probe_{i}" for i, part in enumerate(probes)]
    lines = [f"module {netlist.top} ({', '.join(ports)});", *(f"  wire n{net};" for net in nets)]
    lines += [f"  assign {bus(bits)} = {name};" for name, bits in netlist.inputs.items()]
    lines += [f"  assign {name} = {bus(bits)};" for name, bits in netlist.outputs.items()]
    lines += [f"  assign probe_{i} = {bus(tuple(part))};" for i, part in enumerate(probes)]
    for number, instance in enumerate(netlist.instances):
        joined = ", ".join(f".{pin}({wire(bit)})" for pin, bit in instance.pins.items())
        lines.append(f"  {instance.cell} i{number} ({joined});")
    lines.append("endmodule")
    return "\n".join(_model(library, name) for name in netlist.counts()) + "\n".join(lines) + "\n", nets


def _model(library: Library, name: str) -> str:
    cell = library.cells[name]
    if cell.unsupported:
        raise SynthesisError(f"{name} cannot be simulated: {cell.unsupported}")
    ports = [f"input {pin.name}" for pin in cell.inputs] + [f"output {pin.name}" for pin in cell.outputs]
    lines = [f"module {name} ({', '.join(ports)});"]
    ff = cell.flip_flop
    if ff:
        edge = "posedge" if ff.clocked_on[0] == "pin" else "negedge"
        lines += [f"  reg {ff.state};", *([f"  wire {ff.inverse} = ~{ff.state};"] if ff.inverse else []),
                  f"  always @({edge} {cell.clock}) {ff.state} <= {as_text(ff.next_state)};"]
    lines += [f"  assign {pin.name} = {as_text(pin.function)};" for pin in cell.outputs if pin.function]
    return "\n".join([*lines, "endmodule\n"])
