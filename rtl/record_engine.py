# amaranth: UnusedElaboratable=no
"""Write ``arch/synthesis/engine.toml``: what engines of DSP chains take, from the small core's size to the paper's.

    python -m mixflight.rtl.record_engine [NAME ...]

Rows that are not named stay as they are. The largest take Yosys some minutes and memory of some GB.
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.synthesis_counts import COUNTS
from mixflight.rtl.cache import write_atomically
from mixflight.rtl.core_mv import MatrixVector
from mixflight.rtl.core_synthesis import synthesise_parts
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.record_synthesis import as_toml

PATH = COUNTS.with_name("engine.toml")
TOP = "engine"
GROUP = 128
"""Weights of a scale."""
TOGETHER = 2
TILE_ROWS, TILE_COLUMNS = 16, 128
"""A tile of MM, as of flightllm-mini."""
UNITS = ("lut", "ff", "dsp", "bram", "uram", "lutram", "carry", "muxf")
_HEADER = """\
# Written by `python -m mixflight.rtl.record_engine`; do not edit.
# Mapped by Yosys with the hierarchy kept, not placed. products: DSPs of the chains; bram in blocks of 36 Kib, carry in
# units of 4 bits; lut_of: LUTs of the engine's parts, the rest are registers of operands and the way of results.
"""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A matrix engine of ``columns`` chains for two rows together, which has as many ``lanes`` as it needs for groups
    of 128 weights at its full rate."""

    columns: int

    @property
    def name(self) -> str:
        """In the file."""
        return str(self.products)

    @property
    def products(self) -> int:
        """DSPs of its chains."""
        return self.columns * K_BLOCK

    @property
    def lanes(self) -> int:
        """The sums of a group come every GROUP / 16 cycles, one a column and row; a lane takes one a cycle."""
        return self.columns * TOGETHER // (GROUP // K_BLOCK)

    @property
    def outputs(self) -> int:
        """Groups of rows times steps of columns of a tile."""
        return TILE_ROWS // TOGETHER * TILE_COLUMNS // self.columns

    def component(self) -> MatrixVector:
        """The hardware."""
        return MatrixVector(
            columns=self.columns, banks=self.columns // 4 if self.columns < 32 else 8, dots="dsp48e2",
            lanes=self.lanes, outputs=self.outputs, together=TOGETHER, weight_depth=1024, scale_depth=256,
        )  # fmt: skip


ENGINES = tuple(Engine(columns=columns) for columns in (16, 32, 64, 128))


def text_of(engine: Engine) -> str:
    """Its Verilog, equal chains one module."""
    return _merged(emit_verilog(engine.component(), TOP), TOP)


_SERIAL = re.compile(r"\bport\$(\d+)\$")
_MODULE = re.compile(r"^module (?P<name>\S+) (?P<ports>[^;]*);\n(?P<body>.*?)^endmodule\n", re.M | re.S)
_INSTANCE = re.compile(r"^  (?P<type>\S+) \S+ +\(\n(?P<connections>(?:    \..*\n)*)", re.M)


def _merged(text: str, top: str) -> str:
    """``text`` with modules merged that differ in nothing but the numbers of ports, which count through the design."""
    modules = {match["name"]: match for match in _MODULE.finditer(text)}
    places = {name: _numbers(_INSTANCE.sub("", match["body"])) for name, match in modules.items()}
    kept: dict[str, str] = {}
    names: dict[str, str] = {}

    def instance(match: re.Match[str]) -> str:
        theirs = places.get(match["type"], {})
        lines = [line.split("(", 1) for line in match["connections"].splitlines()]
        begins = match[0][: match.start("connections") - match.start()].replace(match["type"], settle(match["type"]), 1)
        return begins + "".join(f"{_renumbered(port, theirs)}({net}\n" for port, net in lines)

    def settle(name: str) -> str:
        """The module that stands for ``name``, its parts first; primitives for themselves."""
        if name in modules and name not in names:
            own, body = places[name], _INSTANCE.sub(instance, modules[name]["body"])
            # Ports that an instance connects have their names already, its nets not yet.
            body = "\n".join(_own(line, own) for line in body.split("\n"))
            ports = sorted(_renumbered(modules[name]["ports"], own).strip("()").split(", "))
            names[name] = kept.setdefault(f"({', '.join(ports)});\n{body}endmodule\n", name)
        return names.get(name, name)

    settle(top)
    return "\n".join(f"module {name} {content}" for content, name in kept.items())


def _own(line: str, own: Mapping[str, str]) -> str:
    if not line.startswith("    ."):
        return _renumbered(line, own)
    port, net = line.split("(", 1)
    return f"{port}({_renumbered(net, own)}"


def _numbers(body: str) -> dict[str, str]:
    """Number of a port → its name by its place among those of a module."""
    return {number: f"p{place}" for place, number in enumerate(dict.fromkeys(_SERIAL.findall(body)))}


def _renumbered(text: str, names: Mapping[str, str]) -> str:
    return _SERIAL.sub(lambda match: f"port${names.get(match[1], match[1])}$", text)


def row(engine: Engine) -> dict[str, Any]:
    """Synthesise one engine."""
    found = synthesise_parts(text_of(engine), top=TOP, advanced=lambda part: print(f"  {part}", file=sys.stderr))
    parts = {part.module.removeprefix(f"{TOP}_"): int(part.counts["lut"]) for part in found.parts}
    return {
        "name": engine.name, "columns": engine.columns, "lanes": engine.lanes, "group": GROUP,
        "tile": f"{TILE_ROWS} x {TILE_COLUMNS}", "products": engine.products,
        **{unit: found.counts[unit] for unit in UNITS}, "bram": float(found.counts["bram"]),
        "lut_levels": found.longest.levels, "lut_of": parts, "text_sha256": found.text_sha256,
        "yosys": found.tools["yosys"],
    }  # fmt: skip


def recorded() -> list[dict[str, Any]]:
    """The rows of the file."""
    rows: list[dict[str, Any]] = tomllib.loads(PATH.read_text())["rows"] if PATH.is_file() else []
    return rows


def main() -> None:
    """Synthesise what is named, or everything, and write the file after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*(engine.name for engine in ENGINES), []])
    names = parser.parse_args().names
    for engine in ENGINES:
        if not names or engine.name in names:
            print(f"synthesising {engine.name}", file=sys.stderr)
            new = row(engine)
            found = {each["name"]: each for each in recorded()} | {engine.name: new}
            order = [each.name for each in ENGINES if each.name in found]
            write_atomically(PATH, as_toml([found[name] for name in order], header=_HEADER))


if __name__ == "__main__":
    main()
