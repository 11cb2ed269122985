"""Random compact programs that end, their unrolling as operands, and when a controller starts each instruction."""

import random
from collections import deque

import numpy as np

from mixflight.arch.compact import CONSTANTS, LINE_BYTES, SLOTS, codes, compact
from mixflight.arch.isa import CLASSES, Stream, encode, stream_of, token_mask
from mixflight.mapping.core_sequencer import Sequencer

SLOT_BYTES = {"weight": 4096, "scale": 512, "index": 256, "act": 2048, "global": 8192}
CHANNELS = 2
_REGISTER_FIELDS = {
    kind: [name for name in compact().instructions[kind].fields if name.endswith("_register")] for kind in CLASSES
}
_SMALL = 12
"""Registers that only ever hold small numbers, so that loops end and slots exist: 1 … 12."""
_LARGE = 31


class Programs:
    """Draws programs. Tokens are given before they are taken, in program order, in the same iteration: they end."""

    def __init__(self, seed: int, *, classes: tuple[str, ...] = CLASSES, length: int = 40, depth: int = 3) -> None:
        self.random, self.classes, self.length, self.depth = random.Random(seed), classes, length, depth
        self.rows: list[tuple[str, dict[str, int]]] = []
        self.constants = [self.random.randrange(1 << 32) for _ in range(20)]

    def text(self) -> Stream:
        self.rows = []
        self._body(self.length, 0)
        self.rows.append(("SYS", {"operation": codes("SYS", "operation")["done"]}))
        kinds = np.array([CLASSES.index(kind) for kind, _ in self.rows], np.uint8)
        tables = {}
        for kind in CLASSES:
            rows = [row for name, row in self.rows if name == kind]
            names = sorted({name for row in rows for name in row})
            tables[kind] = {name: np.array([row.get(name, 0) for row in rows], np.int64) for name in names}
        return stream_of(kinds, tables, compact())

    def registers(self) -> dict[int, int]:
        small = {number: self.random.randrange(4) for number in range(1, _SMALL + 1)}
        return small | {number: self.random.randrange(1 << 32) for number in range(_SMALL + 1, _LARGE + 1)}

    def _body(self, count: int, depth: int) -> None:
        owed: list[tuple[str, str]] = []
        for _ in range(count):
            chance = self.random.random()
            if chance < 0.1 and depth < self.depth:
                self._loop(depth)
            elif chance < 0.35:
                self._register_update()
            else:
                self._unit(owed)
        while owed:
            kind = owed[0][1]
            waits = {giver for giver, taker in owed if taker == kind}
            for giver in waits:
                owed.remove((giver, kind))
            self._instruction(kind, waits, [])

    def _loop(self, depth: int) -> None:
        operation, at = codes("SYS", "operation"), len(self.rows)
        by_register = self.random.random() < 0.5
        row = {"operation": operation["loop"], "value": 0 if by_register else self.random.randrange(4),
               "source": self.random.randint(1, _SMALL) if by_register else 0}  # fmt: skip
        self.rows.append(("SYS", row))
        self._body(self.random.randrange(8), depth + 1)
        row["limit"] = len(self.rows) - at
        self.rows.append(("SYS", {"operation": operation["end"]}))

    def _register_update(self) -> None:
        operation = codes("SYS", "operation")
        name = self.random.choice(("set", "set", "rotate", "fetch"))
        row = {"operation": operation[name], "destination": self.random.randint(_SMALL + 1, _LARGE)}
        if name == "set":
            row |= {"value": self.random.randrange(1 << 32), "source": self.random.randint(0, 31),
                    "other": self.random.randint(0, 31)}  # fmt: skip
        elif name == "rotate":
            row |= {"value": self.random.randrange(1 << self.random.choice((8, 31))), "limit": self.random.randrange(1 << 24)}
        else:
            row |= {"value": self.random.randrange(16), "source": self.random.randint(1, _SMALL)}
        self.rows.append(("SYS", row))

    def _unit(self, owed: list[tuple[str, str]]) -> None:
        kind = self.random.choice(self.classes)
        waits = {giver for giver, taker in owed if taker == kind and self.random.random() < 0.6}
        for giver in waits:
            owed.remove((giver, kind))
        gives = [other for other in self.classes if other != kind and self.random.random() < 0.25]
        owed += [(kind, other) for other in gives]
        self._instruction(kind, waits, gives)

    def _instruction(self, kind: str, waits, gives) -> None:
        row = {"wait": token_mask(kind, waits), "release": token_mask(kind, gives)}
        fields = compact().instructions[kind].fields
        for field in fields.values():
            if field.name not in ("opcode", "wait", "release"):
                row[field.name] = self.random.randrange(field.limit)
        for name in _REGISTER_FIELDS[kind]:
            if self.random.random() < 0.5:
                row[name] = 0
        if kind == "SYS":
            row = {name: row[name] for name in ("wait", "release", "value", "buffer", "line", "source")}
            row["operation"] = codes("SYS", "operation")[self.random.choice(("barrier", "exchange"))]
        if kind in ("LD", "ST"):
            if row["base_register"] <= _SMALL:
                row["advance"] = 0
            if row["slotted"]:
                row["buffer_register"] = self.random.randint(0, _SMALL)
        if kind in ("MM", "MV"):
            row["slot_register"] = self.random.randint(0, _SMALL)
        if self.random.random() < 0.2:
            nothing = {"LD": "bytes", "ST": "bytes", "MM": "columns", "MV": "columns", "MISC": "vectors"}
            if kind in nothing:
                row |= {nothing[kind]: 0, f"{nothing[kind]}_register": 0}
        self.rows.append((kind, row))


