"""Synthesis counts of emitted Verilog through Yosys, kept by the hash of what was synthesised.

The hierarchy is kept: each distinct module is synthesised once and counted as often as it is instantiated. No
logic is optimised across module boundaries; a flattened run of the 8 x 8 array with Q4_1 minima has 2.2 %
more LUTs and 7.9 % fewer registers (10,509 and 5,456 against 10,281 and 5,923) and takes three times as long.
Nothing is placed: there is no timing, and LUTs that a placer would pair in one site are counted singly.
"""

import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixflight.arch.errors import InputError
from mixflight.rtl.cache import cache_folder, digest, write_atomically
from mixflight.rtl.cell_libraries import LIBRARIES
from mixflight.rtl.primitive_models import primitives_in
from mixflight.rtl.toolchain import last_lines, package_version, run_tool

TARGETS: Mapping[str, str] = {
    "xcup": "AMD UltraScale+ (synth_xilinx -family xcup)",
    "ecp5": "Lattice ECP5 (synth_ecp5)",
}
"""Supported FPGA targets and what each means."""

_RUNNER = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]):
    libyosys.run_pass(line.strip(), design)
"""

_LUTRAM_SITES = {
    "RAM16X1S": 1, "RAM32X1S": 1, "RAM64X1S": 1, "RAM128X1S": 2, "RAM256X1S": 4, "RAM512X1S": 8,
    "RAM16X1D": 2, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1D": 8,
    "RAM32M": 4, "RAM64M": 4, "RAM32M16": 8, "RAM64M8": 8, "RAM32X16DR8": 8, "RAM64X8SW": 8,
    "TRELLIS_DPR16X4": 6,
}
"""LUTs that one distributed-memory primitive occupies (UG574, table of LUTRAM configurations; on ECP5 the two
slices that store and the one that serves as their write port)."""

_UNITS: Mapping[str, Mapping[str, float]] = {
    "ff": {"FDRE": 1, "FDSE": 1, "FDCE": 1, "FDPE": 1, "FDRE_1": 1, "FDSE_1": 1, "FDCE_1": 1, "FDPE_1": 1,
           "LDCE": 1, "LDPE": 1, "TRELLIS_FF": 1},
    "dsp": {"DSP48E2": 1, "DSP48E1": 1, "MULT18X18D": 1},
    "bram": {"RAMB36E2": 1, "RAMB18E2": 0.5, "RAMB36E1": 1, "RAMB18E1": 0.5, "DP16KD": 0.5},
    "uram": {"URAM288": 1, "URAM288_BASE": 1},
    "carry": {"CARRY4": 1, "CARRY8": 2, "CCU2C": 0.5},
    "muxf": {"MUXF7": 1, "MUXF8": 1, "MUXF9": 1, "PFUMX": 1, "L6MUX21": 1},
    "lutram": _LUTRAM_SITES,
    "logic_lut": {"LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "LUT5": 1, "LUT6": 1, "LUT6_2": 1, "INV": 1,
                  "SRL16": 1, "SRL16E": 1, "SRLC16": 1, "SRLC16E": 1, "SRLC32E": 1, "CCU2C": 2},
}
_FREE = frozenset({"GND", "VCC", "BUFG", "BUFGCTRL", "IBUF", "OBUF", "IBUFG", "$scopeinfo", "VHI", "VLO", "GSR", "PUR"})


class SynthesisError(RuntimeError):
    """Yosys refused emitted text, or mapped it to a cell whose cost is not known: a defect of the program."""


@dataclass(frozen=True, kw_only=True)
class Synthesis:
    """What a design takes on an FPGA target, mapped and not placed."""

    top: str
    target: str
    lut: int
    """Look-up tables: logic, shift registers and distributed memory."""
    ff: int
    dsp: int
    bram: float
    """In blocks of 36 Kib; an 18 Kib half, or a block of ECP5, counts 0.5."""
    uram: int
    lutram: int
    """The part of ``lut`` that is distributed memory."""
    carry: int
    """Carry chains in units of 4 bits; on ECP5 the LUTs they are made of count in ``lut`` too."""
    muxf: int
    cells: Mapping[str, int]
    modules: Mapping[str, Mapping[str, float]]
    """Module → its own counts, without what lies below it, and ``instances`` in the whole design."""
    text_sha256: str
    script: str
    tools: Mapping[str, str]
    seconds: float
    """Time of the run that made the counts."""


def synthesise(text: str, *, top: str, target: str = "xcup", dsp: bool = True,
               flatten: bool = False) -> Synthesis:
    """Synthesise ``text``, or take the counts of an equal text, script and tool from the cache.

    ``dsp`` = False keeps multipliers in LUTs; ``flatten`` = True dissolves the hierarchy first.

    Raises
    ------
    InputError
        ``target`` is not supported.
    SynthesisError
        Yosys refused the text.
    """
    check_target(target)
    unknown = [name for name in primitives_in(text) if target != "xcup" or name == "DSP58"]
    if unknown:
        raise InputError(f"a design for {target} must have no {', '.join(unknown)}, which Yosys does not know there, "
                         f"but {top} has")
    script = script_of(text, top, target, dsp=dsp, flatten=flatten)
    tools = {"pyosys": package_version("pyosys")}
    text_sha256 = digest_text(text)
    entry = cache_folder("synth") / f"{digest(text, script, json.dumps(tools), counting())}.json"
    if entry.is_file():
        return Synthesis(**json.loads(entry.read_text()))
    start = time.perf_counter()
    statistics, creator = _run(text, script, top)
    result = _count(statistics, top=top, target=target, text_sha256=text_sha256, script=script,
                    tools={**tools, "yosys": creator}, seconds=round(time.perf_counter() - start, 2))
    write_atomically(entry, json.dumps(asdict(result)))
    return result


def script_of(text: str, top: str, target: str, *, dsp: bool = True, flatten: bool = False) -> str:
    """The Yosys command that maps ``text`` to ``target``."""
    uram = 'ram_style = "ultra"' in text
    without = "" if dsp else " -nodsp"
    if target == "ecp5":
        return f"synth_ecp5{without}{'' if flatten else ' -noflatten'} -top {top}"
    more = f"{without}{' -uram' if uram else ''}{' -flatten' if flatten else ''}"
    return f"synth_xilinx -family {target} -noiopad -noclkbuf{more} -top {top}"


def check_target(target: str) -> None:
    """Refuse a target that is not supported."""
    if target not in TARGETS:
        raise InputError(f"--target must be one of {', '.join(TARGETS)} or a Liberty file or one of "
                         f"{', '.join(LIBRARIES)}, not {target!r}")


def digest_text(text: str) -> str:
    """Return the SHA-256 of the text as a file would have it."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def counting() -> str:
    """The rules of counting, as part of a cache key."""
    return json.dumps(_UNITS, sort_keys=True)


