"""The part of a Liberty file that area, delay and energy of mapped cells need.

    read_liberty   a file → :class:`Library`: cells with areas, pins, functions, delay and energy tables
    Table.at       a table's value, linear between its points and beyond them

Own parser: those on the package index build a grammar parser's tree of every group, or need SymPy for functions.
Values stay in the library's units; the properties of :class:`Library` say what those are. Energy tables are in
capacitance times voltage squared. Of arcs that differ by ``when`` all are kept.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mixflight.arch.errors import InputError

Expression = tuple
"""``("pin", name)``, ``("const", 0)``, ``("not", e)``, and ``and``, ``or``, ``xor`` of two."""

_TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|\\\s*\n|"(?:[^"\\]|\\.)*"|[{}();:,]|[^\s{}();:,"\\]+|\s+|\\', re.S)
_LOAD = ("total_output_net_capacitance",)
_SLEW = ("input_net_transition", "input_transition_time", "related_pin_transition")
_SCALE = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0}


@dataclass(frozen=True, eq=False)
class Group:
    """``name (arguments) { attributes; groups }``."""

    name: str
    arguments: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: list["Group"] = field(default_factory=list)

    def named(self, *names: str) -> Iterator["Group"]:
        """The groups of these names inside."""
        return (group for group in self.groups if group.name in names)

    def text(self, name: str, default: str = "") -> str:
        """The first value of an attribute."""
        return self.attributes.get(name, (default,))[0]

    def number(self, name: str, default: float = 0.0) -> float:
        """The first value of an attribute as a number."""
        return float(self.text(name) or default)


@dataclass(frozen=True, eq=False)
class Table:
    """Values over load and slew; an axis that the table does not have is one point."""

    loads: np.ndarray
    slews: np.ndarray
    values: np.ndarray
    """[loads, slews]"""

    def at(self, load: float, slew: float) -> float:
        """Linear in both, extrapolated from the outer two points."""
        i, u = _place(self.loads, load)
        j, v = _place(self.slews, slew)
        corners = self.values[i:i + 2, j:j + 2]
        along = corners[0] if len(corners) == 1 else corners[0] * (1 - u) + corners[1] * u
        return float(along[0] if len(along) == 1 else along[0] * (1 - v) + along[1] * v)


@dataclass(frozen=True, eq=False)
class Arc:
    """Delays and transitions, a constraint, or energies, of a pin because of ``related``."""

    related: str
    kind: str
    """Of timing ``timing_type``; of energy ''."""
    sense: str
    rise: Table | None
    fall: Table | None
    rise_slew: Table | None = None
    fall_slew: Table | None = None


@dataclass(frozen=True, eq=False)
class Pin:
    """One pin of a cell."""

    name: str
    output: bool
    capacitance: float
    function: Expression | None
    timing: tuple[Arc, ...]
    energy: tuple[Arc, ...]


@dataclass(frozen=True, eq=False)
class FlipFlop:
    """The state of a cell: ``next_state`` is taken when ``clocked_on`` becomes true."""

    state: str
    inverse: str
    next_state: Expression
    clocked_on: Expression


@dataclass(frozen=True, eq=False)
class Cell:
    """A library cell. ``unsupported`` says why its behaviour cannot be simulated, else ''."""

    name: str
    area: float
    leakage: float
    pins: Mapping[str, Pin]
    flip_flop: FlipFlop | None
    unsupported: str

    @property
    def inputs(self) -> tuple[Pin, ...]:
        """Input pins in the file's order."""
        return tuple(pin for pin in self.pins.values() if not pin.output)

    @property
    def outputs(self) -> tuple[Pin, ...]:
        """Output pins in the file's order."""
        return tuple(pin for pin in self.pins.values() if pin.output)

    @property
    def clock(self) -> str | None:
        """The pin that clocks the flip-flop."""
        if self.flip_flop is None:
            return None
        edge = self.flip_flop.clocked_on
        return edge[1] if edge[0] == "pin" else edge[1][1]


@dataclass(frozen=True, eq=False)
class Library:
    """A Liberty file and its units."""

    name: str
    sha256: str
    voltage_v: float
    time_ns: float
    """One unit of time, in ns."""
    capacitance_pf: float
    leakage_nw: float
    temperature_c: float
    cells: Mapping[str, Cell]

    @property
    def energy_pj(self) -> float:
        """One unit of an energy table, in pJ: a unit of capacitance at one volt."""
        return self.capacitance_pf


def _place(axis: np.ndarray, value: float) -> tuple[int, float]:
    """The interval to use and how far into it."""
    if len(axis) == 1:
        return 0, 0.0
    index = int(np.clip(np.searchsorted(axis, value) - 1, 0, len(axis) - 2))
    return index, float((value - axis[index]) / (axis[index + 1] - axis[index]))


