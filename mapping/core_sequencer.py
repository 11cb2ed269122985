"""The sequencer: a compact text with its registers, unrolled into primitive instructions.

A text is prepared once (``Sequencer``); every set of registers, that is every length, is then a run of a small compiled
interpreter. It cuts what it unrolls at loops, into pieces of some ``GRAIN`` instructions, and keeps each distinct one
once; a layer begins a piece. Pieces are equal in all but addresses; of a load it also counts whether it goes on where
the one ahead ended. What a program takes of memory so grows with what is distinct in it.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, LOOP_DEPTH, REGISTERS, codes
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream
from mixflight.mapping.core_program import COLUMNS, CONTROL, OPERATIONS, SYS_OPERATIONS, Piece, Pieces
from mixflight.mapping.vector import WORK

# Operand columns of each class: (name, immediate field, register field, unit). Those before the bar do not change
# between iterations that are equal in all but addresses.
_MOVE = (("bytes", "bytes", "bytes_register", 1),)
_MOVE_PLACES = (
    ("channel", "channel", "channel_register", 1), ("address", "offset", "base_register", 1),
    ("buffer_address", "buffer_line", "buffer_register", LINE_BYTES),
)  # fmt: skip
_MATRIX = (
    ("rows", "rows", "rows_register", 1), ("columns", "columns", "columns_register", 1),
    ("k", "k_blocks", "k_register", K_BLOCK), ("weight_bits", "weight_bits", "bits_register", 1),
)  # fmt: skip
_MATRIX_PLACES = (
    ("slot", "", "slot_register", 1), ("in_address", "in_line", "in_register", LINE_BYTES),
    ("out_address", "out_line", "out_register", LINE_BYTES),
)  # fmt: skip
_MISC = (("vectors", "vectors", "vectors_register", 1), ("elements", "elements", "elements_register", 1))
_MISC_PLACES = (
    ("a_address", "a_line", "a_register", LINE_BYTES), ("b_address", "b_line", "b_register", LINE_BYTES),
    ("out_address", "out_line", "out_register", LINE_BYTES),
)  # fmt: skip
OPERANDS: dict[str, tuple[tuple[tuple[str, str, str, int], ...], tuple[tuple[str, str, str, int], ...]]] = {
    "LD": (_MOVE, _MOVE_PLACES), "ST": (_MOVE, _MOVE_PLACES), "MM": (_MATRIX, _MATRIX_PLACES),
    "MV": (_MATRIX, _MATRIX_PLACES), "MISC": (_MISC, _MISC_PLACES), "SYS": ((("bytes", "value", "source", 1),), ()),
}  # fmt: skip
_SIZES, _WIDTH = 4, 7
_PASSES = np.array([WORK[name].passes for name in OPERATIONS], np.int64)
_LOOP, _END, _SET, _ROTATE, _FETCH = range(1, 6)
_CONTROL = ("operation", "destination", "value", "limit", "other")
_ADDRESS = _SIZES + 1
GRAIN = 64
"""Instructions of a piece, at least, where a loop allows a cut."""
RUN = 1 << 16
"""Instructions of a piece of ``Sequencer.runs``, at most."""
_ROOM = 1 << 12

_LOAD, _STORE = 1, 3
"""``memory`` of an instruction: a load from HBM or, one more, from DDR; a store likewise; 0: no transfer."""


class _Code(NamedTuple):
    """A text as the interpreter reads it, a row an instruction."""

    immediate: Any
    register: Any
    unit: Any
    control: Any
    advance: Any
    times: Any
    memory: Any


class _Found(NamedTuple):
    """What it writes: a row an instruction (its number in the text or -1, its operands), a row a distinct piece (where
    it ends, its digest, where the loads ahead of it ended), the order of pieces, and the places of digests."""

    sources: Any
    values: Any
    ends: Any
    digests: Any
    before: Any
    order: Any
    places: Any


# Where the interpreter is: instruction, depth of loops, sequenced instructions not yet in a row, rows, the first row of
# the piece and its digest, distinct pieces, pieces in order; where loads of both memories ended, now and ahead of the
# piece.
_AT, _DEPTH, _CONTROLS, _ROWS, _BEGIN, _DIGEST, _PIECES, _ORDERED, _ENDED = range(9)
_AHEAD, _STATE = _ENDED + 2, _ENDED + 4
_DONE, _NO_ROOM, _NO_PIECE = range(3)
_SEED = 1469598103934665603


class Sequencer:
    """Unrolls one text.

    ``operators``   of each instruction: an index into the program's names, which the text does not carry.
    ``constants``   that FETCH reads.
    ``slot_bytes``  of each buffer: how long a slot is (control registers of the core).
    ``channels``    that a wide transfer uses.
    """

    def __init__(
        self, text: Stream, operators: Ints, constants: Ints, slot_bytes: Mapping[str, int], channels: int
    ) -> None:  # fmt: skip
        self.text, self.slot_bytes, self.channels = text, dict(slot_bytes), channels
        rows = [np.flatnonzero(text.kinds == index) for index in range(len(CLASSES))]
        count = len(text.kinds)
        self.immediate = np.zeros((count, _WIDTH), np.int64)
        self.register = np.zeros((count, _WIDTH), np.int64)
        self.unit = np.ones((count, _WIDTH), np.int64)
        self.control = np.zeros((count, len(_CONTROL)), np.int64)
        self.advance = np.zeros(count, np.int64)
        self.times = np.zeros(count, np.int64)
        self.memory = np.zeros(count, np.int64)
        self.constants = constants
        self.hits = np.zeros(count, np.int64)
        for kind, at in zip(CLASSES, rows, strict=True):
            self._operands(kind, at)
        self.statics = [self._static(kind, operators[at]) for kind, at in zip(CLASSES, rows, strict=True)]
        self.local = np.zeros(count, np.int64)
        for at in rows:
            self.local[at] = np.arange(len(at))
        self.sections = self._sections()

    def _operands(self, kind: str, at: Ints) -> None:
        table = self.text.tables[kind]
        sizes, places = OPERANDS[kind]
        for first, items in ((0, sizes), (_SIZES, places)):
            for column, (_, immediate, register, unit) in enumerate(items, first):
                if immediate:
                    self.immediate[at, column] = table[immediate]
                self.register[at, column] = table[register]
                self.unit[at, column] = unit
        if kind in ("LD", "ST"):
            self.advance[at] = table["advance"] * table["base_register"]
            self.times[at] = table["times"]
            self.memory[at] = (_LOAD if kind == "LD" else _STORE) + table["memory"]
            size = np.array([self.slot_bytes[name] for name in codes(kind, "buffer")], np.int64)
            column = _SIZES + 2
            self.immediate[at, column] *= LINE_BYTES
            self.unit[at, column] = np.where(table["slotted"] == 1, size[table["buffer"]], LINE_BYTES)
        elif kind in ("MM", "MV"):
            for column in (2, _SIZES + 1, _SIZES + 2):
                self.immediate[at, column] *= self.unit[at, column]
        elif kind == "MISC":
            for column in (_SIZES, _SIZES + 1, _SIZES + 2):
                self.immediate[at, column] *= LINE_BYTES
        else:
            names = codes("SYS", "operation")
            coded = np.zeros(len(names), np.int64)
            for value, name in ((_LOOP, "loop"), (_END, "end"), (_SET, "set"), (_ROTATE, "rotate"),
                                (_FETCH, "fetch")):  # fmt: skip
                coded[names[name]] = value
            self.control[at] = np.stack(
                [coded[table[name]] if name == "operation" else table[name] for name in _CONTROL], axis=1
            )

    def _static(self, kind: str, operators: Ints) -> dict[str, Ints]:
        """Columns that registers do not change."""
        table = self.text.tables[kind]
        found = {"wait": table["wait"], "release": table["release"], "operator": operators}
        if kind in ("LD", "ST"):
            found["target" if kind == "LD" else "source"] = table["buffer"]
            found["memory"] = table["memory"]
            found["channels"] = np.where(table["wide"] == 1, self.channels, 1)
            if kind == "LD":
                found |= {name: table[name] for name in ("code_bits", "layout")}
                found["unit_bytes"] = np.where(table["times"] == 1, np.maximum(table["bytes"], 1), 0)
        elif kind in ("MM", "MV"):
            found |= {name: table[name] for name in ("zero", "accumulate", "last", "transpose")}
            found["keep_n"] = table["keep"]
            found["group"] = np.where(table["group"] > 0, 1 << table["group"], 0)
        elif kind == "MISC":
            rotates = table["operation"] == codes("MISC", "operation")["rope"]
            found |= {"operation": table["operation"], "causal": np.where(rotates, 0, table["causal"])}
            found["group"] = np.where(table["group"] > 0, 1 << table["group"], 0)
            found["passes"] = np.where(table["static"] == 1, 1, _PASSES[table["operation"]])
            buffers = np.array([codes("LD", "buffer")[name] for name in codes("MISC", "target")], np.int64)
            found["target"] = buffers[table["target"]]
        else:
            names = list(codes("SYS", "operation"))
            known = [SYS_OPERATIONS.index(name) if name in SYS_OPERATIONS else CONTROL for name in names]
            found["operation"] = np.array(known, np.int64)[table["operation"]]
            found["controls"] = np.zeros(len(operators), np.int64)
            found["lines"] = np.where(table["operation"] == codes("SYS", "operation")["exchange"], table["limit"], 0)
        return found

    def _sections(self) -> list[tuple[int, int, int]]:
        """(First, past the last, the LOOP or -1): straight code, or the body of a top-level loop with its END."""
        found, depth, start = [], 0, 0
        for at in np.flatnonzero(self.control[:, 0]).tolist():
            what = self.control[at, 0]
            if what == _LOOP:
                if depth == 0:
                    found.append((start, at + 1, -1))
                    start, opened = at + 1, at
                depth += 1
            elif what == _END:
                depth -= 1
                if depth == 0:
                    found.append((start, at + 1, opened))
                    start = at + 1
        return [*found, (start, len(self.local), -1)]

    def expand(self, given: Mapping[int, int], repeat: bool = True, more: Ints | None = None) -> Pieces:
        """The primitive instructions with the registers ``given`` (by number), others 0; ``more`` constants.

        Without ``repeat`` no piece stands for another, and each has its own addresses.
        """
        run = _Run(self, given, self._constants(more))
        while (missing := run.go(grain=GRAIN, repeat=repeat)) != _DONE:
            run.grow(rows=missing == _NO_ROOM)
        found, pieces = run.found, int(run.at[_PIECES])
        ends, rows = found.ends[:pieces], int(run.at[_ROWS])
        return Pieces(
            pieces=self._pieces(found.sources[:rows], found.values[:rows], ends, found.before[:pieces]),
            order=found.order[: int(run.at[_ORDERED])].copy(),
        )

    def runs(self, given: Mapping[int, int], more: Ints | None = None) -> Iterator[Piece]:
        """The same, every instruction at its own addresses, in pieces of up to ``RUN`` instructions, one at a time."""
        for sources, values, before in self._unrolled(given, more):
            yield from self._pieces(sources, values, np.array([len(sources)]), before)

    def _unrolled(self, given: Mapping[int, int], more: Ints | None) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Runs of rows, and where the loads ahead of each ended."""
        run = _Run(self, given, self._constants(more), RUN)
        done = _NO_ROOM
        while done != _DONE:
            before = run.at[_ENDED : _ENDED + 2].copy()[None]
            done = run.go(grain=0, repeat=False)
            rows = int(run.at[_ROWS])
            if rows:
                yield run.found.sources[:rows].copy(), run.found.values[:rows].copy(), before
            run.at[_ROWS] = 0

    @property
    def buffer_slots(self) -> tuple[int, ...]:
        """Bytes of a slot by the code of a buffer."""
        return tuple(self.slot_bytes[name] for name in codes("LD", "buffer"))

    def unrolled(self, given: Mapping[int, int], more: Ints | None = None) -> tuple[Ints, Ints]:
        """(Number in the text, operands) of every instruction that a run hands to a queue, in program order.

        Operands are a row of ``OPERANDS``: sizes from column 0 on, places from column 4 on, in bytes and elements.
        """
        found = [(sources[sources >= 0], values[sources >= 0]) for sources, values, _ in self._unrolled(given, more)]
        return np.concatenate([item for item, _ in found]), np.concatenate([item for _, item in found])

    def _constants(self, more: Ints | None) -> Ints:
        return self.constants if more is None else np.concatenate([self.constants, more])

    def registers_after(self, given: Mapping[int, int], more: Ints | None = None) -> Ints:
        """The registers at the end of a run."""
        registers = _registers(given)
        self._pass(0, len(self.local), registers, self._constants(more))
        return registers

    def executed(self, given: Mapping[int, int], more: Ints | None = None) -> Ints:
        """How often a run executes each instruction; without ``more`` the layers of a loop count as its first one."""
        registers, constants = _registers(given), self._constants(more)
        total = np.zeros(len(self.hits), np.int64)
        for first, last, loop in self.sections:
            times = 1 if loop < 0 else int(self.immediate[loop, 0] + registers[self.register[loop, 0]])
            self.hits[:] = 0
            runs = times if more is not None else min(times, 1)
            for _ in range(runs):
                self._pass(first, last, registers, constants)
            total += times // max(runs, 1) * self.hits
        return total

    def _pass(self, first: int, last: int, registers: Ints, constants: Ints) -> None:
        """Run instructions ``first`` to before ``last`` and write nothing but ``registers`` and ``hits``."""
        run = _Run(self, {}, constants, 0)
        run.registers, run.at[_AT] = registers, first
        run.go(grain=0, repeat=False, write=False, last=last)

    def _pieces(self, sources: Ints, values: Ints, ends: Ints, before: Ints) -> tuple[Piece, ...]:
        """The pieces: all rows as columns at once, then cut."""
        kinds, cuts_at, local, sorted_values = _by_class(
            sources, values, ends, self.text.kinds, self.local, CLASS_INDEX["SYS"], len(CLASSES)
        )
        tables, cuts = {}, {}
        for index, kind in enumerate(CLASSES):
            first, last = int(cuts_at[index, 0]), int(cuts_at[index, -1])
            tables[kind] = self._table(kind, index, local[first:last], sorted_values[first:last])
            cuts[kind] = (cuts_at[index] - first).tolist()
        starts = [0, *ends.tolist()]
        return tuple(
            Piece(
                kinds=kinds[starts[number] : starts[number + 1]],
                tables={
                    kind: {name: column[cuts[kind][number] : cuts[kind][number + 1]] for name, column in table.items()}
                    for kind, table in tables.items()
                },
                before=(first, second),
            )
            for number, (first, second) in enumerate(before.tolist())
        )

    def _table(self, kind: str, index: int, local: Ints, values: Ints) -> dict[str, Ints]:
        if kind == "SYS":
            return self._sys_table(index, values, local)
        found = {name: column[local] for name, column in self.statics[index].items()}
        for first, items in ((0, OPERANDS[kind][0]), (_SIZES, OPERANDS[kind][1])):
            for column, (name, *_) in enumerate(items, first):
                found[name] = values[:, column]
        if kind == "LD":
            unit = found.pop("unit_bytes")
            found["code_bits"] = np.where(unit > 0, found["bytes"] // np.maximum(unit, 1), found["code_bits"])
        if kind in ("MM", "MV"):
            slot = found.pop("slot")
            streamed = {"weight": "act" if kind == "MM" else "weight", "scale": "scale", "index": "index"}
            found |= {f"{name}_address": slot * self.slot_bytes[buffer] for name, buffer in streamed.items()}
        return {name: found[name] for name in COLUMNS[kind]}

    def _sys_table(self, index: int, values: Ints, local: Ints) -> dict[str, Ints]:
        control = local < 0
        found: dict[str, Any] = {}
        for name in COLUMNS["SYS"]:
            if name == "bytes":
                found[name] = np.where(control, 0, values[:, 0])
            elif name == "controls":
                found[name] = np.where(control, values[:, 0], 0)
            else:
                column = self.statics[index][name]
                plain = column[np.maximum(local, 0)] if len(column) else np.zeros(len(local), np.int64)
                found[name] = np.where(control, CONTROL if name == "operation" else 0, plain)
        return found


def _registers(given: Mapping[int, int]) -> Ints:
    """All registers with the values ``given`` by number, others 0."""
    registers = np.zeros(REGISTERS, np.int64)
    for number, value in given.items():
        registers[number] = value
    return registers


@njit(cache=True)  # type: ignore[untyped-decorator]
def _by_class(
    sources: NDArray[Any], values: NDArray[Any], ends: NDArray[Any], kinds_of: NDArray[Any], local_of: NDArray[Any],
    control: int, classes: int,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:  # fmt: skip
    """(Class of each row; where each class and piece begins among rows sorted by class; row of the text's table, -1
    for control; values), the last two sorted by class."""
    rows = len(sources)
    kinds = np.empty(rows, np.uint8)
    cuts = np.zeros((classes, len(ends) + 1), np.int64)
    piece = 0
    for row in range(rows):
        while row >= ends[piece]:
            piece += 1
        kinds[row] = control if sources[row] < 0 else kinds_of[sources[row]]
        cuts[kinds[row], piece + 1] += 1
    at = 0
    for kind in range(classes):
        for number in range(len(ends) + 1):
            at += cuts[kind, number]
            cuts[kind, number] = at
    next_of = cuts[:, 0].copy()
    local = np.empty(rows, np.int64)
    found = np.empty_like(values)
    for row in range(rows):
        to = next_of[kinds[row]]
        next_of[kinds[row]] = to + 1
        local[to] = -1 if sources[row] < 0 else local_of[sources[row]]
        for column in range(values.shape[1]):
            found[to, column] = values[row, column]
    return kinds, cuts, local, found


class _Run:
    """A run of the interpreter that stops where its arrays are full; ``rows`` that it has room for at first."""

    def __init__(self, text: Sequencer, given: Mapping[int, int], constants: Ints, rows: int = _ROOM) -> None:
        self.code = _Code(text.immediate, text.register, text.unit, text.control, text.advance, text.times, text.memory)
        self.constants, self.hits = constants, text.hits
        self.last = len(text.local)
        self.registers = _registers(given)
        self.at = np.zeros(_STATE, np.int64)
        self.at[_DIGEST] = _SEED
        self.at[_ENDED:] = -1
        self.loops = np.zeros((2, LOOP_DEPTH), np.int64)
        self.found = _Found(
            sources=np.empty(rows, np.int64), values=np.empty((rows, _WIDTH), np.int64),
            ends=np.empty(_ROOM // GRAIN, np.int64), digests=np.empty(_ROOM // GRAIN, np.int64),
            before=np.empty((_ROOM // GRAIN, 2), np.int64), order=np.empty(_ROOM // GRAIN, np.int64),
            places=np.full(4 * _ROOM // GRAIN, -1, np.int64),
        )  # fmt: skip

    def go(self, *, grain: int, repeat: bool, write: bool = True, last: int = 0) -> int:
        """Run on; how it ended. ``grain`` 0: without pieces."""
        return int(_interpret(
            last or self.last, self.code, self.constants, self.hits, self.registers, self.loops, self.at,
            self.found, grain, repeat, write,
        ))  # fmt: skip

    def grow(self, *, rows: bool) -> None:
        """Twice the room: for ``rows``, or for pieces."""
        found = self.found
        if rows:
            self.found = found._replace(sources=_twice(found.sources), values=_twice(found.values))
            return
        pieces = int(self.at[_PIECES])
        places = np.full(2 * len(found.places), -1, np.int64)
        _place_all(found.digests[:pieces], places)
        self.found = found._replace(
            ends=_twice(found.ends), digests=_twice(found.digests), before=_twice(found.before),
            order=_twice(found.order), places=places,
        )  # fmt: skip


def _twice(values: Ints) -> Ints:
    found = np.empty((2 * len(values), *values.shape[1:]), values.dtype)
    found[: len(values)] = values
    return found


@njit(cache=True)  # type: ignore[untyped-decorator]
def _place_all(digests: Any, places: Any) -> None:
    """Put the numbers of ``digests`` into the empty open table ``places``, a power of two; of equal ones the last."""
    for number in range(len(digests)):
        place = digests[number] & (len(places) - 1)
        while places[place] >= 0 and digests[places[place]] != digests[number]:
            place = (place + 1) & (len(places) - 1)
        places[place] = number


@njit(cache=True, _nrt=False)  # type: ignore[untyped-decorator]
def _cut(at: Any, found: Any, repeat: bool) -> None:
    """End the piece: the number of one that is known, whose rows are then written over, or a new one."""
    digest = at[_DIGEST]
    place = digest & (len(found.places) - 1)
    while repeat and found.places[place] >= 0 and found.digests[found.places[place]] != digest:
        place = (place + 1) & (len(found.places) - 1)
    if repeat and found.places[place] >= 0:
        number = found.places[place]
        at[_ROWS] = at[_BEGIN]
    else:
        number = at[_PIECES]
        found.places[place] = number
        found.ends[number], found.digests[number] = at[_ROWS], digest
        found.before[number, 0], found.before[number, 1] = at[_AHEAD], at[_AHEAD + 1]
        at[_PIECES] += 1
    found.order[at[_ORDERED]] = number
    at[_ORDERED] += 1
    at[_BEGIN], at[_DIGEST] = at[_ROWS], _SEED
    at[_AHEAD], at[_AHEAD + 1] = at[_ENDED], at[_ENDED + 1]


@njit(cache=True, _nrt=False)  # type: ignore[untyped-decorator]
def _mixed(digest: int, value: int) -> Any:
    found = (digest ^ value) * np.int64(-7046029254386353131)
    return found ^ (found >> 29)


@njit(cache=True, _nrt=False)  # type: ignore[untyped-decorator]
def _sequenced(what: int, place: int, code: Any, constants: Any, registers: Any, loops: Any, at: Any, last: int) -> int:
    """Carry out one instruction of the sequencer; where it goes on."""
    control, depth = code.control[place], at[_DEPTH]
    if what == _LOOP:
        count = code.immediate[place, 0] + registers[code.register[place, 0]]
        if place + 1 == last:
            pass
        elif count == 0:
            place += control[3]
        else:
            loops[0, depth], loops[1, depth] = place, count
            at[_DEPTH] = depth + 1
    elif what == _END and depth > 0:
        loops[1, depth - 1] -= 1
        if loops[1, depth - 1] > 0:
            place = loops[0, depth - 1]
        else:
            at[_DEPTH] = depth - 1
    elif what == _SET:
        total = registers[code.register[place, 0]] + registers[control[4]] + control[2]
        registers[control[1]] = total & 0xFFFFFFFF
    elif what == _FETCH:
        registers[control[1]] = constants[registers[code.register[place, 0]] + control[2]]
    elif what == _ROTATE:
        value = registers[control[1]] + control[2]
        registers[control[1]] = value - control[3] if value >= control[3] else value
    return place + 1


@njit(cache=True, _nrt=False)  # type: ignore[untyped-decorator]
def _interpret(
    last: int, code: Any, constants: Any, hits: Any, registers: Any, loops: Any, at: Any, found: Any,
    grain: int, repeat: bool, write: bool,
) -> int:  # fmt: skip
    """Run from where ``at`` says to before ``last``, or to where there is no room; how it ended.

    Sequenced SYS instructions are counted into one row (-1) in front of the next other one. A loop whose END, or whose
    LOOP, lies outside is straight code here. With ``grain`` a piece is cut at a LOOP or END behind so many rows.
    """
    while at[_AT] < last:
        place = at[_AT]
        what = code.control[place, 0]
        if grain and (at[_PIECES] == len(found.ends) or at[_ORDERED] == len(found.order)):
            return _NO_PIECE
        if write and at[_ROWS] + 2 > len(found.sources):
            return _NO_ROOM
        hits[place] += 1
        if what != 0:
            if grain and what in (_LOOP, _END):
                # every layer begins a piece, so that equal layers are equal pieces
                outer = at[_DEPTH] == (1 if what == _END else 0)
                if at[_ROWS] - at[_BEGIN] >= (1 if outer else grain):
                    _cut(at, found, repeat)
            at[_CONTROLS] += 1
            at[_AT] = _sequenced(what, place, code, constants, registers, loops, at, last)
            continue
        _row_of_controls(at, found, write)
        digest, row, moved = _mixed(at[_DIGEST], place + 1), at[_ROWS], np.int64(0)
        for column in range(_WIDTH):
            value = code.immediate[place, column] + registers[code.register[place, column]] * code.unit[place, column]
            if column == 0:
                if code.times[place]:
                    value = code.immediate[place, 0] * registers[code.register[place, 0]]
                moved = value
            if column < _SIZES:
                digest = _mixed(digest, value)
            if write:
                found.values[row, column] = value
        memory = code.memory[place]
        if memory and write and moved > 0:
            digest = _mixed(digest, found.values[row, _SIZES])
            if memory < _STORE:
                address, ended = found.values[row, _ADDRESS], _ENDED + memory - _LOAD
                digest = _mixed(digest, at[ended] == address)
                at[ended] = address + moved
        if write:
            found.sources[row] = place
        at[_ROWS] = row + 1
        at[_DIGEST] = digest
        if code.advance[place]:
            registers[code.advance[place]] += moved
        at[_AT] = place + 1
    if write and at[_ROWS] + 1 > len(found.sources):
        return _NO_ROOM
    if grain and (at[_PIECES] == len(found.ends) or at[_ORDERED] == len(found.order)):
        return _NO_PIECE
    _row_of_controls(at, found, write)
    if grain and at[_ROWS] > at[_BEGIN]:
        _cut(at, found, repeat)
    return _DONE


@njit(cache=True, _nrt=False)  # type: ignore[untyped-decorator]
def _row_of_controls(at: Any, found: Any, write: bool) -> None:
    controls = at[_CONTROLS]
    if controls == 0:
        return
    if write:
        found.sources[at[_ROWS]] = -1
        found.values[at[_ROWS], 0] = controls
    at[_ROWS] += 1
    at[_DIGEST] = _mixed(at[_DIGEST], -controls)
    at[_CONTROLS] = 0
