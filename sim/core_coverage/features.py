"""What the instructions of a program show of the functional coverage model (``model.toml``): samples.

    samples   of products, transfers, vectors and control, instruction by instruction
    hazards   which class met which other on the same line, slot or byte, and how
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, codes
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_coverage.executed import Step
from mixflight.sim.core_coverage.model import Sample
from mixflight.sim.core_values.order import Access, accesses, units_of
from mixflight.sim.core_values.state import BUFFERS, LAYOUTS, LINE_WORDS, Shape, shape_of
from mixflight.sim.core_values.vectors import OPERATIONS

_ZEROS = tuple(codes("MV", "zero"))
_SYS = tuple(codes("SYS", "operation"))
_PAGE = 4096
_BURST = 512


def samples(
    instructions: Sequence[Primitive], machine: CoreMachine, memory_bytes: int
) -> Iterator[Sample]:  # fmt: skip
    """Of every instruction, on memories of ``memory_bytes`` a channel."""
    shape, layouts = shape_of(machine), dict[int, str]()
    for item in instructions:
        yield _tokens(item, alone=machine.cores == 1)
        if item.empty:
            continue
        if item.kind in ("LD", "ST"):
            yield Sample("transfer", _transfer(item, shape, memory_bytes))
            if item.kind == "LD" and BUFFERS[item.fields["buffer"]] == "weight":
                layouts[item.fields["slot"]] = LAYOUTS[item.fields["layout"]]
        elif item.kind in ("MM", "MV"):
            yield Sample("product", _product(item, machine, shape, layouts[item.fields["slot"]]))
        elif item.kind == "MISC":
            yield Sample("vector", _vector(item.fields, shape))


def _tokens(item: Primitive, *, alone: bool) -> Sample:
    """How many tokens an instruction of a class takes and gives, and whether it does nothing else."""
    found = {"class": item.kind, "taken": few(len(item.wait)), "given": few(len(item.release)),
             "work": "none" if item.empty or item.kind == "SYS" and alone else "some"}  # fmt: skip
    return Sample("token", found)


def few(count: int) -> str:
    """0, 1, 2 or more."""
    return str(count) if count < 3 else "more"


def edge(first: int, end: int, size: int) -> str:
    """Where units ``first`` to before ``end`` of a buffer of ``size`` lie."""
    return "first" if first == 0 else "last" if end == size else "inside"


# -- products ------------------------------------------------------------------------------------------------------


def _product(item: Primitive, machine: CoreMachine, shape: Shape, layout: str) -> dict[str, str]:
    fields, linear = item.fields, layout == "linear"
    blocks, steps = fields["k_blocks"], -(-fields["columns"] // shape.step)
    rows, lines = fields["rows"], -(-fields["k_blocks"] * K_BLOCK // LINE_BYTES)
    found = {
        "queue": item.kind, "layout": layout, "slot": str(fields["slot"]),
        "rows": _rows(rows, machine.mm_rows), "columns": _columns(fields["columns"], shape.step, machine.mv_columns),
        "depth": _depth(blocks), "sums": "go on" if fields["accumulate"] else "new",
        "result": "written" if fields["last"] else "kept",
        "act edge": edge(fields["in_line"], fields["in_line"] + rows * lines, shape.act_lines),
    }  # fmt: skip
    if linear:
        keep = fields["keep"]
        found |= {
            "bits": str(fields["weight_bits"]), "zero": _ZEROS[fields["zero"]],
            "group": str(1 << fields["group"]) if fields["group"] else "all",
            "keep": "dense" if keep == K_BLOCK else f"{keep} of {K_BLOCK}",
            "slot fill": "full" if steps * blocks * keep // K_BLOCK == shape.words else "part",
        }
    if fields["last"]:
        one = -(-fields["columns"] // LINE_WORDS)
        found["out edge"] = edge(fields["out_line"], fields["out_line"] + rows * one, shape.global_lines)
    return found


def _rows(rows: int, most: int) -> str:
    if rows == most:
        return "most"
    return str(rows) if rows <= 4 else "5 to 8" if rows <= 8 else "more"


def _columns(columns: int, step: int, most: int) -> str:
    """One, a part of a step, a step, steps with a tail, whole steps, all that a tile can have."""
    if columns in (1, most):
        return "one" if columns == 1 else "most"
    if columns <= step:
        return "step" if columns == step else "part"
    return "tail" if columns % step else "steps"


def _depth(blocks: int) -> str:
    """A block of K, a part of a line, a line, lines with a tail, whole lines."""
    line = LINE_BYTES // K_BLOCK
    if blocks <= line:
        return "block" if blocks == 1 else "line" if blocks == line else "part"
    return "tail" if blocks % line else "lines"


# -- transfers -----------------------------------------------------------------------------------------------------


def _transfer(item: Primitive, shape: Shape, memory_bytes: int) -> dict[str, str]:
    fields = item.fields
    buffer, size, address, ddr = BUFFERS[fields["buffer"]], fields["bytes"], fields["address"], fields["ddr"]
    found = {
        "class": item.kind, "buffer": buffer, "memory": "ddr" if ddr else "hbm",
        "way": "wide" if fields["wide"] else "narrow", "size": _size(size), "begins at": _aligned(address),
        "crosses": "a page" if address // _PAGE != (address + size - 1) // _PAGE else "none",
    }  # fmt: skip
    if not fields["wide"] and not ddr:
        found["channel"] = str(fields["channel"])
    if not ddr:
        found["memory edge"] = edge(address, address + size, memory_bytes)
    if buffer in ("global", "act"):
        [access] = accesses(item, shape)
        lines = shape.global_lines if buffer == "global" else shape.act_lines
        found["buffer edge"] = edge(access.first, access.end, lines)
    else:
        part = "behind others" if fields["line"] else "from its first line"
        found |= {"slot": str(fields["slot"]), "slot part": part}
    if buffer == "weight" and item.kind == "LD":
        found |= {"layout": LAYOUTS[fields["layout"]], "code bits": str(fields["code_bits"]),
                  "sign": "signed" if fields["signed"] else "unsigned"}  # fmt: skip
    return found


def _size(size: int) -> str:
    """Below a line, a line, lines with a tail, whole lines of one burst, of several bursts, beyond a page."""
    if size <= LINE_BYTES:
        return "line" if size == LINE_BYTES else "part"
    if size % LINE_BYTES:
        return "tail"
    return "burst" if size <= _BURST else "bursts" if size <= _PAGE else "pages"


def _aligned(address: int) -> str:
    units = ("line", 64), ("half line", 32), ("8 bytes", 8), ("4 bytes", 4)
    return next(name for name, unit in units if address % unit == 0)


# -- vectors -------------------------------------------------------------------------------------------------------


def _vector(fields: dict[str, int], shape: Shape) -> dict[str, str]:
    name, vectors, n = OPERATIONS[fields["operation"]], fields["vectors"], fields["elements"]
    touched = accesses(Primitive("MISC", 0, (), (), fields), shape)
    first, out = touched[0], touched[-1]
    found = {
        "operation": name, "vectors": "1" if vectors == 1 else "2 to 4" if vectors <= 4 else "more",
        "elements": _elements(n), "rows": "one after the other" if fields["parts"] else "interleaved",
        "causal": "causal" if fields["causal"] else "all",
        "in edge": edge(first.first, first.end, shape.global_lines),
        "out edge": edge(out.first, out.end, shape.global_lines if out.buffer == "global" else shape.act_lines),
    }  # fmt: skip
    if out.buffer == "global" and name != "embed":
        found["place"] = "its operand's" if out.first == first.first else "another"
    if name in ("quantise", "embed"):
        found["group"] = str(1 << fields["group"]) if fields["group"] else "all"
    if out.buffer == "act":
        found["codes"] = "tail" if n % LINE_BYTES else "lines"
    return found


def _elements(n: int) -> str:
    """Below a line, a line, lines with a tail, whole lines, more than a burst's."""
    if n <= LINE_WORDS:
        return "line" if n == LINE_WORDS else "part"
    return "long" if n > _BURST else "tail" if n % LINE_WORDS else "lines"


