"""The sequencer: a compact text with its registers, unrolled into primitive instructions.

A text is prepared once (``Sequencer``); every set of registers, that is every length, is then a run of a small compiled
interpreter. Loops at the top level, which are the layers, become repeated pieces where their iterations are equal in
all but addresses.
"""

from collections.abc import Mapping
from typing import Any

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

        Without ``repeat`` every iteration of the layers is a piece of its own, with its own addresses.
        """
        registers, constants = _registers(given), self._constants(more)
        distinct: list[tuple[int, int, Ints, int]] = []
        order: list[int] = []
        for first, last, loop in self.sections:
            times = 1 if loop < 0 else int(self.immediate[loop, 0] + registers[self.register[loop, 0]])
            seen: dict[tuple[int, int], int] = {}
            for _ in range(times):
                before = registers.copy()
                key = self._run(first, last, registers, constants)
                if key[0] == 0:
                    continue
                if not repeat or key not in seen:
                    seen[key] = len(distinct)
                    distinct.append((first, last, before, key[0]))
                order.append(seen[key])
        return Pieces(pieces=self._pieces(distinct, constants), order=np.array(order, np.int64))

    @property
    def buffer_slots(self) -> tuple[int, ...]:
        """Bytes of a slot by the code of a buffer."""
        return tuple(self.slot_bytes[name] for name in codes("LD", "buffer"))

    def unrolled(self, given: Mapping[int, int], more: Ints | None = None) -> tuple[Ints, Ints]:
        """(Number in the text, operands) of every instruction that a run hands to a queue, in program order.

        Operands are a row of ``OPERANDS``: sizes from column 0 on, places from column 4 on, in bytes and elements.
        """
        registers, constants = _registers(given), self._constants(more)
        found = []
        for first, last, loop in self.sections:
            times = 1 if loop < 0 else int(self.immediate[loop, 0] + registers[self.register[loop, 0]])
            for _ in range(times):
                before = registers.copy()
                count, _ = self._run(first, last, registers, constants)
                sources, values = np.empty(count, np.int64), np.empty((count, _WIDTH), np.int64)
                self._run(first, last, before, constants, sources, values)
                found.append((sources[sources >= 0], values[sources >= 0]))
        return np.concatenate([item for item, _ in found]), np.concatenate([item for _, item in found])

    def _constants(self, more: Ints | None) -> Ints:
        return self.constants if more is None else np.concatenate([self.constants, more])

    def registers_after(self, given: Mapping[int, int], more: Ints | None = None) -> Ints:
        """The registers at the end of a run."""
        registers, constants = _registers(given), self._constants(more)
        for first, last, loop in self.sections:
            times = 1 if loop < 0 else int(self.immediate[loop, 0] + registers[self.register[loop, 0]])
            for _ in range(times):
                self._run(first, last, registers, constants)
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
                self._run(first, last, registers, constants)
            total += times // max(runs, 1) * self.hits
        return total

    def _run(
        self,
        first: int,
        last: int,
        registers: Ints,
        constants: Ints,
        sources: Ints | None = None,
        values: Ints | None = None,
    ) -> tuple[int, int]:
        """Rows of the section and a number that tells sections of different instructions or sizes apart."""
        write = sources is not None and values is not None
        none = np.zeros(0, np.int64)
        count, digest = _interpret(
            first, last, self.immediate, self.register, self.unit, self.control, self.advance, self.times,
            constants, self.hits, registers,
            sources if sources is not None else none, values if values is not None else none.reshape(0, _WIDTH), write,
        )  # fmt: skip
        return int(count), int(digest)

    def _pieces(self, distinct: list[tuple[int, int, Ints, int]], constants: Ints) -> tuple[Piece, ...]:
        """The pieces: all rows as columns at once, then cut."""
        ends = np.cumsum([count for *_, count in distinct])
        sources = np.empty(int(ends[-1]), np.int64)
        values = np.empty((len(sources), _WIDTH), np.int64)
        for (first, last, before, count), end in zip(distinct, ends, strict=True):
            self._run(first, last, before, constants, sources[end - count : end], values[end - count : end])
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
            )
            for number in range(len(distinct))
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


@njit(cache=True)  # type: ignore[untyped-decorator]
def _interpret(
    first: int, last: int, immediate: NDArray[Any], register: NDArray[Any], unit: NDArray[Any], control: NDArray[Any],
    advance: NDArray[Any], times: NDArray[Any], constants: NDArray[Any], hits: NDArray[Any], registers: NDArray[Any],
    sources: NDArray[Any], values: NDArray[Any], write: bool,
) -> tuple[int, int]:  # fmt: skip
    """Run instructions ``first`` to before ``last``; sequenced SYS instructions are counted into one row (-1) in front
    of the next other one. A loop whose END, or whose LOOP, lies outside is straight code here."""
    start = np.zeros(LOOP_DEPTH, np.int64)
    left = np.zeros(LOOP_DEPTH, np.int64)
    depth, at, rows, digest, controls, moved = 0, first, 0, 1469598103934665603, 0, 0
    while at < last:
        what = control[at, 0]
        hits[at] += 1
        if what != 0:
            controls += 1
            if what == _LOOP:
                count = immediate[at, 0] + registers[register[at, 0]]
                if at + 1 == last:
                    pass
                elif count == 0:
                    at += control[at, 3]
                else:
                    start[depth], left[depth] = at, count
                    depth += 1
            elif what == _END and depth > 0:
                left[depth - 1] -= 1
                if left[depth - 1] > 0:
                    at = start[depth - 1]
                else:
                    depth -= 1
            elif what == _SET:
                total = registers[register[at, 0]] + registers[control[at, 4]] + control[at, 2]
                registers[control[at, 1]] = total & 0xFFFFFFFF
            elif what == _FETCH:
                registers[control[at, 1]] = constants[registers[register[at, 0]] + control[at, 2]]
            elif what == _ROTATE:
                value = registers[control[at, 1]] + control[at, 2]
                registers[control[at, 1]] = value - control[at, 3] if value >= control[at, 3] else value
            at += 1
            continue
        if controls:
            if write:
                sources[rows] = -1
                values[rows, 0] = controls
            rows += 1
            digest = (digest ^ controls) * 1099511628211
            controls = 0
        digest = (digest ^ (at + 1)) * 1099511628211
        for column in range(_WIDTH):
            value = immediate[at, column] + registers[register[at, column]] * unit[at, column]
            if column == 0 and times[at]:
                value = immediate[at, 0] * registers[register[at, 0]]
                moved = value
            elif column == 0:
                moved = value
            if column < _SIZES:
                digest = (digest ^ value) * 1099511628211
            if write:
                values[rows, column] = value
        if write:
            sources[rows] = at
        rows += 1
        if advance[at]:
            registers[advance[at]] += moved
        at += 1
    if controls:
        if write:
            sources[rows] = -1
            values[rows, 0] = controls
        rows += 1
        digest = (digest ^ controls) * 1099511628211
    return rows, digest
