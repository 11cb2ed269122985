"""The longest paths of a mapped design, module by module: LUT levels between two registers, through all its hierarchy.

A module's paths are found once, with each of its parts as what the part does to a path: how far its inputs lie from a
register inside, how far its outputs do, and which inputs go through to which outputs. So a design of many equal parts
costs no more than one of each, and a path through several modules is found where they meet.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_LOGIC = ("LUT", "INV", "MUXF")
_CARRY = "CARRY"
_LUT_MEMORY = ("RAM16", "RAM32", "RAM64", "RAM128", "RAM256", "RAM512")
_DSP = "DSP48"
_DSP_REGISTERS = ("AREG", "BREG", "MREG", "PREG")
_SILENT = ("$scopeinfo",)


class Reach(NamedTuple):
    """``levels`` from a register, and the net at which that begins; longer is greater."""

    levels: int
    begins: str


class Path(NamedTuple):
    """A path between registers, or ports where a module has it by itself."""

    levels: int
    begins: str
    ends: str


_NONE = Path(0, "", "")


@dataclass
class ModulePaths:
    """What a module does to paths. Pins are (port, bit)."""

    outputs: dict[tuple[str, int], Reach] = field(default_factory=dict)
    """From a register inside to an output."""
    inputs: dict[tuple[str, int], Path] = field(default_factory=dict)
    """From an input to a register inside; ``begins`` is the pin."""
    through: dict[tuple[str, int], dict[tuple[str, int], int]] = field(default_factory=dict)
    """Output → input → levels between them; only where no register lies between."""
    inside: Path = _NONE
    """The longest path between two registers of the module and its parts."""

    @property
    def longest(self) -> Path:
        """The longest path, ports taken for registers."""
        found = [self.inside, *self.inputs.values()]
        found += [Path(reach.levels, reach.begins, _pin(pin)) for pin, reach in self.outputs.items()]
        found += [Path(levels, _pin(start), _pin(pin)) for pin, starts in self.through.items()
                  for start, levels in starts.items()]
        return max(found)


def design_paths(netlist: Mapping[str, Any], apart: Mapping[str, ModulePaths] | None = None) -> dict[str, ModulePaths]:
    """Module → its paths, for every module of a netlist that Yosys mapped to UltraScale+ and wrote as JSON.

    ``apart``: those of modules that are black boxes there.

    A LUT, an inverter, a wide multiplexer of a slice, a read of LUT memory and a product in a DSP without registers
    count one level each, a carry chain one whatever its length. Registers, shift registers, block memories and DSPs
    with registers end paths.
    """
    modules, found = netlist["modules"], dict(apart or {})

    def visit(name: str) -> None:
        """Parts before what has them."""
        if name in found:
            return
        for cell in modules[name]["cells"].values():
            if _is_part(cell["type"], modules):
                visit(cell["type"])
        found[name] = _ModuleGraph(modules[name], found).paths()

    for name, module in modules.items():
        if not is_primitive(module):
            visit(name)
    return found


def is_primitive(module: Mapping[str, Any]) -> bool:
    """Whether a module is one of the device's own: a model, or nothing but ports."""
    return bool(int(module["attributes"].get("blackbox", "0"), 2) or int(module["attributes"].get("whitebox", "0"), 2)
                or "abc9_lut" in module["attributes"])


def _is_part(kind: str, modules: Mapping[str, Any]) -> bool:
    return kind in modules and not is_primitive(modules[kind])


def _pin(pin: tuple[str, int]) -> str:
    return f"{pin[0]}[{pin[1]}]"


class _Arc(NamedTuple):
    """A way from one net to another."""

    source: int
    levels: int