def words_of(text: Stream) -> np.ndarray:
    """Four words an instruction."""
    return encode(text, compact()).reshape(-1, 4)


def expand(text: Stream, constants, registers) -> list[tuple[str, int, int, dict[str, int]]]:
    """(Class, wait, release, columns) of every instruction for a queue, as the compiler's unrolling has them."""
    constants = np.array([*constants, *[0] * (CONSTANTS - len(constants))], np.int64)
    sequencer = Sequencer(text, np.zeros(len(text.kinds), np.int64), constants, SLOT_BYTES, CHANNELS)
    pieces = sequencer.expand(registers, repeat=False)
    found = []
    for index in pieces.order.tolist():
        piece = pieces.pieces[index]
        rows = dict.fromkeys(CLASSES, 0)
        for number in piece.kinds.tolist():
            kind = CLASSES[number]
            row = {name: int(column[rows[kind]]) for name, column in piece.tables[kind].items()}
            rows[kind] += 1
            if not (kind == "SYS" and row["operation"] == 3):
                found.append((kind, row["wait"], row["release"], row))
    return found


def columns_of(kind: str, given: dict[str, int]) -> dict[str, int]:
    """Operands that a unit was given, as columns of the compiler; modulo the widths of operands."""
    if kind in ("LD", "ST"):
        buffer = list(codes("LD", "buffer"))[given["buffer"]]
        place = given["line"] * LINE_BYTES + given["slotted"] * given["slot"] * SLOT_BYTES[buffer]
        found = {"target" if kind == "LD" else "source": given["buffer"], "memory": given["ddr"],
                 "channel": given["channel"], "channels": CHANNELS if given["wide"] else 1, "bytes": given["bytes"],
                 "address": given["address"], "buffer_address": place}  # fmt: skip
        return found
    if kind in ("MM", "MV"):
        streamed = "act" if kind == "MM" else "weight"
        return {
            "rows": given["rows"], "columns": given["columns"], "k": 16 * given["k_blocks"], "keep_n": given["keep"],
            "weight_bits": given["weight_bits"], "group": 1 << given["group"] if given["group"] else 0,
            "zero": given["zero"], "accumulate": given["accumulate"], "last": given["last"],
            "transpose": given["transpose"], "weight_address": given["slot"] * SLOT_BYTES[streamed],
            "scale_address": given["slot"] * SLOT_BYTES["scale"], "index_address": given["slot"] * SLOT_BYTES["index"],
            "in_address": LINE_BYTES * given["in_line"], "out_address": LINE_BYTES * given["out_line"],
        }  # fmt: skip
    if kind == "MISC":
        buffers = [codes("LD", "buffer")[name] for name in codes("MISC", "target")]
        return {
            "operation": given["operation"], "vectors": given["vectors"], "elements": given["elements"],
            "group": 1 << given["group"] if given["group"] else 0, "causal": given["causal"] * (given["operation"] != codes("MISC", "operation")["rope"]),
            "target": buffers[given["target"]], "a_address": LINE_BYTES * given["a_line"],
            "b_address": LINE_BYTES * given["b_line"], "out_address": LINE_BYTES * given["out_line"],
        }  # fmt: skip
    return {"operation": given["operation"], "bytes": given["value"]}


