"""Whether tokens order everything that must be ordered: races between the classes of a program, by vector clocks.

Each class runs its instructions one after the other; an instruction begins behind the end of those whose tokens it
takes, the n-th token from one class to another being that of its n-th release. Two instructions of different classes
that touch the same line of a buffer, the same slot, the same byte of a memory or the sums of the matrix engine, one of
them writing, must be ordered by a chain of tokens. A program without races leaves the same bytes in every order that
its tokens allow, program order (:func:`~mixflight.sim.core_values.execute.execute`) among them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS, codes
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values.state import BUFFERS, LINE_WORDS, Shape
from mixflight.sim.core_values.vectors import OPERATIONS, PIECE

Clock = list[int]

_SENT = tuple(codes("SYS", "buffer"))
_EXCHANGE = codes("SYS", "operation")["exchange"]


class Access(NamedTuple):
    """Units ``first`` to before ``end`` of a buffer: lines, or slots of the streamed buffers; ``sums`` are one unit."""

    buffer: str
    first: int
    end: int
    write: bool


class Race(NamedTuple):
    """Two instructions that no chain of tokens orders, the one behind in program order first, and what both touch."""

    later: Primitive
    earlier: Primitive
    what: str

    def __str__(self) -> str:
        return (
            f"{self.later.kind} of instruction {self.later.number} and {self.earlier.kind} of instruction "
            f"{self.earlier.number} must be ordered by tokens: both touch {self.what}"
        )


def clocks_of(instructions: Sequence[Primitive]) -> Iterator[Clock]:
    """For each instruction, how many of every class have ended when it begins, by its tokens alone.

    An InputError if it takes a token that is given only behind it: then program order is none that tokens allow.
    """
    own = [[0] * len(CLASSES) for _ in CLASSES]
    tokens: dict[tuple[str, str], deque[Clock]] = {}
    for item in instructions:
        mine = CLASS_INDEX[item.kind]
        clock = own[mine]
        for other in item.wait:
            waiting = tokens.get((other, item.kind))
            if not waiting:
                raise InputError(
                    f"a token must be given before it is taken, but {item.kind} of instruction {item.number} takes one "
                    f"of {other} that comes behind it"
                )
            clock = [max(pair) for pair in zip(clock, waiting.popleft(), strict=True)]
        yield clock
        ended = clock.copy()
        ended[mine] += 1
        own[mine] = ended
        for other in item.release:
            tokens.setdefault((item.kind, other), deque()).append(ended)


def received_by(core: int, programs: Sequence[Sequence[Primitive]]) -> list[list[Access]]:
    """What each exchange writes into the buffers of ``core``: the other cores' lines."""
    sent = [
        [Access(_SENT[item.fields["buffer"]], item.fields["line"], item.fields["line"] + item.fields["lines"], True)
         for item in program if item.kind == "SYS" and item.fields["operation"] == _EXCHANGE]
        for number, program in enumerate(programs) if number != core
    ]  # fmt: skip
    return [list(parts) for parts in zip(*sent, strict=True)]


def races(
    instructions: Sequence[Primitive], shape: Shape, most: int = 10,
    received: Sequence[Sequence[Access]] = (),
) -> list[Race]:  # fmt: skip
    """The first ``most`` races of a program, for a core of ``shape``; ``received`` as :func:`received_by` says for one
    of several cores."""
    exchanged = iter(received)
    sizes = units_of(shape)
    written = {name: np.zeros((len(CLASSES), size), np.int64) for name, size in sizes.items()}
    read = {name: np.zeros((len(CLASSES), size), np.int64) for name, size in sizes.items()}
    of_class: list[list[Primitive]] = [[] for _ in CLASSES]
    found: list[Race] = []
    moves: list[tuple[Primitive, int, Clock]] = []
    for item, clock in zip(instructions, clocks_of(instructions), strict=True):
        mine = CLASS_INDEX[item.kind]
        of_class[mine].append(item)
        if item.empty:
            continue
        if item.kind in ("LD", "ST"):
            moves.append((item, len(of_class[mine]), clock))
        known = np.array(clock)
        known[mine] = len(of_class[mine])
        touched = accesses(item, shape)
        if item.kind == "SYS" and item.fields["operation"] == _EXCHANGE:
            touched = [access for access in (*touched, *next(exchanged, ())) if access.first < access.end]
        for access in touched:
            at = slice(access.first, access.end)
            for kept in (written, read) if access.write else (written,):
                latest = kept[access.buffer][:, at].max(axis=1)
                for other in np.flatnonzero(latest > known)[: most - len(found)].tolist():
                    found.append(Race(item, of_class[other][latest[other] - 1], _place(access)))
        for access in touched:
            kept = written if access.write else read
            kept[access.buffer][mine, access.first : access.end] = len(of_class[mine])
        if len(found) >= most:
            return found
    return found + _memory_races(moves, shape)[: most - len(found)]


def units_of(shape: Shape) -> dict[str, int]:
    """How many units of each buffer an :class:`Access` can name."""
    return {"global": shape.global_lines, "act": shape.act_lines, "weight": SLOTS, "scale": SLOTS, "index": SLOTS,
            "sums": 1}  # fmt: skip