def read_liberty(path: Path) -> Library:
    """Read a Liberty file; anything that is none is an ``InputError`` of one line."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"the Liberty file must be readable: {error.strerror}: {path}") from None
    return _read(content, str(path))


@functools.lru_cache(maxsize=4)
def _read(content: bytes, where: str) -> Library:
    try:
        return _library(parse_groups(content.decode("utf-8", "replace")), hashlib.sha256(content).hexdigest())
    except (ValueError, IndexError, KeyError) as error:
        raise InputError(f"{where} must be a Liberty file: {error}") from None


def parse_groups(text: str) -> Group:
    """The outer group of a Liberty text."""
    words = [token for token in _TOKEN.findall(text) if not token.isspace() and token[0] != "\\"
             and not token.startswith(("/*", "//"))]
    end = len(words)

    def statement(at: int, inside: Group) -> int:
        name = words[at]
        at += 1
        if at < end and words[at] == ":":
            stop = at + 1
            while stop < end and words[stop] not in (";", "}"):
                stop += 1
            inside.attributes[name] = (" ".join(map(_bare, words[at + 1:stop])),)
            return stop + (stop < end and words[stop] == ";")
        if at >= end or words[at] != "(":
            raise ValueError(f"':' or '(' must follow {name[:40]!r}")
        stop = words.index(")", at)
        arguments = tuple(_bare(word) for word in words[at + 1:stop] if word != ",")
        at = stop + 1
        if at < end and words[at] == "{":
            group = Group(name, arguments)
            inside.groups.append(group)
            at += 1
            while words[at] != "}":
                at = at + 1 if words[at] == ";" else statement(at, group)
            return at + 1
        inside.attributes[name] = arguments
        return at + (at < end and words[at] == ";")

    outer = Group("", ())
    if not words or words[0] != "library":
        raise ValueError("it must begin with library(...)")
    statement(0, outer)
    return next(outer.named("library"))


def _bare(word: str) -> str:
    return re.sub(r"\\\s*\n", " ", word[1:-1]) if word[0] == '"' else word


def _library(group: Group, sha256: str) -> Library:
    templates = {template.arguments[0]: template
                 for template in group.named("lu_table_template", "power_lut_template")}
    factor, unit = group.attributes.get("capacitive_load_unit", ("1", "pf"))
    return Library(
        name=group.arguments[0], sha256=sha256, voltage_v=group.number("nom_voltage"),
        temperature_c=group.number("nom_temperature", 25.0),
        time_ns=_unit(group.text("time_unit", "1ns"), "s") * 1e9,
        capacitance_pf=float(factor) * _unit(f"1{unit.lower()}", "f") * 1e12,
        leakage_nw=_unit(group.text("leakage_power_unit", "1nW"), "W") * 1e9,
        cells={cell.arguments[0]: _cell(cell, templates, group.number("default_input_pin_cap"))
               for cell in group.named("cell")})


def _unit(text: str, symbol: str) -> float:
    match = re.fullmatch(rf"([\d.]+)\s*([fpnum]?){symbol}", text)
    if match is None:
        raise ValueError(f"a unit must be a number, a prefix and {symbol}, not {text!r}")
    return float(match[1]) * _SCALE[match[2]]


def _cell(group: Group, templates: Mapping[str, Group], default: float) -> Cell:
    state = next(group.named("ff"), None)
    pins = {}
    for owner in (group, *group.named("bus", "bundle")):
        for pin in owner.named("pin"):
            for name in pin.arguments:
                pins[name] = _pin(name, pin, templates, default)
    unsupported = ""
    if any(True for _ in group.named("latch", "statetable", "ff_bank", "latch_bank")):
        unsupported = "it is no gate and no plain flip-flop"
    elif state and any(state.text(name) for name in ("clear", "preset")):
        unsupported = "its flip-flop has an asynchronous set or reset"
    elif any(pin.text("three_state") for pin in group.named("pin")):
        unsupported = "an output is three-state"
    flip_flop = FlipFlop(state=state.arguments[0], inverse=(*state.arguments, "")[1],
                         next_state=parse_function(state.text("next_state")),
                         clocked_on=parse_function(state.text("clocked_on"))) if state else None
    return Cell(name=group.arguments[0], area=group.number("area"), pins=pins, flip_flop=flip_flop,
                unsupported=unsupported, leakage=_leakage(group))


def _leakage(group: Group) -> float:
    """The cell's figure, else the mean over its states."""
    if "cell_leakage_power" in group.attributes:
        return group.number("cell_leakage_power")
    states = [state.number("value") for state in group.named("leakage_power")]
    return sum(states) / len(states) if states else 0.0