_ELEMENT = re.compile(r"\\(\w+)(?=\[\d+\]\S* )")


def _apart(text: str) -> str:
    """``text`` with wires that are an element of an array port, ``\\x[1] ``, named apart from bit 1 of ``x``: ABC9
    takes the one for the other."""
    return _ELEMENT.sub(r"\\\1.", text)


def run_yosys(text: str, script: str, top: str, *, netlist: bool = False) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The statistics of ``text`` after ``script``, its netlist if that is asked for (else empty), Yosys' version."""
    with tempfile.TemporaryDirectory(prefix="mixflight-synth-") as name:
        folder = Path(name)
        (folder / f"{top}.v").write_text(_apart(text))
        write = "write_json netlist.json\n" if netlist else ""
        (folder / "script.ys").write_text(
            f"read_verilog {top}.v\n{script}\ncheck -assert -noinit\n"
            f"tee -q -o statistics.json stat -json\n{write}")
        done = run_tool([sys.executable, "-c", _RUNNER, "script.ys"], folder=folder)
        statistics, mapped = folder / "statistics.json", folder / "netlist.json"
        if done.returncode != 0 or not statistics.is_file():
            raise SynthesisError(f"Yosys must synthesise {top}: {last_lines(done.stdout)}")
        document = json.loads(statistics.read_text())
        found = json.loads(mapped.read_text()) if netlist else {}
    version = re.match(r"Yosys (\S+)", document["creator"])
    return document, found, version[1] if version else document["creator"]


def _run(text: str, script: str, top: str) -> tuple[dict[str, Any], str]:
    statistics, _, version = run_yosys(text, script, top)
    return statistics, version


def _count(statistics: dict[str, Any], *, top: str, **facts: Any) -> Synthesis:
    by_module = {name.removeprefix("\\"): module["num_cells_by_type"]
                 for name, module in statistics["modules"].items()}
    instances = _instances(by_module, top)
    cells: dict[str, int] = {}
    modules = {}
    for name, times in instances.items():
        own = {cell.removeprefix("\\"): number for cell, number in by_module[name].items()}
        primitives = {cell: number for cell, number in own.items() if cell not in by_module}
        for cell, number in primitives.items():
            cells[cell] = cells.get(cell, 0) + number * times
        modules[name] = {**units_of(primitives), "instances": times}
    total = units_of(cells)
    return Synthesis(top=top, cells=dict(sorted(cells.items())), modules=modules,
                     lut=int(total["lut"]), ff=int(total["ff"]), dsp=int(total["dsp"]), bram=float(total["bram"]),
                     uram=int(total["uram"]), lutram=int(total["lutram"]), carry=math.ceil(total["carry"]),
                     muxf=int(total["muxf"]), **facts)


def _instances(by_module: Mapping[str, Mapping[str, int]], top: str) -> dict[str, int]:
    instances: dict[str, int] = {}

    def visit(name: str, times: int) -> None:
        instances[name] = instances.get(name, 0) + times
        for cell, number in by_module[name].items():
            if cell.removeprefix("\\") in by_module:
                visit(cell.removeprefix("\\"), times * number)

    visit(top, 1)
    return instances


def units_of(cells: Mapping[str, int]) -> dict[str, float]:
    """What mapped cells count as: LUTs with those that are memory, registers and so on."""
    known = _FREE.union(*_UNITS.values())
    unknown = sorted(set(cells) - known)
    if unknown:
        raise SynthesisError(f"every mapped cell must have a known cost; {', '.join(unknown)} has none")
    units = {unit: sum(cost.get(cell, 0) * number for cell, number in cells.items())
             for unit, cost in _UNITS.items()}
    return {"lut": units.pop("logic_lut") + units["lutram"], **units}
