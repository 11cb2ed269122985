"""Verilog text of a component, with identical modules merged."""

import re

from amaranth._toolchain.yosys import YosysError
from amaranth.back import verilog

from mixflight.arch.errors import InputError
from mixflight.rtl.placed_copy import COPY_OF, WRITING

_MODULE = re.compile(r"^module (?P<name>\\\S+|\w+) ?\((?P<ports>[^)]*)\);\n(?P<body>.*?)^endmodule\n",
                     re.M | re.S)
_INSTANCE = re.compile(r"^  (?P<type>\\\S+ |\w+) (?P<label>\\\S+ |\w+) \(\n", re.M)
_NUMBERED = re.compile(r"\\\$auto\$verilog_backend\.cc:\d+:dump_module\$\d+ ")
_ATTRIBUTE = re.compile(r"^ *\(\*(?! *(?:ram_style|shreg_extract)\b)[^\n]*\*\)\n", re.M)
_CONNECTION = re.compile(r"^    \.(\\\S+ |\w+)\(([^\n]*)\),?$", re.M)
_WHOLE_INSTANCE = re.compile(r"^  (?P<type>\\\S+ |\w+) (?P<label>\\\S+ |\w+) \(\n(?P<connections>.*?)^  \);\n",
                             re.M | re.S)
_COPY = re.compile(rf"^  \\{COPY_OF}(?P<like>\S+)  copy \(\n(?P<connections>.*?)^  \);\n", re.M | re.S)
_ALIAS = re.compile(r"^  assign (\\\S+ |\w+) = (\\\S+ |\w+);\n", re.M)
_DECLARED = re.compile(r"^  (?P<shape>(?:in|out)put (?:\[\d+:0\] )?)(?P<name>\\\S+ |\w+);\n", re.M)
_NUMBER = re.compile(r"\$\d+ $")
_PORT = re.compile(r"\\\S+ |\w+")


def emit_verilog(component, name: str) -> str:
    """The Verilog of ``component`` as a design whose top module is ``name``, a hyphen read as an underscore.

    Amaranth writes a module for every instance. Here modules that differ only in their own name are written
    once, from the leaves up, so an array has one PE module whatever its size. A merged module is called after
    the instance path of its first member, without indices, with ``name`` in front: ``top.lane_3.round``
    becomes ``top_lane_round``; a second, different module of that name gets the suffix ``_2``. Port lists are
    alphabetical, so connect by name.

    Parts that the component places as copies of one are not elaborated at all; the text is the same.

    The text is a pure function of the component's parameters: it can be compared and hashed.
    """
    top = name.replace("-", "_")
    if not re.fullmatch(r"[A-Za-z_]\w*", top):
        raise InputError("a module name must consist of letters, digits, '_' and '-', "
                         f"not {name!r}, in Verilog emission")
    return merge_identical(_written(component, top, WRITING) or _written(component, top, None), top)


def _written(component, top: str, platform) -> str | None:
    """A module for every instance. With ``WRITING`` copies of a part are the module of the part, or None is returned
    where a copy's ports are not the part's."""
    try:
        text = verilog.convert(component, name=top, platform=platform, emit_src=False, strip_internal_attrs=True)
    except YosysError as error:
        raise _refused(error) from None
    return resolve_copies(text)


def _refused(error: YosysError) -> Exception:
    """``error``, or one line where it is that the WebAssembly Yosys cannot keep its compiled code."""
    folder = re.search(r"failed to create cache directory: (.+)", str(error))
    if not folder:
        return error
    return InputError(f"the cache folder must be writable to emit Verilog, but {folder[1]} is not; "
                      "set XDG_CACHE_HOME to a folder that is")