_MODULO = {
    "channel": 1 << 5, "bytes": 1 << 24, "address": 1 << 32, "rows": 1 << 8, "columns": 1 << 10, "k": 1 << 16,
    "weight_bits": 1 << 4, "in_address": 1 << 23, "out_address": 1 << 20, "vectors": 1 << 12, "elements": 1 << 18,
    "a_address": 1 << 20, "b_address": 1 << 20,
}  # fmt: skip


def same_columns(kind: str, given: dict[str, int], expected: dict[str, int]) -> list[str]:
    """Columns that differ between what a unit was given and what the compiler says."""
    wrong = []
    for name, value in columns_of(kind, given).items():
        modulo = dict(_MODULO)
        if kind == "MISC":
            modulo["out_address"] = 1 << 23
        if kind == "SYS":
            modulo["bytes"] = 1 << 32
        want = expected[name]
        if name == "buffer_address" and not given["slotted"]:
            want %= LINE_BYTES << 18
        elif name == "buffer_address":
            size = SLOT_BYTES[list(codes("LD", "buffer"))[given["buffer"]]]
            want = (want - given["line"] * LINE_BYTES) // size % SLOTS * size + given["line"] * LINE_BYTES
        elif name in modulo:
            want %= modulo[name]
        if value != want:
            wrong.append(f"{kind}.{name}: {value} given, {want} wanted")
    return wrong


def is_empty(kind: str, row: dict[str, int], cores: int = 1) -> bool:
    """Whether an unrolled instruction has nothing to do, in the widths of operands."""
    if kind in ("LD", "ST"):
        return row["bytes"] % (1 << 24) == 0
    if kind in ("MM", "MV"):
        return row["columns"] % (1 << 10) == 0 or row["rows"] % (1 << 8) == 0
    if kind == "MISC":
        return row["vectors"] % (1 << 12) == 0 or row["elements"] % (1 << 18) == 0
    return cores == 1


def executed(text: Stream, constants, registers) -> list[tuple[str, bool]]:
    """What the sequencer carries out, in order: (class or operation, whether it takes a cycle more).

    An interpreter of its own, one instruction after the other.
    """
    operations = list(codes("SYS", "operation"))
    rows, values = dict.fromkeys(CLASSES, 0), [0] * 32
    local = []
    for number in text.kinds.tolist():
        local.append((CLASSES[number], rows[CLASSES[number]]))
        rows[CLASSES[number]] += 1
    for number, value in registers.items():
        values[number] = value
    loops, at, found = [], 0, []
    while True:
        kind, row = local[at]
        get = {name: int(column[row]) for name, column in text.tables[kind].items()}
        name = operations[get["operation"]] if kind == "SYS" else kind
        if name == "loop":
            count = (get["value"] + values[get["source"]]) % (1 << 32)
            found.append(("loop 0" if count == 0 else "loop", False))
            if count == 0:
                at += get["limit"]
            else:
                loops.append([at, count])
        elif name == "end":
            found.append(("end", False))
            loops[-1][1] -= 1
            if loops[-1][1]:
                at = loops[-1][0]
            else:
                loops.pop()
        elif name == "set":
            found.append(("set", False))
            values[get["destination"]] = (values[get["source"]] + values[get["other"]] + get["value"]) % (1 << 32)
        elif name == "rotate":
            found.append(("rotate", False))
            value = values[get["destination"]] + get["value"]
            values[get["destination"]] = (value - get["limit"] if value >= get["limit"] else value) % (1 << 32)
        elif name == "fetch":
            found.append(("fetch", True))
            values[get["destination"]] = constants[values[get["source"]] + get["value"]]
        else:
            found.append((kind, bool(get.get("times", 0))))
            if get.get("advance"):
                register = values[get["bytes_register"]]
                moved = get["bytes"] * register if get["times"] else get["bytes"] + register
                values[get["base_register"]] = (values[get["base_register"]] + moved) % (1 << 32)
            if name == "done":
                return found
        at += 1