# -- control -------------------------------------------------------------------------------------------------------


def control_samples(steps: Sequence[Step]) -> Iterator[Sample]:
    """Of every executed instruction of SYS, those of the sequencer among them, and of operands from registers."""
    for step in steps:
        fields = step.fields
        if step.kind in ("LD", "ST") and not step.empty:
            base = "advances" if fields["advance"] else "from a register" if fields["base_register"] else "immediate"
            yield Sample("control", {"class": step.kind, "address": base,
                                     "size": "times a register" if fields["times"] else "register added"
                                     if fields["bytes_register"] else "immediate"})  # fmt: skip
        if step.kind != "SYS":
            continue
        name = _SYS[fields["operation"]]
        found = {"operation": name}
        if name in ("loop", "end"):
            found["depth"] = str(step.depth + (name == "loop"))
        if name == "loop":
            found["iterations"] = str(step.iterations) if step.iterations < 3 else "more"
        if name in ("set", "loop", "fetch"):
            registers = (fields["source"] > 0) + (name == "set" and fields["other"] > 0)
            found["operands"] = ("immediate", "a register", "two registers")[registers]
        if name == "rotate":
            found["ring"] = "wraps" if step.wraps else "goes on"
        yield Sample("control", found)


# -- hazards -------------------------------------------------------------------------------------------------------


def hazards(
    instructions: Sequence[Primitive], shape: Shape, received: Sequence[Sequence[Access]] = ()
) -> Iterator[Sample]:  # fmt: skip
    """Every meeting of two classes in a buffer, by units: of the last write with a read behind it, of the last reads
    and the last write with a write behind them. ``received``: what each exchange of one of several cores writes."""
    sizes, exchanged = units_of(shape), iter(received)
    written = {name: np.full(size, -1) for name, size in sizes.items()}
    read = {name: np.zeros((len(CLASSES), size), bool) for name, size in sizes.items()}
    for item in instructions:
        if item.empty:
            continue
        mine, touched = CLASSES.index(item.kind), accesses(item, shape)
        if item.kind == "SYS" and _SYS[item.fields["operation"]] == "exchange":
            touched = [access for access in (*touched, *next(exchanged, ())) if access.first < access.end]
        for access in touched:
            at = slice(access.first, access.end)
            for other in np.unique(written[access.buffer][at]).tolist():
                if other >= 0:
                    yield from _meeting("write, write" if access.write else "write, read", other, item, access.buffer)
            if access.write:
                for other in np.flatnonzero(read[access.buffer][:, at].any(axis=1)).tolist():
                    yield from _meeting("read, write", other, item, access.buffer)
        for access in touched:
            at = slice(access.first, access.end)
            if access.write:
                written[access.buffer][at], read[access.buffer][:, at] = mine, False
            else:
                read[access.buffer][mine, at] = True


def _meeting(how: str, other: int, item: Primitive, buffer: str) -> Iterator[Sample]:
    if CLASSES[other] != item.kind:
        yield Sample("hazard", {"meeting": f"{how}: {CLASSES[other]}, {item.kind}, {buffer}"})