def resolve_copies(text: str) -> str | None:
    """``text`` with instances of stand-ins (:mod:`mixflight.rtl.placed_copy`) made instances of what they stand for.

    A stand-in's port may have another name there: with a number, where a signal inside had the name first, or that of
    another signal on the same net, as the part's text says. None where the ports do not correspond in name, direction
    and width, as where one is a constant for a copy alone.
    """
    modules = {match["name"]: match for match in _MODULE.finditer(text)}
    meant: dict[str, tuple[str, dict[str, str]]] = {}
    for name, match in modules.items():
        copy = _COPY.search(match["body"])
        if not copy:
            continue
        original = f"{name.rpartition('.')[0]}.{copy['like']}"
        renamed = _renamed_ports(match, copy["connections"], modules[original])
        if renamed is None:
            return None
        meant[name] = original, renamed

    def instance(match: re.Match) -> str:
        """The instance of a stand-in as one of the part, its ports in their order."""
        if match["type"].strip() not in meant:
            return match[0]
        original, renamed = meant[match["type"].strip()]
        ports = sorted(((renamed[port], net) for port, net in _CONNECTION.findall(match["connections"])),
                       key=lambda connected: connected[0].removeprefix("\\"))
        lines = ",\n".join(f"    .{port}({net})" for port, net in ports)
        return f"  {original}  {match['label']} (\n{lines}\n  );\n"

    return "\n".join(_WHOLE_INSTANCE.sub(instance, match[0]) for name, match in modules.items() if name not in meant)


def _renamed_ports(stand_in: re.Match, connections: str, original: re.Match) -> dict[str, str] | None:
    """Port of a stand-in → port of the original; None unless each is a whole one and all have a partner."""
    ports, theirs = (_declared_ports(match["body"]) for match in (stand_in, original))
    if sorted(_CONNECTION.findall(connections)) != sorted((port, port) for port in ports):
        return None
    same = dict(_ALIAS.findall(original["body"]))
    numbered = {_NUMBER.sub("", port.removeprefix("\\")): port for port in theirs if _NUMBER.search(port)}
    renamed = {port: port if port in theirs else numbered.get(port) or same.get(port, "") for port in ports}
    if {renamed[port]: shape for port, shape in ports.items()} != theirs:
        return None
    return renamed


def _declared_ports(body: str) -> dict[str, str]:
    """Port → direction and width."""
    return {match["name"]: match["shape"] for match in _DECLARED.finditer(body)}


def merge_identical(text: str, top: str) -> str:
    """``text`` with equal modules merged and renamed after ``top``, as :func:`emit_verilog` says."""
    modules = {match["name"]: _canonical(match) for match in _MODULE.finditer(text)}
    merged: dict[str, str] = {}
    written: dict[str, str] = {}
    emitted: dict[str, str] = {}

    def settle(name: str) -> str:
        """The merged name of module ``name``, its parts first."""
        if name not in merged:
            ports, body = modules[name]

            def part(match: re.Match) -> str:
                kind = match["type"].strip()
                if kind not in modules:
                    return match[0]
                return f"  {settle(kind)} {match['label']} (\n"

            content = f"({', '.join(ports)});\n{_INSTANCE.sub(part, body)}endmodule\n"
            if content not in written:
                written[content] = _fresh(name, top, emitted)
                emitted[written[content]] = content
            merged[name] = written[content]
        return merged[name]

    settle(top)
    parts = [f"module {name} {content}" for name, content in emitted.items()]
    return f"// {top}, written by mixflight\n\n" + "\n".join(parts)


def _canonical(match: re.Match) -> tuple[list[str], str]:
    """Ports in alphabetical order; the body without attributes and numbers that count through the file.

    ``ram_style`` stays: it says in which memory blocks of a device an array lies. The other attributes left are
    ``full_case`` hints, which every value assigned beforehand makes void and which some parsers refuse before an
    ``if``.
    """
    ports = sorted(_PORT.findall(match["ports"]))
    return ports, _ATTRIBUTE.sub("", _NUMBERED.sub("\\\\$start ", match["body"]))


def _fresh(name: str, top: str, taken: dict[str, str]) -> str:
    """An unused module name made of the instance path ``name`` without its indices."""
    if name == top:
        return top
    path = name.removeprefix("\\").split(".")[1:]
    stem = "_".join([top, *(re.sub(r"(_\d+)+$", "", part) for part in path)])
    stem = re.sub(r"\W", "_", stem)
    number, fresh = 1, stem
    while fresh in taken or fresh == top:
        number += 1
        fresh = f"{stem}_{number}"
    return fresh
