"""Rows of a block in the text of a prefill: where they lie, on their way through memory, as inputs of matrices.

Tokens run in blocks of as many rows as the matrix engine has. In MM the buffers change roles: the weight buffer holds
the activations of a block, weights pass through slots of the act buffer.

A block's FP32 vectors do not fit on chip. The residual vectors, the scores and, where an activation scale needs a
whole row of all cores, a linear's input lie in memory: row r in channel r mod channels, so that a group of as many rows
as there are channels is one wide transfer.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.formats import Format
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_decode import CAP_BYTES, FP32, DecodeText, log2_group
from mixflight.mapping.core_memory import REGION_BYTES, Arena, Cache, channel_share
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_shares import Share
from mixflight.mapping.core_tiles import Tiling, ceil_div, column_step, round_up, slot_bytes

R = Register
RING = 2
"""Row groups, and score tiles, in flight."""


class RowsOfBlock:
    """Rows of a block: as numbers for a whole one, in registers for the last."""

    def __init__(self, text: "RowsText", whole: bool) -> None:
        rows, channels = text.block, text.channels
        self.whole = whole
        self.rows = rows if whole else 0
        self.rows_register = 0 if whole else R.LAST_ROWS
        self.groups = rows // channels if whole else 0
        self.groups_register = 0 if whole else R.LAST_GROUPS
        self.blocks = rows // K_BLOCK if whole else 0
        self.blocks_register = 0 if whole else R.LAST_BLOCKS
        cache, each = text.cache, rows // channels
        self.keys = (each * cache.key_bytes, 0) if whole else (0, R.LAST_KEYS)
        self.values = (each * cache.value_bytes, 0) if whole else (0, R.LAST_VALUES)
        self.scales = (each * cache.scale_bytes, 0) if whole else (0, R.LAST_SCALES)


class RowsText(DecodeText):
    """Places, transfers and matrices of a block's rows, for one core."""

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, max_context: int,
        shares: Sequence[Share], names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        self.shares = shares
        self.block = machine.mm_rows
        self.step = column_step(machine)
        self.slot = slot_bytes(machine)["act"]
        super().__init__(network, machine, share, cache, max_context, names=names)

    # -- buffers and memory --------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        net, block, heads = self.network, self.block, self.share.heads[1]
        room = self.machine.buffers
        lines, acts = Arena("global", room.vector.bytes), Arena("weight", room.weight.bytes)
        group = self.channels * FP32
        self.norm_lines = ceil_div(net.norm_bytes, LINE_BYTES)
        self.norm_parameters = lines.take(2 * net.norm_parameters * self.norm_lines * LINE_BYTES, "attention_norm")
        self.caps = lines.take(self._dealt(CAP_BYTES) if net.capped else 0, "softcap")
        bias = max(net.head_norm_bytes, self.machine.mv_columns * FP32 if any(
            linear.bias for layer in net.layers for linear in layer.values()) else 0)  # fmt: skip
        self.parameter_lines = ceil_div(max(bias, LINE_BYTES), LINE_BYTES)
        self.parameters = lines.take(SLOTS * self.parameter_lines * LINE_BYTES, "bias")
        self.value_scale_lines = ceil_div(self.max_context * self.cache.scale_bytes, LINE_BYTES)
        self.value_scales = lines.take(2 * self.value_scale_lines * LINE_BYTES, "probability_quantise")
        widest = max(net.hidden, self.max_context, self.share.ffn[1])
        self.row_lines = ceil_div(widest * group, LINE_BYTES)
        self.group_rows = lines.take(RING * self.row_lines * LINE_BYTES, "attention_norm")
        self.tile_lines = ceil_div(block * block * FP32, LINE_BYTES)
        tile = self.machine.mv_columns * self.machine.cores
        self.gathered = lines.take(tile * group, "attention_residual")
        self.gathered_lines = ceil_div(self.machine.mv_columns * group, LINE_BYTES)
        self.result_lines = ceil_div(block * self.machine.mv_columns * FP32, LINE_BYTES)
        gated = "gate" in net.layers[0]
        fits = room.vector.bytes // LINE_BYTES - lines.used // LINE_BYTES
        self.results_held = 2 if gated or fits >= 2 * self.result_lines else 1
        self.results = lines.take(self.results_held * self.result_lines * LINE_BYTES, "up")
        # attention leaves its results in the first place: the second one has room for scores
        self.score_tiles = self.results + self.result_lines
        if self.results_held == 1 or RING * self.tile_lines > self.result_lines:
            self.score_tiles = lines.take(RING * self.tile_lines * LINE_BYTES, "qk")
        self.logits = self.results
        self.input_codes = acts.take(self._codes(net.hidden, net.layers[0]["k"].act), "attention_input_quantise")
        self.cell_lines = ceil_div(block * max(self.cache.key_bytes, self.cache.value_bytes), LINE_BYTES)
        self.cells = acts.take((2 * heads * self.cell_lines + heads * block) * LINE_BYTES, "kv_append")
        self.query_lines = ceil_div(block * net.head_dim, LINE_BYTES) + ceil_div(2 * block, LINE_BYTES)
        self.query_codes = acts.take(heads * net.queries * self.query_lines * LINE_BYTES, "query_quantise")
        self.probability_lines = ceil_div(block * (self.max_context + block), LINE_BYTES)
        self.probabilities = acts.take(2 * self.probability_lines * LINE_BYTES, "probability_quantise")
        self.mixed_codes = acts.take(self._codes(net.heads_width, net.layers[0]["o"].act), "attention_output_quantise")
        self.hidden_codes = acts.take(self._codes(net.ffn, net.layers[0]["down"].act), "ffn_hidden_quantise")
        self.head_codes = 0
        # residual vectors, scores of one head, own part of the widest input: behind the cache
        rows = ceil_div(net.batch * round_up(self.max_context, block), self.channels)
        self.x_at = self.cache_bytes
        self.x_row, self.x_bytes = net.hidden * FP32, rows * net.hidden * FP32
        self.scores_at = round_up(self.x_at + self.x_bytes, REGION_BYTES)
        self.score_row = round_up(self.max_context, block) * FP32
        self.own_at = round_up(self.scores_at + block // self.channels * self.score_row, REGION_BYTES)
        # norms behind the residual read whole results of o and down, which lie where their inputs did
        whole = net.hidden if net.post_norms else 0
        self.own_row = max(self.share.ffn[1], heads * net.queries * net.head_dim, whole) * FP32
        self.logits_at = round_up(self.own_at + block // self.channels * self.own_row, REGION_BYTES)
        self.scratch_bytes = self.logits_at - self.cache_bytes

    def _codes(self, k: int, act: Format) -> int:
        groups = k // act.group if act.group else 1
        return self.block * (round_up(k, LINE_BYTES) + round_up(2 * groups, LINE_BYTES))

    # -- rows on their way ---------------------------------------------------------------------------------------------

    def _load_rows(self, base: int, size: int, register: int = 0, *, pitch: int = 0) -> None:
        """A group of rows to the ring; ``base`` goes on behind it, or by ``pitch`` where rows lie further apart."""
        self.asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=int(not pitch),
                     base_register=base, bytes=size, bytes_register=register, buffer_line=self.group_rows,
                     buffer_register=R.PARAMETER)  # fmt: skip

    def _read(self) -> None:
        self.asm.rotate(R.PARAMETER, self.row_lines, RING * self.row_lines)

    def _gather_codes(self, name: str, linear: Linear, width: int, own: int, codes: int, rows: RowsOfBlock) -> None:
        """The cores gather a linear's input: codes that are there, or rows in memory whose largest values they
        exchange first; the next MM may start."""
        asm, act = self.asm, linear.act
        if not self._local(linear, width):
            if self.many:
                self._exchange_rows(name, FP32 * 8, self.machine.cores - 1, rows)
            asm.operator(name, "quantise")
            asm.set(R.A, self.own_at, source=R.CACHE)
            asm.set(R.B)
            asm.add("LD", wait=["ST"])
            with asm.loop(rows.groups, rows.groups_register):
                self._load_rows(R.A, own * FP32, pitch=self.own_row)
                asm.set(R.A, self.own_row, source=R.A)
                self._misc("quantise", self.channels, own, a=self.group_rows, a_register=R.PARAMETER, out=codes,
                           out_register=R.B, target="weight", wait=["LD"], release=["LD"])  # fmt: skip
                self._read()
                asm.set(R.B, ceil_div(self.channels * own, LINE_BYTES), source=R.B)
        if self.many:
            self._exchange_rows(name, act.bits + (16 / act.group if act.group else 0), width - own, rows)
        self._then_matrix()

    def _local(self, linear: Linear, width: int) -> bool:
        """Whether a core can quantise its part of an input alone, tile by tile."""
        return linear.static or bool(linear.act.group) and self._whole_groups(linear.act.group, width)

    def _exchange_rows(self, name: str, bits: float, elements: int, rows: RowsOfBlock) -> None:
        """An exchange behind the last MISC of ``elements`` of every row of a block; the next MISC waits for it."""
        asm = self.asm
        asm.operator(f"exchange:{name}", "exchange")
        with asm.loop(rows.groups, rows.groups_register):
            asm.add("MISC", release=["SYS"])
            asm.add("SYS", operation="exchange", value=ceil_div(int(self.channels * elements * bits), 8),
                    wait=["MISC"], release=["MISC"])  # fmt: skip
            self._join()

    def _leave(self, linear: Linear, local: bool, columns: int, rows: RowsOfBlock, name: str, codes: int) -> None:
        """Results of a tile: quantised, or as rows to memory at HEAD."""
        asm = self.asm
        if local:
            asm.operator(name, "quantise")
            self._rows_misc("quantise", rows, 1, columns, a=self.results, out=codes, target="weight",
                            group=log2_group(linear.act), static=linear.static)  # fmt: skip
            return
        asm.set(R.A, source=R.HEAD)
        asm.set(R.C)
        asm.add("MISC", release=["ST"])
        asm.add("ST", wait=["MISC"])
        with asm.loop(rows.groups, rows.groups_register):
            asm.add("ST", buffer="global", wide=1, base_register=R.A, bytes=columns * FP32, buffer_line=self.results,
                    buffer_register=R.C)  # fmt: skip
            asm.set(R.A, self.own_row, source=R.A)
            asm.set(R.C, ceil_div(self.channels * columns * FP32, LINE_BYTES), source=R.C)
        asm.set(R.HEAD, columns * FP32, source=R.HEAD)
        asm.add("ST", release=["MISC"])
        asm.add("MISC", wait=["ST"])

    # -- matrices ------------------------------------------------------------------------------------------------------

    def _then_matrix(self) -> None:
        """MM goes on when MISC has come here; by way of MV, because tokens from MISC to MM count free results."""
        self.asm.add("MISC", release=["MV"])
        self.asm.add("MV", wait=["MISC"], release=["MM"])
        self.asm.add("MM", wait=["MV"])

    def _matrix(self, tiling: Tiling, codes: int, rows: RowsOfBlock, fused: Callable[[int, int], None]) -> None:
        """All tiles of a linear, into two results by turns; ``fused`` (columns, result) gives the result free."""
        for times, columns, _ in tiling.tiles():
            with self.asm.loop(times // self.results_held) if times >= self.results_held else nullcontext():
                for result in range(self.results_held if times >= self.results_held else 0):
                    self._matrix_tile(tiling, columns, codes, rows, result)
                    fused(columns, result)
            for result in range(times % self.results_held):
                self._matrix_tile(tiling, columns, codes, rows, result)
                fused(columns, result)
            self._then_matrix()

    def _matrix_tile(
        self, tiling: Tiling, columns: int, codes: int, rows: RowsOfBlock, result: int, release: bool = True
    ) -> None:  # fmt: skip
        """One tile: its slabs as they lie in memory, steps of columns within a slab, pieces of K within a step."""
        asm, linear = self.asm, tiling.linear
        asm.operator(linear.name, "linear")
        self._fetch_bits(linear)
        asm.add("MM", wait=["MISC"])
        at = 0
        for k in tiling.slabs():
            scaled = at + k == linear.k or bool(linear.weight.group)
            asm.set(R.TILE)
            with asm.loop(ceil_div(columns, self.step)):
                self._pieces(tiling, k, at, scaled, codes, rows, result)
                asm.set(R.TILE, ceil_div(self.block * self.step * FP32, LINE_BYTES), source=R.TILE)
            at += k
        if release:
            asm.add("MM", release=["MISC"])

    def _pieces(
        self, tiling: Tiling, k: int, at: int, scaled: bool, codes: int, rows: RowsOfBlock, result: int
    ) -> None:  # fmt: skip
        """A step of columns of one slab: pieces of K that fit a slot of the act buffer."""
        linear, asm = tiling.linear, self.asm
        grain = max(LINE_BYTES, linear.weight.block or 1)
        longest = max(grain, self.slot // self.step // grain * grain)
        whole = tiling.slab_of(self.step, k, scaled)
        part = tiling.part_of(longest)
        middle = (k - 1) // longest
        first, loops = (1, middle - 1) if at == 0 and middle else (0, middle)
        done = 0
        for times in (first, loops):
            if times > 0:
                if times > 1:
                    asm.set(R.C)
                with asm.loop(times):
                    self._load_for_mm(linear, part.weight_bytes, part.scale_bytes, part.index_bytes)
                    self._mms(linear, longest, codes, rows, result, at + done, last=False, pieces=times)
                done += times * longest
        self._load_for_mm(
            linear, whole.weight_bytes - middle * part.weight_bytes, whole.scale_bytes - middle * part.scale_bytes,
            whole.index_bytes - middle * part.index_bytes,
        )  # fmt: skip
        self._mms(linear, k - done, codes, rows, result, at + done, last=at + k == linear.k, pieces=1)

    def _load_for_mm(self, linear: Linear, weights: int, scales: int, indices: int) -> None:
        parts = [("act", R.WEIGHTS, weights), ("scale", R.SCALES, scales), ("index", R.INDICES, indices)]
        parts = [part for part in parts if part[2] or part[0] == "act"]
        for number, (buffer, base, size) in enumerate(parts):
            self.asm.add(
                "LD", wait=["MM"] if number == 0 else (), release=["MM"] if number == len(parts) - 1 else (),
                buffer=buffer, slotted=1, wide=1, advance=1, base_register=base, buffer_register=R.SLOT,
                **self._size(linear, size, number == 0),
            )  # fmt: skip

    def _mms(
        self, linear: Linear, k: int, codes: int, rows: RowsOfBlock, result: int, at: int, *, last: bool, pieces: int
    ) -> None:  # fmt: skip
        """The MMs of one piece; the last one gives the slot free. Within a loop C counts the lines of K."""
        width = min(self.machine.mm_columns, self.step)
        count = self.step // width
        line = self.results + result * self.result_lines
        for number in range(count):
            self._mm(linear.weight, rows, columns=width, k_blocks=k // K_BLOCK, keep=linear.keep_n,
                     **self._bits(linear),
                     in_line=codes + at // LINE_BYTES, in_register=R.C if pieces > 1 else 0,
                     out_line=line + number * ceil_div(self.block * width * FP32, LINE_BYTES), out_register=R.TILE,
                     accumulate=at > 0, last=last, wait=["LD"] if number == 0 else [],
                     release=["LD"] if number == count - 1 else [])  # fmt: skip
        self.asm.rotate(R.SLOT, 1, SLOTS)
        if pieces > 1:
            self.asm.set(R.C, k // LINE_BYTES, source=R.C)

    def _mm(
        self, weight: Format, rows: RowsOfBlock, *, wait: Sequence[str], release: Sequence[str], **fields: Any
    ) -> None:
        self.asm.add("MM", wait=wait, release=release, **self._operand(weight) | {"rows": rows.rows,
                     "rows_register": rows.rows_register, "slot_register": R.SLOT} | fields)  # fmt: skip

    def _operand(self, weight: Format) -> dict[str, Any]:
        """Fields of MM that the streamed operand decides."""
        integer = weight.offset or weight.zero not in ("none", "f16-min")
        zero = "minimum" if weight.zero == "f16-min" else "integer" if integer else "none"
        return {"keep": 16, "group": log2_group(weight), "weight_bits": weight.bits, "zero": zero}

    # -- vectors of all rows -------------------------------------------------------------------------------------------

    def _rows_misc(
        self, operation: str, rows: RowsOfBlock, per_row: int, elements: int, **fields: Any
    ) -> None:  # fmt: skip
        """A MISC on ``per_row`` vectors of each row of the block: whole at once, the last one group by group."""
        if rows.whole:
            self._misc(operation, rows.rows * per_row, elements, **fields)
            return
        wait, release = fields.pop("wait", []), fields.pop("release", [])
        if per_row == 1:
            self._misc(operation, 0, elements, vectors_register=R.LAST_ROWS, wait=wait, release=release, **fields)
            return
        if wait:
            self.asm.add("MISC", wait=wait)
        with self.asm.loop(per_row):
            self._misc(operation, 0, elements, vectors_register=R.LAST_ROWS, **fields)
        if release:
            self.asm.add("MISC", release=release)

    def _bias_rows(self, tiling: Tiling, columns: int, rows: RowsOfBlock, result: int) -> list[str]:
        if not tiling.linear.bias:
            return ["MM"]
        at = self.results + result * self.result_lines
        asm, each = self.asm, channel_share(columns * FP32, self.channels)
        asm.operator(f"{tiling.linear.name}_bias", "bias")
        asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=1,
                base_register=R.PARAMETERS, bytes=each, buffer_line=self.group_rows,
                buffer_register=R.PARAMETER)  # fmt: skip
        self._rows_misc("bias", rows, 1, columns, a=at, b=self.group_rows, b_register=R.PARAMETER, out=at,
                        wait=["MM", "LD"], release=["LD"])  # fmt: skip
        self._read()
        return []