def _pin(name: str, group: Group, templates: Mapping[str, Group], default: float) -> Pin:
    def table(owner: Group, kind: str) -> Table | None:
        return next((_table(values, templates) for values in owner.named(kind)), None)

    timing = []
    for arc in group.named("timing"):
        constraint = next(arc.named("rise_constraint", "fall_constraint"), None) is not None
        names = ("rise_constraint", "fall_constraint") if constraint else ("cell_rise", "cell_fall")
        timing += [Arc(related, arc.text("timing_type", "combinational"), arc.text("timing_sense", "non_unate"),
                       table(arc, names[0]), table(arc, names[1]),
                       table(arc, "rise_transition"), table(arc, "fall_transition"))
                   for related in arc.text("related_pin").split()]
    energy = []
    for arc in group.named("internal_power"):
        both = table(arc, "power")
        energy += [Arc(related, "", "", table(arc, "rise_power") or both, table(arc, "fall_power") or both)
                   for related in arc.text("related_pin").split() or [""]]
    function = group.text("function")
    return Pin(name=name, output=group.text("direction") == "output",
               capacitance=group.number("capacitance", default),
               function=parse_function(function) if function else None, timing=tuple(timing), energy=tuple(energy))


def _table(group: Group, templates: Mapping[str, Group]) -> Table:
    template = templates.get(group.arguments[0] if group.arguments else "scalar") or Group("", ())
    axes = {}
    for number in ("1", "2"):
        variable = template.text(f"variable_{number}")
        if variable:
            points = group.attributes.get(f"index_{number}") or template.attributes[f"index_{number}"]
            axes[variable] = _numbers(points)
    values = _numbers(group.attributes["values"]).reshape([len(axis) for axis in axes.values()] or [1])
    variables = list(axes)
    load = next((name for name in variables if name in _LOAD), None)
    # A constraint's second slew takes the place of a load: the clock's is the slew, the data pin's the "load".
    other = [name for name in variables if name != load]
    slew = next((name for name in other if name in _SLEW), other[0] if other else None)
    load = load or next((name for name in other if name != slew), None)
    if slew is not None and load is not None and variables.index(slew) < variables.index(load):
        values = values.T
    one = np.zeros(1)
    return Table(axes.get(load, one), axes.get(slew, one),
                 values.reshape(len(axes.get(load, one)), len(axes.get(slew, one))))


def _numbers(parts: Sequence[str]) -> np.ndarray:
    return np.array([float(word) for part in parts for word in part.replace(",", " ").split()])


_OPERATOR = re.compile(r"\s*([A-Za-z_][\w\[\]]*|[01]|[!'^&*|+()])")


def parse_function(text: str) -> Expression:
    """A Liberty function: ``!`` and ``'`` bind most, then ``^``, then ``&``, ``*`` or nothing, then ``|`` or ``+``."""
    words = _OPERATOR.findall(text)
    if "".join(words) != "".join(text.split()):
        raise ValueError(f"a function must consist of pins and operators, not {text!r}")
    at = 0

    def peek() -> str:
        return words[at] if at < len(words) else ""

    def step() -> str:
        nonlocal at
        at += 1
        return words[at - 1]

    def unary() -> Expression:
        if not peek():
            raise ValueError(f"a function must be complete, not {text!r}")
        word = step()
        if word == "!":
            return ("not", unary())
        if word == "(":
            result = either()
            if peek() != ")":
                raise ValueError(f"a function's brackets must match, not {text!r}")
            step()
        elif word in "01":
            result = ("const", int(word))
        elif word[0].isalpha() or word[0] == "_":
            result = ("pin", word)
        else:
            raise ValueError(f"a pin must stand where {word!r} is, in {text!r}")
        while peek() == "'":
            step()
            result = ("not", result)
        return result

    def differ() -> Expression:
        result = unary()
        while peek() == "^":
            step()
            result = ("xor", result, unary())
        return result

    def both() -> Expression:
        result = differ()
        while peek() and peek() not in ")|+":
            if peek() in "&*":
                step()
            result = ("and", result, differ())
        return result

    def either() -> Expression:
        result = both()
        while peek() and peek() in "|+":
            step()
            result = ("or", result, both())
        return result

    result = either()
    if at != len(words):
        raise ValueError(f"a function's brackets must match, not {text!r}")
    return result


def as_text(expression: Expression, name: Callable[[str], str] = str) -> str:
    """The expression in the syntax that Verilog and Python share (bitwise operators)."""
    kind = expression[0]
    if kind == "pin":
        return name(expression[1])
    if kind == "const":
        return str(expression[1])
    if kind == "not":
        return f"~{as_text(expression[1], name)}"
    sign = {"and": "&", "or": "|", "xor": "^"}[kind]
    return f"({as_text(expression[1], name)} {sign} {as_text(expression[2], name)})"


def pins_of(expression: Expression) -> tuple[str, ...]:
    """The pins that an expression names, each once."""
    if expression[0] == "pin":
        return (expression[1],)
    if expression[0] == "const":
        return ()
    return tuple(dict.fromkeys(pin for part in expression[1:] for pin in pins_of(part)))
