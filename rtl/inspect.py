"""An independent reading of emitted Verilog: module tree, ports, register bits.

Pyverilog parses the text, so what is said here comes from the text and not from the component that it was
emitted from; :meth:`Design.check_against` then compares the two. Modules that are equal but for their names
are parsed once.
"""

import functools
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mixflight.rtl.primitive_models import MODELS

_MODULE = re.compile(r"^module\s+(\\\S+ |[A-Za-z_][\w$]*)(.*?)^endmodule", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (\\\S+ |[A-Za-z_][\w$]*) +(\\\S+ |[A-Za-z_][\w$]*) ?\($", re.MULTILINE)
_GUARD = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+")
_ATTRIBUTE = re.compile(r"\(\* .*? \*\)")
_NOT_A_TYPE = frozenset({"if", "else", "case", "casez", "casex", "for", "while", "always", "assign"})


class InspectError(RuntimeError):
    """The emitted text does not hold what it must: a defect of the generator."""


@dataclass(frozen=True, kw_only=True, order=True)
class Port:
    """One port of a module: ``direction`` is ``input``, ``output`` or ``inout``, ``width`` in bits."""

    name: str
    direction: str
    width: int


@dataclass(frozen=True, kw_only=True)
class ModuleText:
    """What one module's text says about itself, without what lies below it."""

    name: str
    ports: tuple[Port, ...]
    instances: Mapping[str, int]
    """Module → how often this module instantiates it directly."""
    register_bits: int
    """Bits written at a clock edge, arrays excepted."""
    memory_bits: int
    """Bits of arrays (memories)."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """The modules of one text under one top."""

    top: str
    modules: Mapping[str, ModuleText]
    totals: Mapping[str, int] = field(repr=False)
    """Module → how many of it the whole design holds."""

    @property
    def ports(self) -> tuple[Port, ...]:
        """The top's ports, in the order of the text."""
        return self.modules[self.top].ports

    @property
    def register_bits(self) -> int:
        """Register bits of the whole design."""
        return sum(self.modules[name].register_bits * count for name, count in self.totals.items())

    @property
    def memory_bits(self) -> int:
        """Memory bits of the whole design."""
        return sum(self.modules[name].memory_bits * count for name, count in self.totals.items())

    def tree(self, name: str | None = None, depth: int = 0) -> Iterator[tuple[int, str, int]]:
        """Yield (depth, module, count inside its parent), parents first."""
        here = self.top if name is None else name
        if name is None:
            yield 0, here, 1
        for child, count in self.modules[here].instances.items():
            yield depth + 1, child, count
            yield from self.tree(child, depth + 1)

    def check_against(self, component) -> None:
        """Require that the ports read are the component's signature, flattened, and clock and reset.

        Raises
        ------
        InspectError
            Names the first port that differs, with what was expected and what was read.
        """
        expected = {port.name: port for port in signature_ports(component)}
        found = {port.name: port for port in self.ports}
        for name in ("clk", "rst"):
            if found.get(name) == Port(name=name, direction="input", width=1):
                expected.setdefault(name, found[name])
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name):
                raise InspectError(f"{self.top}: port {name} must be {_describe(expected.get(name))}, "
                                   f"the text says {_describe(found.get(name))}")


def signature_ports(component) -> tuple[Port, ...]:
    """Return the ports that a component's signature demands, by their emitted names."""
    from amaranth.hdl import Value
    from amaranth.lib.wiring import Flow

    ports = []
    for path, member, value in component.signature.flatten(component):
        width = len(Value.cast(value))
        if width:
            ports.append(Port(name="__".join(str(part) for part in path),
                              direction="input" if member.flow is Flow.In else "output", width=width))
    return tuple(ports)


def inspect_verilog(text: str, *, top: str) -> Design:
    """Read ``text`` and return the design under the module ``top``."""
    bodies = {_plain(match[1]): match[2] for match in _MODULE.finditer(text)}
    if top not in bodies:
        defined = ", ".join(sorted(bodies)) or "none"
        raise InspectError(f"the text must define module {top}; it defines {defined}")
    parsed: dict[str, ModuleText] = {}
    modules = {}
    for name, body in bodies.items():
        children, normal = _normalise(body)
        if normal not in parsed:
            parsed[normal] = _read_module("module self" + normal + "endmodule\n")
        shape = parsed[normal]
        instances: Counter[str] = Counter()
        for placeholder, count in shape.instances.items():
            if placeholder in MODELS:       # a device's primitive, defined by its vendor
                continue
            instances[children[int(placeholder.removeprefix("child_"))]] += count
        modules[name] = ModuleText(name=name, ports=shape.ports, instances=dict(instances),
                                   register_bits=shape.register_bits, memory_bits=shape.memory_bits)
    return Design(top=top, modules=modules, totals=_count(modules, top))


def _plain(identifier: str) -> str:
    return identifier.strip().removeprefix("\\")


def _describe(port: Port | None) -> str:
    return "absent" if port is None else f"{port.direction} of {port.width} bits"


def _normalise(body: str) -> tuple[list[str], str]:
    """Return the instantiated modules in order, and the body with placeholders for all generated names.

    Attributes go too: Pyverilog's grammar has them before items, not before statements.
    """
    children: list[str] = []

    def replace(match: re.Match) -> str:
        if match[1] in _NOT_A_TYPE:
            return match[0]
        children.append(_plain(match[1]))
        return f"  child_{len(children) - 1} {match[2]}("

    return children, _ATTRIBUTE.sub("", _GUARD.sub("guard", _INSTANCE.sub(replace, body)))


def _count(modules: Mapping[str, ModuleText], top: str) -> dict[str, int]:
    totals: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        if name not in modules:
            raise InspectError(f"every instantiated module must be defined in the text; {name} is not")
        totals[name] += times
        for child, count in modules[name].instances.items():
            visit(child, times * count)

    visit(top, 1)
    return dict(totals)


@functools.cache
def _parser():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")     # ply and pyverilog still use deprecated forms
        from pyverilog.vparser.parser import VerilogParser

        with tempfile.TemporaryDirectory(prefix="mixflight-ply-") as folder:    # ply writes its tables there
            return VerilogParser(outputdir=folder, debug=False)


def _read_module(text: str) -> ModuleText:
    parser = _parser()
    from pyverilog.vparser import ast

    try:
        source = parser.parse(text, debug=False)
    except Exception as error:
        raise InspectError(f"the emitted Verilog must parse: {error}") from error
    [module] = source.description.definitions
    ports: dict[str, Port] = {}
    widths: dict[str, int] = {}
    arrays: dict[str, int] = {}
    instances: Counter[str] = Counter()
    written: set[str] = set()
    kinds = {ast.Input: "input", ast.Output: "output", ast.Inout: "inout"}
    for item in module.items:
        if isinstance(item, ast.Decl):
            for entry in item.list:
                direction = kinds.get(type(entry))
                if direction is not None:
                    ports[entry.name] = Port(name=_plain(entry.name), direction=direction,
                                             width=_width(entry.width))
                elif isinstance(entry, ast.Reg) and entry.dimensions is None:
                    widths[entry.name] = _width(entry.width)
                elif isinstance(entry, ast.Reg):
                    arrays[entry.name] = _width(entry.width) * _length(entry.dimensions)
        elif isinstance(item, ast.InstanceList):
            instances[item.module] += len(item.instances)
        elif isinstance(item, ast.Always) and any(sens.type in ("posedge", "negedge")
                                                  for sens in item.sens_list.list):
            written |= set(_written(item.statement))
    return ModuleText(name=module.name, ports=tuple(ports.values()), instances=dict(instances),
                      register_bits=sum(widths.get(name, 0) for name in written),
                      memory_bits=sum(arrays.values()))


def _width(width) -> int:
    return 1 if width is None else abs(int(width.msb.value) - int(width.lsb.value)) + 1


def _length(dimensions) -> int:
    total = 1
    for dimension in dimensions.lengths:
        total *= abs(int(dimension.msb.value) - int(dimension.lsb.value)) + 1
    return total


def _written(node) -> Iterator[str]:
    """Yield the names on the left of every assignment below ``node``."""
    from pyverilog.vparser import ast

    if isinstance(node, ast.NonblockingSubstitution | ast.BlockingSubstitution):
        yield from _names(node.left)
    else:
        for child in node.children():
            yield from _written(child)


def _names(node) -> Iterator[str]:
    from pyverilog.vparser import ast

    if isinstance(node, ast.Identifier):
        yield node.name
    elif isinstance(node, ast.Pointer | ast.Partselect):
        yield from _names(node.var)             # an index is read, not written
    else:
        for child in node.children():
            yield from _names(child)
