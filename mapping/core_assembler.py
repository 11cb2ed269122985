"""Writes compact programs: instructions one after the other, loops as blocks, names of operators beside them."""

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import numpy as np

from mixflight.arch.compact import CONSTANTS, check, codes, compact
from mixflight.arch.errors import InputError
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream, encode, stream_of, token_mask


class Register(enum.IntEnum):
    """What each register holds; the host writes ``WEIGHTS`` to ``NEW_SCALE`` before a run (``docs/compiler.md``).

    ``TILE`` takes the place of ``EMBEDDING`` once the embedding is read, ``HEAD`` that of ``POSITION``, which is where
    the learned position of the token lies. In a prefill the host writes ``WEIGHTS`` to
    ``LAST_GROUPS``. In a block of a prompt ``LOGIT_ROW`` is the row whose logits are wanted, from 1 on; 0: none.
    """

    ZERO = 0
    WEIGHTS = enum.auto()
    SCALES = enum.auto()
    INDICES = enum.auto()
    PARAMETERS = enum.auto()
    CACHE = enum.auto()
    EMBEDDING = enum.auto()
    FULL_TILES = enum.auto()
    TAIL_COLUMNS = enum.auto()
    TAIL_BLOCKS = enum.auto()
    TAIL_KEYS = enum.auto()
    TAIL_VALUES = enum.auto()
    TAIL_SCALES = enum.auto()
    TAIL_AT = enum.auto()
    TAIL_LINES = enum.auto()
    CONTEXT = enum.auto()
    CONTEXT_SCALES = enum.auto()
    NEW_CHANNEL = enum.auto()
    NEW_KEY = enum.auto()
    NEW_VALUE = enum.auto()
    NEW_SCALE = enum.auto()
    SLOT = enum.auto()
    PARAMETER = enum.auto()
    BITS = enum.auto()
    TABLE = enum.auto()
    KEYS = enum.auto()
    A = enum.auto()
    B = enum.auto()
    C = enum.auto()
    SCORE = enum.auto()
    PROBABILITY = enum.auto()
    HEAD = enum.auto()
    TILE = EMBEDDING
    POSITION = HEAD
    # A prefill has other lengths, in the same registers.
    FULL_BLOCKS = FULL_TILES
    LAST_ROWS = TAIL_COLUMNS
    LAST_BLOCKS = TAIL_BLOCKS
    LAST_KEYS = TAIL_KEYS
    LAST_VALUES = TAIL_VALUES
    LAST_SCALES = TAIL_SCALES
    LAST_GROUPS = TAIL_AT
    DONE = TAIL_LINES
    CONTEXT_BYTES = CONTEXT_SCALES
    MASK = CONTEXT_SCALES
    ROWS_AT = NEW_CHANNEL
    LAYER_WEIGHTS = NEW_KEY
    LAYER_SCALES = NEW_VALUE
    LAYER_INDICES = NEW_SCALE
    LAYER_PARAMETERS = PROBABILITY
    RESULT = SCORE
    LOGIT_ROW = NEW_CHANNEL


class Text(msgspec.Struct, frozen=True, kw_only=True):
    """A program with its constants, and for each instruction the operator it belongs to (index into ``names``)."""

    stream: Stream
    operators: Ints
    constants: Ints
    names: tuple[str, ...]
    kinds: tuple[str, ...]


class Assembler:
    """Collects instructions; ``names`` of operators known so far, to which it adds its own."""

    def __init__(self, names: dict[tuple[str, str], int] | None = None) -> None:
        self._kinds: list[int] = []
        self._rows: dict[str, list[dict[str, int]]] = {kind: [] for kind in CLASSES}
        self._operators: list[int] = []
        self._names: dict[tuple[str, str], int] = {} if names is None else names
        self._current = 0
        self.constants: list[int] = []

    def operator(self, name: str, kind: str) -> None:
        """The operator that the instructions from here on belong to."""
        self._current = self._names.setdefault((name, kind), len(self._names))

    def add(
        self, kind: str, *, wait: Sequence[str] = (), release: Sequence[str] = (), **fields: int | str
    ) -> None:  # fmt: skip
        """One instruction; a field that names its values takes the name."""
        row = {
            name: codes(kind, name)[value] if isinstance(value, str) else int(value) for name, value in fields.items()
        }
        if wait:
            row["wait"] = token_mask(kind, wait)
        if release:
            row["release"] = token_mask(kind, release)
        self._kinds.append(CLASS_INDEX[kind])
        self._operators.append(self._current)
        self._rows[kind].append(row)

    def set(self, destination: int, value: int = 0, source: int = 0, other: int = 0) -> None:
        """R[destination] = R[source] + R[other] + value."""
        self.add("SYS", operation="set", destination=destination, value=value & 0xFFFFFFFF, source=source, other=other)

    def rotate(self, register: int, step: int, limit: int) -> None:
        """R[register] moves on in its ring of ``limit``."""
        self.add("SYS", operation="rotate", destination=register, value=step, limit=limit)

    def fetch(self, register: int, number: int, source: int = 0) -> None:
        """R[register] = constant R[source] + number."""
        self.add("SYS", operation="fetch", destination=register, value=number, source=source)

    @contextmanager
    def loop(self, count: int, register: int = 0) -> Iterator[None]:
        """A block that runs ``count + R[register]`` times. One that runs once is written without a loop, none not."""
        if register == 0 and count == 1:
            yield
            return
        at = len(self._kinds)
        row = len(self._rows["SYS"])
        self.add("SYS", operation="loop", value=count, source=register)
        yield
        self._rows["SYS"][row]["limit"] = len(self._kinds) - at
        self.add("SYS", operation="end")

    def finish(self) -> Text:
        """The program, checked; a value that its field cannot hold is an InputError."""
        tables = {
            kind: {
                name: np.array([row.get(name, 0) for row in rows], np.int64)
                for name in sorted({name for row in rows for name in row})
            }
            for kind, rows in self._rows.items()
        }
        if len(self.constants) > CONSTANTS:
            raise InputError(f"a program must have at most {CONSTANTS} constants, not {len(self.constants)}")
        stream = stream_of(np.array(self._kinds, np.uint8), tables, compact())
        check(stream)
        encode(stream, compact())
        return Text(
            stream=stream, constants=np.array(self.constants, np.int64), operators=np.array(self._operators, np.int64),
            names=tuple(name for name, _ in self._names), kinds=tuple(kind for _, kind in self._names),
        )  # fmt: skip
