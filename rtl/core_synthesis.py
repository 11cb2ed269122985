"""Counts and longest paths of a whole design on UltraScale+, module by module: what one changes is not done again.

The design is cut at its modules of depth 1 and at the larger ones of depth 2. Each is synthesised by itself with what
it needs, those cut off as black boxes, and kept by the hash of its text; the design is their sum. The hierarchy is
kept, as in :mod:`mixflight.rtl.synthesis`, so nothing is lost by it. Nothing is placed.
"""

import base64
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from mixflight.rtl.cache import cache_folder, digest, write_atomically
from mixflight.rtl.module_text import Modules, read_modules
from mixflight.rtl.path_levels import ModulePaths, Path, design_paths, is_primitive
from mixflight.rtl.synthesis import digest_text, run_yosys, script_of, units_of
from mixflight.rtl.toolchain import package_version

TARGET = "xcup"
_CUT_DEPTH = 2
_SERIAL = re.compile(r"\bport\$(\d+)\$")
"""Part of the name of a port that Amaranth added, with a number that counts through the whole design."""
_WORTH_A_RUN = 20_000
"""Characters of a module with what is below it: for less than that Yosys takes longer to begin than to synthesise."""
_ZEROS = re.compile(r"^  initial begin\n(?:    \w+\[\d+\] = \d+'[hbd]0+;\n)+  end\n", re.M)


@dataclass(frozen=True, kw_only=True)
class Part:
    """A module directly below the top, with all that is below it."""

    module: str
    counts: Mapping[str, float]
    longest: Path
    """Its longest path, its ports taken for registers."""
    text_sha256: str


@dataclass(frozen=True, kw_only=True)
class CoreSynthesis:
    """A design's parts, its total and its longest path from register to register."""

    top: str
    parts: tuple[Part, ...]
    counts: Mapping[str, float]
    longest: Path
    modules: Mapping[str, Mapping[str, float]]
    """Cut module → its own counts with what was not cut off below it, ``instances``, ``lut_levels`` of its paths."""
    cells: Mapping[str, int]
    text_sha256: str
    script: str
    tools: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Unit:
    cells: Mapping[str, int]
    paths: ModulePaths
    yosys: str


def synthesise_parts(text: str, *, top: str, advanced: Callable[[str], None] = lambda _: None) -> CoreSynthesis:
    """Synthesise ``text``, or take from the cache what of it is there; ``advanced`` is told each module done."""
    modules = read_modules(text)
    cut = _cut(modules, top)
    texts = {name: modules.text_of(name, apart=cut - {name}) for name in cut}
    mapped: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting = {pool.submit(_mapped, texts[name], name): name for name in sorted(cut, key=lambda n: -len(texts[n]))}
        for done in as_completed(waiting):
            mapped[waiting[done]] = done.result()
            advanced(waiting[done])
    units: dict[str, _Unit] = {}
    for name in modules.below(top)[::-1]:
        _join(modules, name, cut, mapped, units)
    totals = modules.totals(top)
    return CoreSynthesis(
        top=top, parts=tuple(_part(modules, name, units) for name in modules.children[top]),
        counts=_sum(modules, top, units), longest=units[top].paths.inside,
        modules={name: {**units_of(units[name].cells), "instances": totals[name],
                        "lut_levels": units[name].paths.longest.levels} for name in sorted(cut)},
        cells=_cells(modules, top, units), text_sha256=digest_text(text), script=script_of(text, top, TARGET),
        tools={"pyosys": package_version("pyosys"), "yosys": units[top].yosys},
    )  # fmt: skip


def _cut(modules: Modules, top: str) -> set[str]:
    """Modules that are synthesised by themselves: the top, its parts, and of theirs the large and the shared ones."""
    depths = modules.depths(top)
    upper = [name for name, depth in depths.items() if depth <= _CUT_DEPTH]
    users = Counter(child for name in upper for child in {*modules.below(name)} - {name} if depths[name] == _CUT_DEPTH)
    return {name for name in upper if depths[name] < _CUT_DEPTH or users[name]
            or len(modules.text_of(name)) >= _WORTH_A_RUN}


def _join(modules: Modules, name: str, cut: set[str], mapped: Mapping[str, dict[str, Any]],
          units: dict[str, _Unit]) -> None:
    """Add the cut module ``name`` to ``units``, those that it needs first: their paths go on in its own."""
    if name not in cut or name in units:
        return
    apart = cut - {name}
    parts = {child for module in modules.below(name, apart=apart) for child in modules.children[module]} & apart
    for part in sorted(parts):
        _join(modules, part, cut, mapped, units)
    own = mapped[name]
    units[name] = _Unit(cells=_own_cells(own["cells"], modules, name, apart), yosys=own["yosys"],
                        paths=design_paths(own["netlist"], {part: units[part].paths for part in parts})[name])


def _mapped(text: str, top: str) -> dict[str, Any]:
    """What Yosys makes of ``text``, or has made before: ``cells`` of each module, ``netlist``, ``yosys``.

    Zeros in which a memory begins are left out: a device's memories do so by themselves, and Yosys takes minutes for
    thousands of them. Ports that are numbered through the whole design are numbered from 0 on in what is kept.
    """
    numbers: dict[str, str] = {}
    text = _SERIAL.sub(lambda match: f"port${numbers.setdefault(match[1], str(len(numbers)))}$", _ZEROS.sub("", text))
    script = script_of(text, top, TARGET)
    entry = cache_folder("synth") / f"{digest(text, script, package_version('pyosys'))}.netlist"
    if not entry.is_file():
        statistics, netlist, yosys = run_yosys(text, script, top, netlist=True)
        found = {
            "cells": {name.removeprefix("\\"): module["num_cells_by_type"]
                      for name, module in statistics["modules"].items()},
            "netlist": {"modules": {name: module for name, module in netlist["modules"].items()
                                    if not is_primitive(module)}},
            "yosys": yosys,
        }  # fmt: skip
        write_atomically(entry, base64.b85encode(zlib.compress(json.dumps(found).encode())).decode())
    given = list(numbers)
    kept = zlib.decompress(base64.b85decode(entry.read_text())).decode()
    mapped: dict[str, Any] = json.loads(_SERIAL.sub(lambda match: f"port${given[int(match[1])]}$", kept))
    return mapped


def _own_cells(found: Mapping[str, Any], modules: Modules, name: str, apart: set[str]) -> dict[str, int]:
    """Primitives of ``name`` with all that is below it and not apart."""
    cells: Counter[str] = Counter()

    def visit(module: str, times: int) -> None:
        for cell, number in found[module].items():
            kind = cell.removeprefix("\\")
            if kind not in modules.texts:
                cells[kind] += number * times
            elif kind not in apart:
                visit(kind, number * times)

    visit(name, 1)
    return dict(sorted(cells.items()))


def _cells(modules: Modules, top: str, units: Mapping[str, _Unit]) -> dict[str, int]:
    """Primitives of all instances of cut modules in ``top``."""
    cells: Counter[str] = Counter()
    for name, times in modules.totals(top).items():
        for cell, number in units[name].cells.items() if name in units else ():
            cells[cell] += number * times
    return dict(sorted(cells.items()))


def _sum(modules: Modules, top: str, units: Mapping[str, _Unit]) -> dict[str, float]:
    return units_of(_cells(modules, top, units))


def _part(modules: Modules, name: str, units: Mapping[str, _Unit]) -> Part:
    return Part(module=name, counts=_sum(modules, name, units), longest=units[name].paths.longest,
                text_sha256=digest_text(modules.text_of(name)))
