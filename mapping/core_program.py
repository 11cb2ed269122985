"""What a compiled core program is to whoever times or runs it: primitive instructions as columns, in pieces.

The columns of each class, one row an instruction in program order (all int64; addresses in bytes):

LD, ST  ``wait``, ``release``, ``operator``; ``target`` (LD) or ``source`` (ST): index into ``BUFFERS``; ``memory``:
        0 HBM, 1 DDR; ``channel`` the first, ``channels`` how many at once; ``bytes`` and ``address`` of each channel;
        ``buffer_address``; LD also ``code_bits`` (0: bytes unchanged) and the code of its ``layout``
MM, MV  ``rows``, ``columns``, ``k``; ``keep_n`` kept weights of a block of 16 (16: dense); ``weight_bits``;
        ``group``: K that share a scale, 0 for the whole row; ``zero``: 0 none, 1 integer zero points, 2 minima;
        ``accumulate``: go on with the sums before; ``last``: write out; ``transpose``: the streamed operand lies with
        K outermost; ``weight_address``, ``scale_address``, ``index_address``, ``in_address``, ``out_address``
MISC    ``operation``: index into ``OPERATIONS``; ``vectors``, ``elements``, ``passes``; ``group``: elements that
        share a scale, 0 for the vector; ``causal``: rows see only their past; ``target``: index into ``BUFFERS``;
        ``a_address``, ``b_address``, ``out_address``
SYS     ``operation``: index into ``SYS_OPERATIONS``; ``bytes`` that the core receives in an exchange, ``lines`` that
        it sends; ``controls``: loops and register updates that the sequencer carries out here (operation ``control``;
        it waits for and releases nothing)

An instruction of no bytes, columns or vectors only passes tokens on. ``wait`` and ``release`` are masks as in
``mixflight.arch.isa``; ``operator`` is an index into ``CompiledProgram.names``.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import INSTRUCTION_BYTES, codes
from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream

BUFFERS = tuple(codes("LD", "buffer"))
OPERATIONS = tuple(codes("MISC", "operation"))
SYS_OPERATIONS = ("barrier", "exchange", "done", "control")
MEMORIES = ("hbm", "ddr")


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A run of primitive instructions: ``kinds`` in program order (indices into ``CLASSES``), and columns a class.

    ``before``: where, in each channel, the loads ahead of it ended, by memory (-1: there are none); None: in the piece
    in front of it.
    """

    kinds: NDArray[np.uint8]
    tables: Mapping[str, Mapping[str, Ints]]
    before: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.kinds)

    def count(self, kind: str) -> int:
        """Instructions of one class."""
        return len(self.tables[kind]["wait"])


class Pieces(msgspec.Struct, frozen=True, kw_only=True):
    """The instructions of one core: distinct ``pieces`` and the ``order`` in which they run.

    A piece that stands for several iterations of a loop has the addresses of the first.
    """

    pieces: tuple[Piece, ...]
    order: Ints

    def __len__(self) -> int:
        sizes = np.array([len(piece) for piece in self.pieces], np.int64)
        return int(sizes[self.order].sum())

    def count(self, kind: str) -> int:
        """Instructions of one class, every repetition counted."""
        counts = np.array([piece.count(kind) for piece in self.pieces], np.int64)
        return int(counts[self.order].sum())

    def total(self, kind: str, column: str) -> int:
        """Sum of a column of a class, every repetition counted."""
        sums = np.array([int(piece.tables[kind][column].sum()) for piece in self.pieces], np.int64)
        return int(sums[self.order].sum())

    def moved_bytes(self, kind: str, memory: str = "hbm") -> dict[str, int]:
        """Bytes that LD or ST move from or to ``memory``, all channels together, by buffer."""
        found = dict.fromkeys(BUFFERS, 0)
        uses = np.bincount(self.order, minlength=len(self.pieces))
        side = "target" if kind == "LD" else "source"
        for piece, number in zip(self.pieces, uses, strict=True):
            table = piece.tables[kind]
            size = table["bytes"] * table["channels"] * (table["memory"] == MEMORIES.index(memory))
            for index, name in enumerate(BUFFERS):
                found[name] += int(number) * int(size[table[side] == index].sum())
        return found


class CompiledProgram(msgspec.Struct, frozen=True, kw_only=True):
    """A pass of a model on all cores.

    ``streams`` of distinct cores and ``core_of``: the stream of each core. ``names`` of operators and their ``kinds``.
    ``texts``: the compact program of each stream, ``constants`` the words that it fetches (with a prefill's masks), and
    ``registers`` what the host writes before the run.
    ``bytes`` of memory by purpose: what weights, scales, indices, parameters, cache and embedding occupy.
    """

    phase: str
    streams: tuple[Pieces, ...]
    core_of: tuple[int, ...]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    texts: tuple[Stream, ...]
    constants: tuple[Ints, ...]
    registers: tuple[Mapping[str, int], ...]
    bytes: Mapping[str, int]

    @property
    def instruction_bytes(self) -> int:
        """Bytes of the distinct texts and their constants."""
        return sum(INSTRUCTION_BYTES * len(text) for text in self.texts) + sum(4 * len(item) for item in self.constants)


def empty_tables() -> dict[str, dict[str, Ints]]:
    """Tables without rows."""
    return {kind: {name: np.zeros(0, np.int64) for name in COLUMNS[kind]} for kind in CLASSES}


_COMMON = ("wait", "release", "operator")
_MOVE = ("memory", "channel", "channels", "bytes", "address", "buffer_address")
_MATRIX = (
    "rows", "columns", "k", "keep_n", "weight_bits", "group", "zero", "accumulate", "last", "transpose",
    "weight_address", "scale_address", "index_address", "in_address", "out_address",
)  # fmt: skip
COLUMNS: dict[str, tuple[str, ...]] = {
    "LD": (*_COMMON, "target", *_MOVE, "code_bits", "layout"),
    "ST": (*_COMMON, "source", *_MOVE),
    "MM": (*_COMMON, *_MATRIX),
    "MV": (*_COMMON, *_MATRIX),
    "MISC": (*_COMMON, "operation", "vectors", "elements", "passes", "group", "causal", "target", "a_address",
             "b_address", "out_address"),
    "SYS": (*_COMMON, "operation", "bytes", "lines", "controls"),
}  # fmt: skip
CONTROL = SYS_OPERATIONS.index("control")
SYS = CLASS_INDEX["SYS"]
