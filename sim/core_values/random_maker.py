"""A random program as it grows: what lies where, tokens where classes meet, choices.

Every instruction is executed as it is added, so the next one can ask what lies where. A token is put exactly where an
instruction touches what an earlier one of another class has touched (:mod:`~mixflight.sim.core_values.order`), and
sometimes where nothing asks for one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, REGISTERS, SLOTS
from mixflight.arch.control_constants import control_constants
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.core_values.execute import execute
from mixflight.sim.core_values.order import Access, accesses, units_of
from mixflight.sim.core_values.random_memory import OUT, memories
from mixflight.sim.core_values.state import BUFFERS, LINE_WORDS, Shape, new_state, shape_of
from mixflight.sim.core_values.vectors import OPERATIONS

ACT_WINDOW = 48
GLOBAL_WINDOW = 4 * ACT_WINDOW
"""Lines that instructions work on: few, so that they meet; the FP32 of one window are the codes of the other."""
RAW = GLOBAL_WINDOW - 32
"""From this line of its window on also bytes that are no FP32 (rows of the embedding, scales of the cache)."""
HEAD = 64
MOST = 1e4
"""Operands are smaller, so that squares and scales fit."""

_MOVE_NAMES = ("buffer", "ddr", "wide", "channel", "address", "bytes", "slotted", "slot", "line")
_PRODUCT_NAMES = ("rows", "columns", "k_blocks", "weight_bits", "slot", "in_line", "out_line", "keep", "zero",
                  "accumulate", "last", "transpose", "group")  # fmt: skip
NAMES = {
    "LD": (*_MOVE_NAMES, "code_bits", "signed", "layout"), "ST": _MOVE_NAMES,
    "MM": _PRODUCT_NAMES, "MV": _PRODUCT_NAMES,
    "MISC": ("vectors", "elements", "a_line", "b_line", "out_line", "operation", "group", "causal", "static", "parts",
             "target"),
    "SYS": ("operation", "value", "buffer", "line", "lines"),
}  # fmt: skip


@dataclass
class Slot:
    """What a slot of the weight buffer holds, in the terms of the product that reads it."""

    layout: str
    columns: int
    k: int
    bits: int
    group: int
    minimum: bool
    keep: int = K_BLOCK


@dataclass
class Draft:
    """An instruction with its tokens, which later ones may add to."""

    kind: str
    fields: dict[str, int]
    wait: set[str] = field(default_factory=set)
    release: set[str] = field(default_factory=set)
    clock: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """First lines of the parts of the global and the act buffer that are worked on."""

    vector: int
    act: int


PLACES = ("low", "high", "low, high", "high, low")


def windows_at(place: str, shape: Shape) -> Windows:
    """Where the buffers begin (``low``), or so that the windows end with them (``high``); of the global and the act
    buffer each, or both."""
    if place not in PLACES:
        raise InputError(f"windows must be one of {'; '.join(PLACES)}, not {place}")
    vector, _, act = place.partition(", ")
    return Windows(vector=shape.global_lines - GLOBAL_WINDOW if vector == "high" else 0,
                   act=shape.act_lines - ACT_WINDOW if (act or vector) == "high" else 0)  # fmt: skip


class Maker:
    """The program so far: its ``drafts``, the ``state`` behind them, what the ``slots`` and the ``sums`` hold.

    ``try_`` adds an instruction if it can be carried out inside the windows; ``must`` raises where it cannot.
    ``repeats``: how often the same instruction comes from a draft on.
    """

    FIRST_BYTES = 2048
    """Bytes of a channel, from the first on, that an ST may write in front of the results."""

    def __init__(self, machine: CoreMachine, seed: int, *, matrices: bool, windows: str = "low") -> None:
        self.rng, self.matrices = np.random.default_rng(seed), matrices
        self.machine, self.shape = machine, shape_of(machine)
        self.windows = windows_at(windows, self.shape)
        self.constants = control_constants(
            hidden=int(self.rng.integers(100, 2000)), head=HEAD, epsilon=1e-5, rope_base=10000.0,
            position=int(self.rng.integers(0, 1 << 17)),
        )  # fmt: skip
        values = self.rng.choice([0, 1, 2, 3, 5, 8, 16, 32, 64, 4096, OUT], REGISTERS).tolist()
        self.registers: dict[int, int] = dict(enumerate([*range(SLOTS), *values[SLOTS:]]))
        self.hbm, self.ddr = memories(self.rng, self.shape.channels)
        self.state = new_state(self.shape, self.constants, [item.copy() for item in self.hbm], [self.ddr[0].copy()])
        self.drafts: list[Draft] = []
        self.of_class: dict[str, list[Draft]] = {kind: [] for kind in CLASSES}
        self.slots: list[Slot | None] = [None] * SLOTS
        self.sums: tuple[int, int, bool, str] | None = None
        self.stored: list[tuple[int, int]] = []
        self._written = {name: np.zeros((len(CLASSES), n), np.int64) for name, n in units_of(self.shape).items()}
        self._read = {name: np.zeros_like(kept) for name, kept in self._written.items()}
        self._last_load_of_results, self._first_bytes_stored = 0, False
        self.repeats: dict[int, int] = {}

    # -- instructions ----------------------------------------------------------------------------------------------

    def try_(self, kind: str, fields: dict[str, int], wait: Sequence[str] = (), *, anywhere: bool = False) -> bool:
        """Add an instruction if it can be carried out, inside the windows or, if so asked, ``anywhere``."""
        item = Primitive(kind, len(self.drafts), (), (), fields)
        touched = [] if item.empty else accesses(item, self.shape)
        if not anywhere and not all(self._inside(access) for access in touched):
            return False
        try:
            execute(self.state, [item])
        except InputError:
            return False
        self.add(kind, fields, touched, wait)
        return True

    def _inside(self, access: Access) -> bool:
        first, lines = {"global": (self.windows.vector, GLOBAL_WINDOW), "act": (self.windows.act, ACT_WINDOW)}.get(
            access.buffer, (0, SLOTS)
        )
        return first <= access.first and access.end <= first + lines

    def repeat(self, kind: str, turns: Sequence[dict[str, int]]) -> None:
        """Add an instruction several times, without tokens: those of all are those of one before, that does nothing."""
        items = [Primitive(kind, 0, (), (), fields) for fields in turns]
        touched = [access for item in items for access in accesses(item, self.shape)]
        if not all(self._inside(access) for access in touched):
            return
        self.add(kind, nothing(kind), touched)
        first = len(self.drafts)
        for item in items:
            execute(self.state, [item])
            self.add(kind, item.fields, touched, alone=True)
        self.repeats[first] = len(turns)
        self.add(kind, nothing(kind), touched)

    def must(self, kind: str, fields: dict[str, int], *, anywhere: bool = False) -> None:
        """Add an instruction; a core that cannot carry it out is an InputError."""
        if not self.try_(kind, fields, anywhere=anywhere):
            raise InputError(f"a core must hold windows of {GLOBAL_WINDOW} and {ACT_WINDOW} lines and slots to work on")

    def add(
        self, kind: str, fields: dict[str, int], touched: Sequence[Access] = (), wait: Sequence[str] = (), *,
        alone: bool = False,
    ) -> None:  # fmt: skip
        """Add an instruction with the tokens that what it touches asks for, and sometimes, unless it goes ``alone``,
        one more."""
        draft, mine = Draft(kind, fields), CLASS_INDEX[kind]
        own = self.of_class[kind]
        known = own[-1].clock.copy() if own else [0] * len(CLASSES)
        needed = set(wait)
        for access in touched:
            for kept in (self._written, self._read) if access.write else (self._written,):
                latest = kept[access.buffer][:, access.first : access.end].max(axis=1)
                needed |= {CLASSES[other] for other in np.flatnonzero(latest > known) if other != mine}
        if kind == "ST" and self._last_load_of_results > known[CLASS_INDEX["LD"]]:
            needed.add("LD")
        if kind == "LD" and not fields["ddr"] and (fields["address"] >= OUT or self._loads_first_bytes(fields)):
            self._last_load_of_results = len(own) + 1
            if len(self.of_class["ST"]) > known[CLASS_INDEX["ST"]]:
                needed.add("ST")
        if kind == "ST" and fields["bytes"] and fields["address"] < self.FIRST_BYTES:
            self._first_bytes_stored = True
        if not alone and self.rng.random() < 0.1:
            needed.add(CLASSES[self.rng.integers(len(CLASSES))])
        for other in sorted(needed - {kind}):
            giver = self.of_class[other][-1] if self.of_class[other] else None
            if giver is not None and kind not in giver.release:
                giver.release.add(kind)
                draft.wait.add(other)
                known = [max(pair) for pair in zip(known, giver.clock, strict=True)]
        known[mine] = len(own) + 1
        draft.clock = known
        own.append(draft)
        self.drafts.append(draft)
        for access in touched:
            table = self._written if access.write else self._read
            table[access.buffer][mine, access.first : access.end] = len(own)

    def _loads_first_bytes(self, fields: dict[str, int]) -> bool:
        return self._first_bytes_stored and fields["address"] < self.FIRST_BYTES

    def barrier(self) -> None:
        """Every class waits for every other, by way of a barrier."""
        used = [kind for kind in CLASSES if kind != "SYS" and (kind != "MM" or self.matrices)]
        for kind in used:
            self.add(kind, nothing(kind))
        self.add("SYS", nothing("SYS"), wait=used)
        for kind in used:
            self.add(kind, nothing(kind), wait=["SYS"])

    def move(self, buffer: str, address: int, size: int, **others: int) -> dict[str, int]:
        """Operands of an ST: wide, from HBM, unless ``others`` say so."""
        return {
            "buffer": BUFFERS.index(buffer), "ddr": 0, "wide": 1, "channel": 0, "address": address, "bytes": size,
            "slotted": 0, "slot": 0, "line": 0,
        } | others  # fmt: skip

    def ld(self, buffer: str, address: int, size: int, **others: int) -> dict[str, int]:
        """Operands of an LD, bytes as they are unless ``others`` say so."""
        return self.move(buffer, address, size, **{"code_bits": 0, "signed": 0, "layout": 0, **others})

    def misc(self, name: str, vectors: int, elements: int, **others: int) -> dict[str, int]:
        """Operands of a MISC."""
        return {
            "vectors": vectors, "elements": elements, "a_line": 0, "b_line": 0, "out_line": 0,
            "operation": OPERATIONS.index(name), "group": 0, "causal": 0, "static": 0, "parts": 0, "target": 0,
        } | others  # fmt: skip

    # -- choices ---------------------------------------------------------------------------------------------------

    def whole(self, low: int, high: int, unit: int = 1) -> int:
        """A multiple of ``unit`` from ``low`` to ``high``."""
        return int(self.rng.integers(-(-low // unit), high // unit + 1)) * unit

    def any(self, *choices: int) -> int:
        """One of ``choices``."""
        return int(self.rng.choice(choices))

    def chance(self, share: float) -> bool:
        """True in a ``share`` of all cases."""
        return bool(self.rng.random() < share)

    def vector_line(self, first: int = 0, last: int = GLOBAL_WINDOW - 1) -> int:
        """A line of the global buffer, from ``first`` to ``last`` of its window."""
        return self.windows.vector + self.whole(first, last)

    def act_line(self, last: int = ACT_WINDOW - 1) -> int:
        """A line of the act buffer, up to ``last`` of its window."""
        return self.windows.act + self.whole(0, last)

    def operand(self, vectors: int, elements: int) -> int:
        """A line from which so much FP32 lies that every operation can take; behind the window: there is none."""
        lines = vectors * -(-elements // LINE_WORDS)
        for _ in range(40):
            line = self.vector_line(0, max(0, GLOBAL_WINDOW - lines))
            if self.usable(line, lines):
                return line
        return self.windows.vector + GLOBAL_WINDOW

    def usable(self, line: int, lines: int) -> bool:
        """Whether every operation can take what lies from ``line`` on."""
        x = self.state.words()[line : line + lines]
        with np.errstate(invalid="ignore"):
            small = np.abs(x) < MOST
        return bool(small.all() and (x == 0).mean() < 0.9 and (np.abs(x[x != 0]) > 1e-12).all())

    def checked(self, name: str, vectors: int, elements: int, others: dict[str, int]) -> bool:
        """Add a MISC unless an operand reaches over results: with these, units of other widths would read other
        bytes."""
        fields = self.misc(name, vectors, elements, **others)
        touched = accesses(Primitive("MISC", 0, (), (), fields), self.shape)
        out = touched[-1]
        for access in touched[:-1]:
            meets = access.buffer == out.buffer and access.first < out.end and out.first < access.end
            if meets and (access.first, access.end) != (out.first, out.end):
                return False
        first = touched[0]
        if first.buffer == "global" and name != "embed":
            x = self.state.words()[first.first : first.end]
            with np.errstate(invalid="ignore"):
                if not (np.abs(x) < MOST).all():
                    return False
        return self.try_("MISC", fields)


def nothing(kind: str) -> dict[str, int]:
    """Operands of an instruction that only passes tokens on."""
    return dict.fromkeys(NAMES[kind], 0)


def fill(maker: Maker) -> None:
    """FP32 and codes everywhere in the windows."""
    vector, act = maker.windows.vector, maker.windows.act
    each = GLOBAL_WINDOW * LINE_BYTES // maker.shape.channels
    maker.must("LD", maker.ld("global", 0, each, line=vector))
    maker.must("MISC", maker.misc("quantise", ACT_WINDOW, LINE_BYTES, a_line=vector, target=1, group=5, out_line=act))