class Expected:
    """Cycle by cycle, when a controller whose units take ``latency[class]`` cycles starts each instruction.

    The rules are those of ``core_sequencer`` and ``core_queues``; ``began`` is the cycle of the sequencer's start.
    """

    def __init__(self, steps, unrolled, latency, *, depth: int, in_flight: int, began: int) -> None:
        self.steps, self.unrolled, self.latency = deque(steps), deque(unrolled), {k: deque(v) for k, v in latency.items()}
        self.depth, self.in_flight = depth, in_flight
        self.queues = {kind: deque() for kind in CLASSES}
        self.flying = {kind: deque() for kind in CLASSES}
        self.tokens = {(one, other): 0 for one in CLASSES for other in CLASSES}
        self.free = dict.fromkeys(CLASSES, 0)
        self.starts = {kind: [] for kind in CLASSES}
        self.now, self.finished = began + 2, None
        self.issue, self.left, self.before = None, None, ""
        self._next()

    def _next(self) -> None:
        """The instruction that is in execution from this cycle on, and the cycles it needs there."""
        if not self.steps:
            self.left = None
            return
        name, longer = self.steps.popleft()
        bubbles = 2 if self.before == "loop 0" else int(self.before == "loop" and name == "end")
        self.left, self.name, self.before = 1 + longer + bubbles, name, name

    def run(self) -> "Expected":
        while self.finished is None:
            self._cycle()
            self.now += 1
            assert self.now < 1_000_000
        return self

    def _cycle(self) -> None:
        moves = [self._unit(kind) for kind in CLASSES]
        taken = self.issue is not None and len(self.queues[self.issue[0]]) < self.depth
        if taken:
            self.queues[self.issue[0]].append(self.issue)
        leaves = False
        if self.left is not None:
            self.left = max(self.left - 1, 0)
            leaves = self.left == 0 and (self.name not in CLASSES or self.issue is None or taken)
        if taken:
            self.issue = None
        if leaves:
            if self.name in CLASSES:
                self.issue = self.unrolled.popleft()
            self._next()
        for change in moves:
            change()

    def _unit(self, kind: str):
        """What this class does in this cycle, to be carried out at its end; all decisions see the cycle's beginning."""
        queue, flying, gives, starting = self.queues[kind], self.flying[kind], None, None
        ending = bool(flying) and (flying[0][1] is None or flying[0][1] <= self.now)
        if ending:
            gives = flying[0][0]
        if queue:
            _, wait, release, row = queue[0]
            there = all(self.tokens[other, kind] for other in _classes(kind, wait))
            done = kind == "SYS" and row["operation"] == 2
            alone = all(not self.queues[name] and not self.flying[name] for name in CLASSES if name != kind) and not flying
            if there and done and alone:
                self.finished, starting = self.now, (wait, release, True)
            elif there and not done and len(flying) < self.in_flight:
                empty = is_empty(kind, row)
                if empty or self.free[kind] <= self.now:
                    starting = (wait, release, empty)
        direct = starting is not None and starting[2] and not flying
        if direct:
            gives = starting[1]

        def change() -> None:
            if ending:
                flying.popleft()
            if starting:
                wait, release, empty = starting
                queue.popleft()
                for other in _classes(kind, wait):
                    self.tokens[other, kind] -= 1
                if not empty:
                    self.starts[kind].append(self.now)
                    end = self.now + self.latency[kind].popleft()
                    self.free[kind] = end + 1
                    flying.append((release, end))
                elif not direct:
                    flying.append((release, None))
            if gives is not None:
                for other in _classes(kind, gives):
                    self.tokens[kind, other] += 1

        return change


def _classes(kind: str, mask: int) -> list[str]:
    others = [name for name in CLASSES if name != kind]
    return [name for place, name in enumerate(others) if mask >> (4 - place) & 1]

