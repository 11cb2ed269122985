"""The program of a prefill with block masks: one text for all of them, as lists of blocks come from constants.

The rows of a block are one or two parts (``core_masks``). Keys of a block of tokens that any part needs are loaded once
and multiplied with the parts that need them; a row's scores lie in memory without gaps, those of the diagonal last, so
that the SFU sees unmasked ones only; values follow the same lists, the diagonal first. Attention is in whole units: the
rows of the last one that no token has are computed and not used.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.formats import Format
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_decode import FP32
from mixflight.mapping.core_masks import mask_unit
from mixflight.mapping.core_memory import Cache
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_prefill import PrefillText
from mixflight.mapping.core_prefill_rows import RowsOfBlock
from mixflight.mapping.core_shares import Share
from mixflight.mapping.core_tiles import ceil_div

R = Register
ENTRY = R.BITS
"""A word of the list: free in attention, as each linear fetches its bits anew."""
SCORES_AT = (R.RESULT, R.CONTEXT)
"""Where the next scores of each part go."""


class MaskedPrefillText(PrefillText):
    """Writes the text of one core."""

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, max_context: int,
        shares: Sequence[Share], names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        self.unit = mask_unit(machine)
        self.parts = machine.mm_rows // self.unit
        super().__init__(network, machine, share, cache, max_context, shares, names)
        rows, count = self.unit // self.channels, ceil_div(self.max_context, self.unit) + self.parts
        self.unit_groups = rows
        self.tables: dict[str, int] = {}
        for name, size in (("keys", cache.key_bytes), ("values", cache.value_bytes), ("scales", cache.scale_bytes)):
            self.tables[name] = len(self.asm.constants)
            self.asm.constants += [number * rows * size for number in range(count)]

    def _sequence_done(self) -> None:
        """The list of the next sequence: the same, or the one behind."""
        if self.share.heads[1]:
            self._next(ENTRY)
            self.asm.set(R.MASK, -1, source=R.MASK)
            self.asm.set(R.MASK, source=R.MASK, other=ENTRY)

    def _next(self, register: int) -> None:
        """The word at MASK, which goes on."""
        self.asm.fetch(register, 0, source=R.MASK)
        self.asm.set(R.MASK, 1, source=R.MASK)

    # -- attention -------------------------------------------------------------------------------------------------

    def _attention_rows(self, linear: Linear, rows: RowsOfBlock) -> None:
        """Every query head on the blocks of its list: scores to memory, softmax by rows, values."""
        net, asm = self.network, self.asm
        local = self._local(linear, net.heads_width)
        asm.operator("qk", "qk")
        asm.set(R.HEAD, self.own_at, source=R.CACHE)
        asm.set(R.A, source=R.KEYS)
        with asm.loop(self.share.heads[1]):
            with asm.loop(net.queries):
                self._scores_of_head()
                self._softmax_of_head()
                self._values_of_head()
                asm.add("MM", release=["MISC"])
                asm.add("MISC", wait=["MM"])
                asm.set(R.B, source=R.A)
                self._leave_head(linear, local, rows)
                asm.add("MISC", release=["MM"])
            asm.set(R.A, self.cache.stride, source=R.A)
        if not local:
            asm.add("ST", release=["LD"])

    def _walk(self, each: Callable[[tuple[int, ...]], None]) -> None:
        """``each`` (parts) for every block of the lists; ENTRY is its number."""
        groups: tuple[tuple[int, ...], ...] = ((0,),) if self.parts == 1 else ((0, 1), (0,), (1,))
        for parts in groups:
            self._next(ENTRY)
            with self.asm.loop(0, ENTRY):
                self._next(ENTRY)
                each(parts)

    def _diagonal(self, number: int) -> None:
        """ENTRY = block ``number`` of the row block's diagonal."""
        self.asm.set(ENTRY, number, source=R.DONE, other=R.DONE if self.parts == 2 else 0)

    def _scores_of_head(self) -> None:
        asm = self.asm
        asm.operator("qk", "qk")
        for part in range(self.parts):
            asm.set(SCORES_AT[part], self.scores_at + part * self.unit_groups * self.score_row, source=R.CACHE)
        self._walk(self._score_block)
        if self.parts == 2:
            self._next(R.TILE)
            self._diagonal(0)
            # needed by both, or by the first part alone
            self._if(lambda: self._score_block((0, 1)), lambda: self._score_block((0,)))
            self._next(R.TILE)
            with asm.loop(0, R.TILE):
                self._diagonal(1)
                self._score_block((1,))
        else:
            self._diagonal(0)
            self._score_block((0,))
        asm.add("ST", release=["LD"])

    def _if(self, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """One of two, by TILE, 1 or 0; neither may need TILE."""
        asm = self.asm
        asm.set(R.C, 1)
        with asm.loop(0, R.TILE):
            then()
            asm.set(R.C)
        asm.set(R.TILE, source=R.C)
        with asm.loop(0, R.TILE):
            otherwise()

    def _score_block(self, parts: tuple[int, ...]) -> None:
        """Scores of ``parts`` with the keys of block ENTRY, to memory behind those that are there."""
        net, asm, cache = self.network, self.asm, self.cache
        asm.fetch(R.C, self.tables["keys"], source=ENTRY)
        asm.set(R.C, source=R.C, other=R.A)
        asm.fetch(R.B, self.tables["scales"], source=ENTRY)
        asm.set(R.B, source=R.B, other=R.A)
        asm.add("LD", wait=["MM"], buffer="act", slotted=1, wide=1, base_register=R.C, buffer_register=R.SLOT,
                bytes=self.unit_groups * cache.key_bytes)  # fmt: skip
        asm.add("LD", release=["MM"], buffer="scale", slotted=1, wide=1, base_register=R.B, offset=cache.scale_at,
                buffer_register=R.SLOT, bytes=self.unit_groups * cache.scale_bytes)  # fmt: skip
        asm.add("MM", wait=["LD", "ST"])
        step, tile = (ceil_div(self.unit * columns * FP32, LINE_BYTES) for columns in (K_BLOCK, self.unit))
        for part in parts:
            for number in range(ceil_div(self.unit, K_BLOCK)):
                self._mm_of_part(net.key, columns=K_BLOCK, k_blocks=net.head_dim // K_BLOCK, last=1,
                                 in_line=self.query_codes + part * ceil_div(self.unit * net.head_dim, LINE_BYTES),
                                 out_line=self.score_tiles + part * tile + number * step)  # fmt: skip
        asm.add("MM", release=["LD", "ST"])
        asm.rotate(R.SLOT, 1, SLOTS)
        asm.add("ST", wait=["MM"])
        for part in parts:
            pointer = SCORES_AT[part]
            asm.set(R.C, source=pointer)
            asm.set(R.B)
            with asm.loop(self.unit_groups):
                asm.add("ST", buffer="global", wide=1, base_register=R.C, bytes=self.unit * FP32,
                        buffer_line=self.score_tiles + part * tile, buffer_register=R.B)  # fmt: skip
                asm.set(R.C, self.score_row, source=R.C)
                asm.set(R.B, ceil_div(self.channels * self.unit * FP32, LINE_BYTES), source=R.B)
            asm.set(pointer, self.unit * FP32, source=pointer)
        asm.add("ST", release=["MM"])

    def _mm_of_part(self, weight: Format, **fields: Any) -> None:
        """An MM of a part's rows; the instructions around it wait and release."""
        self.asm.add("MM", **self._operand(weight) | {"rows": self.unit, "slot_register": R.SLOT} | fields)

    def _softmax_of_head(self) -> None:
        """Softmax and quantisation of each part's unmasked scores, a group of rows at a time; MM may go on."""
        asm, cache = self.asm, self.cache
        asm.operator("softmax", "softmax")
        asm.add("LD", wait=["ST"])
        asm.set(R.TILE)
        with asm.loop(0, R.DONE):
            asm.set(R.TILE, self.block // self.channels * cache.scale_bytes, source=R.TILE)
        asm.set(R.TILE, self.block // self.channels * cache.scale_bytes, source=R.TILE)
        asm.add("LD", release=["MISC"], buffer="global", wide=1, base_register=R.A, offset=cache.scale_at,
                bytes_register=R.TILE, buffer_line=self.value_scales)  # fmt: skip
        asm.add("MISC", wait=["LD"])
        asm.set(R.B)
        for part in range(self.parts):
            asm.fetch(R.CONTEXT, 1 + part, source=R.MASK)
            asm.set(R.C, self.scores_at + part * self.unit_groups * self.score_row, source=R.CACHE)
            if part == 0:
                self._softmax_of_groups(part)
            else:
                # whether there is a second part, in front of the word at MASK
                asm.set(R.TILE, -1, source=R.MASK)
                asm.fetch(R.TILE, 0, source=R.TILE)
                with asm.loop(0, R.TILE):
                    self._softmax_of_groups(part)
        self._then_matrix()

    def _softmax_of_groups(self, part: int) -> None:
        asm = self.asm
        out = self.probabilities + part * (self.probability_lines // 2)
        with asm.loop(self.unit_groups):
            asm.operator("softmax", "softmax")
            asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, base_register=R.C, bytes=FP32,
                    bytes_register=R.CONTEXT, times=1, buffer_line=self.group_rows,
                    buffer_register=R.PARAMETER)  # fmt: skip
            at: dict[str, Any] = {"a": self.group_rows, "a_register": R.PARAMETER, "elements_register": R.CONTEXT,
                                  "causal": 1}  # fmt: skip
            self._attention_misc(out, at)
            self._read()
            asm.set(R.C, self.score_row, source=R.C)

    def _values_of_head(self) -> None:
        """Probabilities times values: the diagonal, then the lists once more."""
        asm = self.asm
        asm.operator("av", "av")
        asm.add("MM", wait=["MISC"])
        if self.parts == 2:
            asm.set(R.B, -1, source=R.MASK)
            asm.fetch(R.TILE, 0, source=R.B)
            with asm.loop(0, R.TILE):
                self._diagonal(1)
                self._value_block((1,), first=(1,))
            asm.set(R.B, -2, source=R.MASK)
            asm.fetch(R.TILE, 0, source=R.B)
            self._diagonal(0)
            self._if(lambda: self._value_block((0, 1), first=(0,)), lambda: self._value_block((0,), first=(0,)))
        else:
            self._diagonal(0)
            self._value_block((0,), first=(0,))
        asm.fetch(ENTRY, 0, source=R.MASK)
        asm.set(R.MASK, source=R.MASK, other=ENTRY)
        self._walk(lambda parts: self._value_block(parts))
        # behind the list: two words more of two parts, what leads back, the scores of each part
        asm.set(R.MASK, 3 * self.parts - 1, source=R.MASK)

    def _value_block(self, parts: tuple[int, ...], first: tuple[int, ...] = ()) -> None:
        """Probabilities of ``parts`` times the values of block ENTRY; ``first`` of them start their sums."""
        net, asm = self.network, self.asm
        asm.fetch(R.C, self.tables["values"], source=ENTRY)
        asm.set(R.C, source=R.C, other=R.A)
        asm.add("LD", wait=["MM"], release=["MM"], buffer="act", slotted=1, wide=1, base_register=R.C,
                offset=self.cache.value_at, buffer_register=R.SLOT,
                bytes=self.unit_groups * self.cache.value_bytes)  # fmt: skip
        width = min(self.machine.mm_columns, net.head_dim)
        count = ceil_div(net.head_dim, width)
        for index, part in enumerate(parts):
            for number in range(count):
                waits = index == 0 and number == 0
                last = index == len(parts) - 1 and number == count - 1
                self._mm_of_part(
                    net.value, columns=width, k_blocks=self.unit // K_BLOCK, transpose=1, last=1,
                    accumulate=part not in first, in_line=self.probabilities + part * (self.probability_lines // 2),
                    out_line=self.results + ceil_div(part * self.unit * net.head_dim * FP32, LINE_BYTES),
                    wait=["LD"] if waits else [], release=["LD"] if last else [],
                )  # fmt: skip
        asm.rotate(R.SLOT, 1, SLOTS)