def _place(access: Access) -> str:
    if access.buffer == "sums":
        return "the sums of the matrix engine"
    unit = "line" if access.buffer in ("global", "act") else "slot"
    return f"the {access.buffer} buffer from {unit} {access.first} on"


def accesses(item: Primitive, shape: Shape) -> list[Access]:
    """What an instruction reads and writes on chip."""
    fields = item.fields
    if item.kind in ("LD", "ST"):
        buffer, slot = BUFFERS[fields["buffer"]], fields["slot"]
        if buffer in ("weight", "scale", "index"):
            return [Access(buffer, slot, slot + 1, item.kind == "LD")]
        size = fields["bytes"]
        if fields["wide"]:
            size = -(-size // PIECE) * PIECE * shape.channels
        return [Access(buffer, fields["line"], fields["line"] + -(-size // LINE_BYTES), item.kind == "LD")]
    if item.kind in ("MM", "MV"):
        slot, rows = fields["slot"], fields["rows"]
        lines = rows * -(-fields["k_blocks"] * K_BLOCK // LINE_BYTES)
        found = [Access("act", fields["in_line"], fields["in_line"] + lines, False),
                 Access("weight", slot, slot + 1, False), Access("sums", 0, 1, True)]  # fmt: skip
        if not fields["transpose"]:
            found.append(Access("scale", slot, slot + 1, False))
        if fields["keep"] != K_BLOCK:
            found.append(Access("index", slot, slot + 1, False))
        if fields["last"]:
            lines = rows * -(-fields["columns"] // LINE_WORDS)
            found.append(Access("global", fields["out_line"], fields["out_line"] + lines, True))
        return found
    if item.kind == "SYS":
        own = Access(_SENT[fields["buffer"]], fields["line"], fields["line"] + fields["lines"], False)
        return [own] if fields["lines"] else []
    return _vector_accesses(fields, shape) if item.kind == "MISC" else []


def _vector_accesses(fields: dict[str, int], shape: Shape) -> list[Access]:
    name, vectors, n = OPERATIONS[fields["operation"]], fields["vectors"], fields["elements"]
    one, a, b, out = -(-n // LINE_WORDS), fields["a_line"], fields["b_line"], fields["out_line"]
    whole = vectors * one
    if name == "kv_append":
        heads = vectors // 2
        cells = heads * (2 * -(-n // LINE_BYTES) + 1)
        return [Access("global", a, a + heads * one, False), Access("global", b, b + heads * one, False),
                Access("act", out, out + cells, True)]  # fmt: skip
    found = [] if name == "embed" else [Access("global", a, a + whole, False)]
    second = 0
    if name == "embed":
        group = 1 << fields["group"] if fields["group"] else n
        second = vectors * -(-(n + 2 * (n // group)) // LINE_BYTES)
    elif name == "probability_quantise":
        pieces = -(-4 * -(-n // shape.channels) // PIECE)
        second = -(-pieces * shape.channels * PIECE // LINE_BYTES)
    elif name == "residual" or name.endswith(":gated"):
        second = whole
    elif name in ("norm", "layernorm", "bias"):
        second = one
    elif name == "softcap":
        second = 1
    if second:
        found.append(Access("global", b, b + second, False))
    if name in ("quantise", "probability_quantise"):
        return [*found, Access("act", out, out + vectors * -(-n // LINE_BYTES), True)]
    return [*found, Access("global", out, out + whole, True)]


def _memory_races(moves: Sequence[tuple[Primitive, int, Clock]], shape: Shape) -> list[Race]:
    """Races of LD and ST through memory; ``moves`` with their number in their class (from 1) and their clock."""
    loads = [(order, *move) for order, move in enumerate(moves) if move[0].kind == "LD"]
    rows = np.array([
        (order, number, clock[CLASS_INDEX["ST"]], *_range(item, shape)) for order, item, number, clock in loads
    ], np.int64).reshape(-1, 8)  # fmt: skip
    order, number, seen, ddr, low, high, first, end = rows.T
    found = []
    for at, (item, mine, clock) in enumerate(moves):
        if item.kind != "ST":
            continue
        store_ddr, store_low, store_high, start, stop = _range(item, shape)
        same = (ddr == store_ddr) & (low < store_high) & (high > store_low) & (first < stop) & (end > start)
        bad = same & np.where(order > at, seen < mine, clock[CLASS_INDEX["LD"]] < number)
        for row in np.flatnonzero(bad)[:1].tolist():
            other = loads[row][1]
            later, earlier = (other, item) if order[row] > at else (item, other)
            found.append(Race(later, earlier, f"memory from byte {max(start, int(first[row]))} on"))
    return found


def _range(item: Primitive, shape: Shape) -> tuple[int, int, int, int, int]:
    """(DDR, first channel, past the last, first byte, past the last)."""
    fields = item.fields
    low, high = (0, shape.channels) if fields["wide"] else (fields["channel"], fields["channel"] + 1)
    return fields["ddr"], low, high, fields["address"], fields["address"] + fields["bytes"]