class _ModuleGraph:
    """The nets of one module between its registers and ports."""

    def __init__(self, module: Mapping[str, Any], parts: Mapping[str, ModulePaths]):
        self.names: dict[int, str] = {}
        for name, entry in module["netnames"].items():
            for bit in entry["bits"]:
                known = self.names.get(bit)
                if known is None or _plainer(name, known):
                    self.names[bit] = name
        self.module, self.parts = module, parts
        self.arcs: dict[int, list[_Arc]] = {}
        self.within = _NONE
        self.starts: dict[int, Reach] = {}
        self.ends: dict[int, tuple[int, str]] = {}
        chained = {bit for cell in module["cells"].values() if cell["type"].startswith(_CARRY)
                   for bit in cell["connections"].get("CO", []) if isinstance(bit, int)}
        for label, cell in module["cells"].items():
            if cell["type"] in parts:
                self._part(label, cell, parts[cell["type"]])
            elif cell["type"] not in _SILENT:
                self._cell(cell, chained)

    def _cell(self, cell: Mapping[str, Any], chained: set[int]) -> None:
        kind, pins = cell["type"], cell["connections"]
        outputs = [bit for pin, direction in cell["port_directions"].items() if direction == "output"
                   for bit in pins.get(pin, []) if isinstance(bit, int)]
        sources: list[_Arc] = []
        for pin, direction in cell["port_directions"].items():
            if direction == "output":
                continue
            bits = [bit for bit in pins.get(pin, []) if isinstance(bit, int)]
            if kind.startswith(_LUT_MEMORY):
                through = pin.startswith("ADDR") or pin.startswith("DPRA") or pin in ("A", "RADDR")
                if through:
                    sources += [_Arc(bit, 1) for bit in bits]
                if not through or not kind.endswith("D"):
                    self._end(bits)
            elif kind.startswith(_CARRY):
                sources += [_Arc(bit, 0 if pin == "CI" and bit in chained else 1) for bit in bits]
            elif kind.startswith(_LOGIC) or (kind.startswith(_DSP) and _bare(cell)):
                sources += [_Arc(bit, 1) for bit in bits]
            else:
                self._end(bits)
        for bit in outputs:
            if sources:
                self.arcs[bit] = sources
            else:
                self.starts[bit] = Reach(0, self.names.get(bit, ""))

    def _end(self, bits: list[int]) -> None:
        for bit in bits:
            self.ends.setdefault(bit, (0, self.names.get(bit, "")))

    def _part(self, label: str, cell: Mapping[str, Any], part: ModulePaths) -> None:
        """An instance: its inputs end paths, its outputs begin them, and some go through."""
        pins = cell["connections"]
        levels, begins, ends = part.inside
        if levels > self.within.levels:
            self.within = Path(levels, f"{label}.{begins}", f"{label}.{ends}")
        for (port, place), path in part.inputs.items():
            bit = pins.get(port, [])[place] if place < len(pins.get(port, [])) else None
            if isinstance(bit, int) and (path.levels, "") >= self.ends.get(bit, (-1, "")):
                self.ends[bit] = (path.levels, f"{label}.{path.ends}")
        for port, direction in cell["port_directions"].items():
            if direction != "output":
                continue
            for place, bit in enumerate(pins.get(port, [])):
                if not isinstance(bit, int):
                    continue
                reach = part.outputs.get((port, place))
                if reach is not None:
                    self.starts[bit] = Reach(reach.levels, f"{label}.{reach.begins}")
                arcs = [_Arc(pins[start[0]][start[1]], levels)
                        for start, levels in part.through.get((port, place), {}).items()]
                arcs = [arc for arc in arcs if isinstance(arc.source, int)]
                if arcs:
                    self.arcs[bit] = arcs

    def paths(self) -> ModulePaths:
        """Levels of every net in topological order; then what meets registers and ports."""
        ports = self.module["ports"]
        of_input = {bit: (name, place) for name, port in ports.items() if port["direction"] == "input"
                    for place, bit in enumerate(port["bits"]) if isinstance(bit, int)}
        own: dict[int, Reach] = dict(self.starts)
        given: dict[int, dict[tuple[str, int], int]] = {bit: {pin: 0} for bit, pin in of_input.items()}
        for bit in self._ordered():
            best, inputs = own.get(bit), dict(given.get(bit, {}))
            for source, levels in self.arcs[bit]:
                reach = own.get(source)
                if reach is not None:
                    further = Reach(reach.levels + levels, reach.begins)
                    best = further if best is None or further > best else best
                for pin, far in given.get(source, {}).items():
                    if far + levels > inputs.get(pin, -1):
                        inputs[pin] = far + levels
            if best is not None:
                own[bit] = best
            if inputs:
                given[bit] = inputs
        found = ModulePaths(inside=self.within)
        for bit, (levels, name) in self.ends.items():
            reach = own.get(bit)
            if reach is not None:
                found.inside = max(found.inside, Path(reach.levels + levels, reach.begins, name))
            for pin, far in given.get(bit, {}).items():
                path = Path(far + levels, _pin(pin), name)
                found.inputs[pin] = max(found.inputs.get(pin, path), path)
        for name, port in ports.items():
            if port["direction"] != "output":
                continue
            for place, bit in enumerate(port["bits"]):
                if bit in own:
                    found.outputs[name, place] = own[bit]
                if given.get(bit):
                    found.through[name, place] = given[bit]
        return found

    def _ordered(self) -> Iterator[int]:
        """Nets with arcs, each behind its sources."""
        waiting: dict[int, int] = {}
        follows: dict[int, list[int]] = {}
        for bit, arcs in self.arcs.items():
            sources = {arc.source for arc in arcs if arc.source in self.arcs}
            waiting[bit] = len(sources)
            for source in sources:
                follows.setdefault(source, []).append(bit)
        ready = deque(bit for bit, number in waiting.items() if not number)
        done = 0
        while ready:
            bit = ready.popleft()
            done += 1
            yield bit
            for after in follows.get(bit, ()):
                waiting[after] -= 1
                if not waiting[after]:
                    ready.append(after)
        if done != len(waiting):
            looped = next(self.names.get(bit, "") for bit, number in waiting.items() if number)
            raise ValueError(f"a mapped netlist must have no loop of logic, but {looped} is in one")


def _bare(cell: Mapping[str, Any]) -> bool:
    return not any(int(cell["parameters"].get(name, "0"), 2) for name in _DSP_REGISTERS)


def _plainer(name: str, known: str) -> bool:
    """Whether ``name`` says more to a reader: one that a person gave, and short."""
    return ("$" in name, len(name)) < ("$" in known, len(known))
