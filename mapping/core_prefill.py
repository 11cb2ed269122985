"""The compact program of a prefill of one core: one text for every length.

Tokens run in blocks of as many rows as the matrix engine has; a layer finishes one block before the next begins, which
causality allows, since a block needs keys and values of itself and of those before. Weights stream in the order of
the decode program, once a block. In MM the buffers change roles: the weight buffer holds the activations of a block,
weights pass through slots of the act buffer.

A block's FP32 vectors do not fit on chip. The residual vectors, the scores and, where an activation scale needs a
whole row of all cores, a linear's input lie in memory: row r in channel r mod channels, so that a group of as many rows
as there are channels is one wide transfer. Embedding rows are gathered by the host.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.formats import Format
from mixflight.mapping.core_assembler import Register, Text
from mixflight.mapping.core_decode import FP32, DecodeText, log2_group
from mixflight.mapping.core_memory import REGION_BYTES, Arena, Cache, channel_share
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import Tiling, ceil_div, column_step, round_up, slot_bytes

R = Register
RING = 2
"""Row groups, and score tiles, in flight."""


class RowsOfBlock:
    """Rows of a block: as numbers for a whole one, in registers for the last."""

    def __init__(self, text: "PrefillText", whole: bool) -> None:
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


class PrefillText(DecodeText):
    """Writes the text of one core."""

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, max_context: int,
        shares: Sequence[Share], names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        self.shares = shares
        self.block = machine.mm_rows
        self.step = column_step(machine)
        self.slot = slot_bytes(machine)["act"]
        super().__init__(network, machine, share, cache, max_context, names=names)

    # -- buffers and memory ----------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        net, block, heads = self.network, self.block, self.share.heads[1]
        room = self.machine.buffers
        lines, acts = Arena("global", room.vector.bytes), Arena("weight", room.weight.bytes)
        group = self.channels * FP32
        self.norm_parameters = lines.take(2 * round_up(net.norm_bytes, LINE_BYTES), "attention_norm")
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

    # -- the program -----------------------------------------------------------------------------------------------

    def text(self) -> Text:
        """The program."""
        net, asm = self.network, self.asm
        asm.operator("embed", "embed")
        for _ in range(SLOTS):
            asm.add("MM", release=["LD"])
        for _ in range(RING):
            asm.add("MISC", release=["LD"])
            asm.add("ST", release=["MM"])
        for _ in range(self.results_held):
            asm.add("MISC", release=["MM"])
        if self.many:
            asm.add("SYS", operation="barrier", release=["MISC"])
        self._join()
        asm.set(R.KEYS, source=R.CACHE)
        asm.set(R.ROWS_AT, self.x_at, source=R.CACHE)
        with asm.loop(net.batch):
            self._embed()
        for first, count in self._runs():
            with asm.loop(count):
                self._prefill_layer(net.layers[first])
                self._next_row()
        self._last_token()
        return asm.finish()

    def _embed(self) -> None:
        """Rows of the embedding, gathered by the host, to the residual vectors in memory."""
        net, asm = self.network, self.asm

        def rows(item: RowsOfBlock) -> None:
            with asm.loop(item.groups, item.groups_register):
                asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", memory="ddr", advance=1,
                        base_register=R.EMBEDDING, bytes=self.channels * net.embedding_bytes,
                        buffer_line=self.group_rows, buffer_register=R.PARAMETER)  # fmt: skip
                self._misc("embed", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER,
                           out=self.group_rows, out_register=R.PARAMETER, wait=["LD"], release=["ST"])  # fmt: skip
                asm.add("ST", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=1,
                        base_register=R.ROWS_AT, bytes=self.x_row, buffer_line=self.group_rows,
                        buffer_register=R.PARAMETER)  # fmt: skip
                self._read()
                asm.add("MISC", wait=["ST"], release=["LD"])

        with asm.loop(0, R.FULL_BLOCKS):
            rows(RowsOfBlock(self, True))
        rows(RowsOfBlock(self, False))

    def _prefill_layer(self, layer: dict[str, Linear]) -> None:
        asm, net = self.asm, self.network
        asm.set(R.ROWS_AT, self.x_at, source=R.CACHE)
        pointers = (
            (R.LAYER_WEIGHTS, R.WEIGHTS), (R.LAYER_SCALES, R.SCALES), (R.LAYER_INDICES, R.INDICES),
            (R.LAYER_PARAMETERS, R.PARAMETERS),
        )  # fmt: skip
        for start, pointer in pointers:
            asm.set(start, source=pointer)

        def again() -> None:
            for start, pointer in pointers:
                asm.set(pointer, source=start)

        with asm.loop(net.batch):
            asm.set(R.DONE)
            with asm.loop(0, R.FULL_BLOCKS):
                again()
                self._block(layer, RowsOfBlock(self, True))
                asm.set(R.DONE, 1, source=R.DONE)
                asm.set(R.ROWS_AT, self.block // self.channels * self.x_row, source=R.ROWS_AT)
            again()
            self._block(layer, RowsOfBlock(self, False))
            # the next sequence: rows lie in whole blocks
            asm.set(R.ROWS_AT, self.block // self.channels * self.x_row, source=R.ROWS_AT)
            asm.set(R.KEYS, self.share.heads[1] * self.cache.stride, source=R.KEYS)
            self._sequence_done()

    def _sequence_done(self) -> None:
        """What else the next sequence needs: nothing."""

    def _block(self, layer: dict[str, Linear], rows: RowsOfBlock) -> None:
        net = self.network
        tiles = tilings(net, self.machine, self.share, layer)
        self._norm_rows("attention_norm", layer["k"], "attention_input_quantise", rows)
        heads = self.share.heads[1]
        if heads:
            self._projections(tiles, rows)
            self._attention_rows(layer["o"], rows)
        elif not self._local(layer["o"], net.heads_width):
            self.asm.add("ST", release=["LD"])  # no rows of its own that its LD would wait for
        own = heads * net.queries * net.head_dim
        self._gather_codes("attention_output_quantise", layer["o"], net.heads_width, own, self.mixed_codes, rows)
        self._residual_rows(tiles["o"], self.mixed_codes, "attention", rows)
        self._norm_rows("ffn_norm", layer["up"], "ffn_input_quantise", rows)
        self._ffn_rows(tiles, layer["down"], rows)
        self._gather_codes("ffn_hidden_quantise", layer["down"], net.ffn, self.share.ffn[1], self.hidden_codes,
                           rows)  # fmt: skip
        self._residual_rows(tiles["down"], self.hidden_codes, "ffn", rows)

    # -- rows of vectors -------------------------------------------------------------------------------------------

    def _norm_rows(self, name: str, linear: Linear, quantise: str, rows: RowsOfBlock) -> None:
        """Norm and quantisation of the residual vectors, a group of rows at a time; the next MM may start."""
        net, asm = self.network, self.asm
        asm.operator(name, "norm")
        self._norm_weights(name != "attention_norm")
        asm.set(R.A, source=R.ROWS_AT)
        asm.set(R.B)
        line = (name != "attention_norm") * ceil_div(net.norm_bytes, LINE_BYTES) + self.norm_parameters
        with asm.loop(rows.groups, rows.groups_register):
            asm.operator(name, "norm")
            self._load_rows(R.A, self.x_row)
            self._misc("norm", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER, b=line,
                       out=self.group_rows, out_register=R.PARAMETER, wait=["LD"])  # fmt: skip
            asm.operator(quantise, "quantise")
            self._misc("quantise", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER,
                       out=self.input_codes, out_register=R.B, target="weight", group=log2_group(linear.act),
                       static=linear.static, release=["LD"])  # fmt: skip
            self._read()
            asm.set(R.B, ceil_div(self.channels * net.hidden, LINE_BYTES), source=R.B)
        self._then_matrix()

    def _then_matrix(self) -> None:
        """MM goes on when MISC has come here; by way of MV, because tokens from MISC to MM count free results."""
        self.asm.add("MISC", release=["MV"])
        self.asm.add("MV", wait=["MISC"], release=["MM"])
        self.asm.add("MM", wait=["MV"])

    def _norm_weights(self, second: bool) -> None:
        each = channel_share(self.network.norm_bytes, self.channels)
        line = second * ceil_div(self.network.norm_bytes, LINE_BYTES) + self.norm_parameters
        self.asm.add("LD", release=["MISC"], buffer="global", wide=1, advance=1, base_register=R.PARAMETERS, bytes=each,
                     buffer_line=line)  # fmt: skip
        self.asm.add("MISC", wait=["LD"])

    def _load_rows(self, base: int, size: int, register: int = 0, *, pitch: int = 0) -> None:
        """A group of rows to the ring; ``base`` goes on behind it, or by ``pitch`` where rows lie further apart."""
        self.asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=int(not pitch),
                     base_register=base,
                     bytes=size, bytes_register=register, buffer_line=self.group_rows,
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

    # -- linears ---------------------------------------------------------------------------------------------------

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

    def _projections(self, tiles: dict[str, Tiling], rows: RowsOfBlock) -> None:
        """Keys and values to the cache, queries quantised."""
        net, asm, head = self.network, self.asm, self.network.head_dim
        heads = self.share.heads[1]
        for number, name in enumerate(("k", "v", "q")):
            tiling = tiles[name]

            def fused(columns: int, result: int, *, name: str = name, number: int = number) -> None:
                at = self.results + result * self.result_lines
                behind = self._bias_rows(tiles[name], columns, rows, result)
                per_row = columns // head
                if name != "v":
                    if net.head_norm_bytes:
                        asm.operator(f"{name}_norm", "norm")
                        self._rows_misc("norm", rows, per_row, head, a=at, out=at, wait=behind)
                        behind = []
                    if net.rope:
                        asm.operator(f"rope_{name}", "rope")
                        self._rows_misc("rope", rows, per_row, head, a=at, out=at, wait=behind)
                        behind = []
                kind, act = ("quantise", net.query) if name == "q" else ("kv_append", None)
                asm.operator("query_quantise" if name == "q" else "kv_append", kind)
                out = self.query_codes if name == "q" else self.cells + number * heads * self.cell_lines
                self._rows_misc(kind, rows, per_row, head, a=at, out=out, target="weight",
                                group=log2_group(act) if act else 0, static=name == "q" and net.static_query,
                                                 wait=behind,
                                release=["MM"])  # fmt: skip

            self._matrix(tiling, self.input_codes, rows, fused)
        asm.operator("kv_append", "kv_append")
        asm.add("MISC", release=["ST"])
        asm.add("ST", wait=["MISC"])
        asm.set(R.A, source=R.KEYS)
        asm.set(R.C)
        parts = ((0, rows.keys, 0), (self.cache.value_at, rows.values, heads * self.cell_lines),
                 (self.cache.scale_at, rows.scales, 2 * heads * self.cell_lines))  # fmt: skip
        # rows of the blocks before lie in front: DONE blocks, which a loop adds
        asm.set(R.B)
        asm.set(R.TILE)
        asm.set(R.HEAD)
        each = self.block // self.channels
        with asm.loop(0, R.DONE):
            asm.set(R.B, each * self.cache.key_bytes, source=R.B)
            asm.set(R.TILE, each * self.cache.value_bytes, source=R.TILE)
            asm.set(R.HEAD, each * self.cache.scale_bytes, source=R.HEAD)
        asm.set(R.RESULT)
        with asm.loop(heads):
            for (at, (size, register), line), before in zip(parts, (R.B, R.TILE, R.HEAD), strict=True):
                asm.set(R.C, at, source=R.A, other=before)
                asm.add("ST", buffer="weight", wide=1, base_register=R.C, bytes=size, bytes_register=register,
                        buffer_line=self.cells + line, buffer_register=R.RESULT)  # fmt: skip
            asm.set(R.A, self.cache.stride, source=R.A)
            asm.set(R.RESULT, self.cell_lines, source=R.RESULT)
        asm.add("ST", release=["LD"])
        asm.add("LD", wait=["ST"])

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

    def _residual_rows(self, tiling: Tiling, codes: int, part: str, rows: RowsOfBlock) -> None:
        """o or down: every tile is added to its columns of the residual vectors, which the cores exchange; with a norm
        behind, tiles are exchanged as they are, and whole rows normed and added after the last one."""
        asm, post = self.asm, self.network.post_norms
        asm.operator(f"{part}_residual", "residual")
        if post:
            asm.set(R.HEAD, self.own_at + tiling.first * FP32, source=R.CACHE)
        else:
            asm.set(R.HEAD, tiling.first * FP32, source=R.ROWS_AT)

        def fused(columns: int, result: int) -> None:
            behind = self._bias_rows(tiling, columns, rows, result)
            asm.operator(f"{part}_residual", "residual")
            if behind:
                asm.add("MISC", wait=behind)
            self._add_rows(tiling, columns, self.results + result * self.result_lines, part, rows)
            asm.add("MISC", release=["MM"])

        self._matrix(tiling, codes, rows, fused)
        # where another core has a tile more, its exchange needs this one too
        widest = self.machine.mv_columns
        most = max(ceil_div(share.hidden[1], widest) for share in self.shares)
        for _ in range(most - ceil_div(tiling.columns, widest)):
            self._add_rows(tiling, 0, self.results, part, rows)
        asm.add("ST", release=["LD"])
        asm.add("LD", wait=["ST"])
        if post:
            self._post_norm_rows(part, rows)

    def _add_rows(self, tiling: Tiling, columns: int, line: int, part: str, rows: RowsOfBlock) -> None:
        """Add a tile's results to the residual vectors at HEAD, group by group, and take the other cores' parts; with a
        norm behind, to the rows at HEAD without addition."""
        asm, cores, post = self.asm, self.machine.cores, self.network.post_norms
        row = self.own_row if post else self.x_row
        ready = "SYS" if self.many else "ST"
        asm.set(R.A, source=R.HEAD)
        asm.set(R.C)
        with asm.loop(rows.groups, rows.groups_register):
            if post:
                asm.add("MISC", release=[ready])
            else:
                asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, base_register=R.A,
                        bytes=columns * FP32, buffer_line=self.group_rows, buffer_register=R.PARAMETER)  # fmt: skip
                self._misc("residual", self.channels if columns else 0, columns, a=line, a_register=R.C,
                           b=self.group_rows, b_register=R.PARAMETER, out=self.gathered, wait=["LD"],
                           release=["LD", ready])  # fmt: skip
                self._read()
            if self.many:
                asm.operator(f"exchange:{part}_residual", "exchange")
                asm.add("SYS", operation="exchange", value=(cores - 1) * self.channels * columns * FP32,
                        line=self.gathered, wait=["MISC"], release=["ST"])  # fmt: skip
                asm.operator(f"{part}_residual", "residual")
            for core in range(cores):
                away = (self.shares[core].hidden[0] - tiling.first) * FP32
                own = post and self.shares[core].hidden[0] == tiling.first
                at = {"buffer_line": line, "buffer_register": R.C} if own else {
                    "buffer_line": self.gathered + core * self.gathered_lines}  # fmt: skip
                asm.set(R.B, away, source=R.A)
                asm.add("ST", wait=[["MISC"], ["SYS"]][self.many] if core == 0 else [],
                        release=["MISC"] if core == cores - 1 else [], buffer="global", wide=1, base_register=R.B,
                        bytes=columns * FP32, **at)  # fmt: skip
            asm.add("MISC", wait=["ST"])
            asm.set(R.A, row, source=R.A)
            asm.set(R.C, ceil_div(self.channels * columns * FP32, LINE_BYTES), source=R.C)
        asm.set(R.HEAD, columns * FP32, source=R.HEAD)

    def _post_norm_rows(self, part: str, rows: RowsOfBlock) -> None:
        """Norm of whole results of o or down, a group of rows at a time, added to the residual vectors."""
        net, asm = self.network, self.asm
        asm.operator(f"{part}_post_norm", "norm")
        self._norm_weights(part == "ffn")
        line = (part == "ffn") * ceil_div(net.norm_bytes, LINE_BYTES) + self.norm_parameters
        asm.set(R.A, source=R.ROWS_AT)
        asm.set(R.B, self.own_at, source=R.CACHE)
        with asm.loop(rows.groups, rows.groups_register):
            asm.operator(f"{part}_post_norm", "norm")
            asm.set(R.C, source=R.PARAMETER)
            asm.set(R.TILE, source=R.B)
            self._load_rows(R.TILE, self.x_row)
            self._misc("norm", self.channels, net.hidden, a=self.group_rows, a_register=R.C, b=line,
                       out=self.group_rows, out_register=R.C, wait=["LD"])  # fmt: skip
            self._read()
            asm.operator(f"{part}_residual", "residual")
            asm.set(R.TILE, source=R.A)
            self._load_rows(R.TILE, self.x_row)
            self._misc("residual", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER,
                       b=self.group_rows, b_register=R.C, out=self.group_rows, out_register=R.PARAMETER, wait=["LD"],
                       release=["ST"])  # fmt: skip
            asm.add("ST", wait=["MISC"], release=["MISC"], buffer="global", wide=1, base_register=R.A, bytes=self.x_row,
                    buffer_line=self.group_rows, buffer_register=R.PARAMETER)  # fmt: skip
            self._read()
            asm.add("MISC", wait=["ST"], release=["LD"])
            asm.add("MISC", release=["LD"])
            asm.set(R.A, self.x_row, source=R.A)
            asm.set(R.B, self.own_row, source=R.B)

    def _ffn_rows(self, tiles: dict[str, Tiling], down: Linear, rows: RowsOfBlock) -> None:
        """Gate and up tile by tile, activation and product, then codes, or rows in memory."""
        gate, up, asm = tiles.get("gate"), tiles["up"], self.asm
        local = self._local(down, self.network.ffn)
        last = self.results + (self.results_held - 1) * self.result_lines
        asm.set(R.HEAD, self.own_at, source=R.CACHE)
        for times, columns, _ in up.tiles():
            with asm.loop(times):
                if gate is not None:
                    self._matrix_tile(gate, columns, self.input_codes, rows, 0, release=False)
                self._matrix_tile(up, columns, self.input_codes, rows, self.results_held - 1)
                behind = self._bias_rows(up, columns, rows, self.results_held - 1)
                asm.operator("ffn_activation", "activation")
                self._rows_misc(self.network.activation, rows, 1, columns, a=self.results if gate else last,
                                b=last, out=self.results, wait=behind)  # fmt: skip
                self._leave(down, local, columns, rows, "ffn_hidden_quantise", self.hidden_codes)
                asm.add("MISC", release=["MM"])
                if gate is not None:
                    asm.add("MISC", release=["MM"])
        self._then_matrix()
        if not local:
            asm.add("ST", release=["LD"])

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

    # -- attention -------------------------------------------------------------------------------------------------

    def _attention_rows(self, linear: Linear, rows: RowsOfBlock) -> None:
        """Every query head on the blocks before and, causally, its own: scores to memory, softmax by rows, values."""
        net, asm = self.network, self.asm
        asm.operator("qk", "qk")
        asm.set(R.CONTEXT, source=rows.rows_register, value=rows.rows)
        asm.set(R.CONTEXT_BYTES, source=rows.rows_register, value=rows.rows)
        with asm.loop(0, R.DONE):
            asm.set(R.CONTEXT, self.block, source=R.CONTEXT)
        asm.set(R.CONTEXT_BYTES, source=R.CONTEXT, other=R.CONTEXT)
        asm.set(R.CONTEXT_BYTES, source=R.CONTEXT_BYTES, other=R.CONTEXT_BYTES)
        local = self._local(linear, net.heads_width)
        asm.set(R.HEAD, self.own_at, source=R.CACHE)
        asm.set(R.A, source=R.KEYS)
        with asm.loop(self.share.heads[1]):
            with asm.loop(net.queries):
                self._attention_head(linear, local, rows)
            asm.set(R.A, self.cache.stride, source=R.A)
        if not local:
            asm.add("ST", release=["LD"])

    def _attention_head(self, linear: Linear, local: bool, rows: RowsOfBlock) -> None:
        """One query head, the cache of which is at A."""
        asm, cache, each = self.asm, self.cache, self.block // self.channels
        asm.operator("qk", "qk")
        asm.set(R.C, source=R.A)
        asm.set(R.B, cache.scale_at, source=R.A)
        asm.set(R.RESULT, self.scores_at, source=R.CACHE)
        with asm.loop(0, R.DONE):
            self._score_tile((each * cache.key_bytes, 0), (each * cache.scale_bytes, 0), self.block // K_BLOCK, 0,
                             rows)  # fmt: skip
        self._score_tile(rows.keys, rows.scales, rows.blocks, rows.blocks_register, rows)
        asm.add("ST", release=["LD"])
        self._softmax_rows(rows)
        asm.operator("av", "av")
        asm.add("MM", wait=["MISC"])
        asm.set(R.C, cache.value_at, source=R.A)
        with asm.loop(0, R.DONE):
            asm.set(R.C, each * cache.value_bytes, source=R.C)
        self._value_tile(rows.values, rows.blocks, rows.blocks_register, False, rows)
        asm.set(R.C, cache.value_at, source=R.A)
        with asm.loop(0, R.DONE):
            self._value_tile((each * cache.value_bytes, 0), self.block // K_BLOCK, 0, True, rows)
        asm.add("MM", release=["MISC"])
        asm.add("MISC", wait=["MM"])
        asm.set(R.B, source=R.A)
        self._leave_head(linear, local, rows)
        asm.add("MISC", release=["MM"])

    def _leave_head(self, linear: Linear, local: bool, rows: RowsOfBlock) -> None:
        """The mixed values of a head, as ``_leave``, but A keeps the cache's place."""
        self._leave(linear, local, self.network.head_dim, rows, "attention_output_quantise", self.mixed_codes)
        self.asm.set(R.A, source=R.B)

    def _score_tile(
        self, keys: tuple[int, int], scales: tuple[int, int], blocks: int, register: int, rows: RowsOfBlock
    ) -> None:  # fmt: skip
        """Scores of the block with one block of keys, to memory group by group."""
        net, asm, width = self.network, self.asm, K_BLOCK
        asm.add("LD", wait=["MM"], buffer="act", slotted=1, wide=1, advance=1, base_register=R.C,
                buffer_register=R.SLOT, bytes=keys[0], bytes_register=keys[1])  # fmt: skip
        asm.add("LD", release=["MM"], buffer="scale", slotted=1, wide=1, advance=1, base_register=R.B,
                buffer_register=R.SLOT, bytes=scales[0], bytes_register=scales[1])  # fmt: skip
        asm.add("MM", wait=["LD", "ST"])
        asm.set(R.TILE)
        with asm.loop(blocks, register):
            self._mm(net.key, rows, columns=width, k_blocks=net.head_dim // K_BLOCK, in_line=self.query_codes,
                     out_line=self.score_tiles, out_register=R.TILE, last=1, wait=[], release=[])  # fmt: skip
            asm.set(R.TILE, ceil_div(self.block * width * FP32, LINE_BYTES), source=R.TILE)
        asm.add("MM", release=["LD", "ST"])
        asm.rotate(R.SLOT, 1, SLOTS)
        asm.set(R.TILE, source=R.RESULT)
        asm.add("ST", wait=["MM"])
        with asm.loop(rows.groups, rows.groups_register):
            asm.add("ST", buffer="global", wide=1, base_register=R.TILE, bytes=self.block * FP32,
                    buffer_line=self.score_tiles)  # fmt: skip
            asm.set(R.TILE, self.score_row, source=R.TILE)
        asm.add("ST", release=["MM"])
        asm.set(R.RESULT, self.block * FP32, source=R.RESULT)

    def _softmax_rows(self, rows: RowsOfBlock) -> None:
        """Softmax and quantisation of the scores in memory, a group of rows at a time; MM may go on."""
        asm, cache = self.asm, self.cache
        asm.operator("softmax", "softmax")
        asm.add("LD", wait=["ST"])
        asm.set(R.C, cache.scale_at, source=R.A)
        asm.set(R.TILE)
        with asm.loop(0, R.DONE):
            asm.set(R.TILE, self.block // self.channels * cache.scale_bytes, source=R.TILE)
        size, register = rows.scales
        asm.set(R.TILE, size, source=R.TILE, other=register)
        asm.add("LD", release=["MISC"], buffer="global", wide=1, base_register=R.C, bytes_register=R.TILE,
                buffer_line=self.value_scales)  # fmt: skip
        asm.add("MISC", wait=["LD"])
        asm.set(R.C, self.scores_at, source=R.CACHE)
        with asm.loop(rows.groups, rows.groups_register):
            asm.operator("softmax", "softmax")
            asm.set(R.TILE, source=R.C)
            self._load_rows(R.TILE, 0, R.CONTEXT_BYTES)
            at: dict[str, Any] = {"a": self.group_rows, "a_register": R.PARAMETER, "elements_register": R.CONTEXT,
                                  "causal": 1}  # fmt: skip
            self._attention_misc(self.probabilities, at)
            self._read()
            asm.set(R.C, self.score_row, source=R.C)
        self._then_matrix()

    def _attention_misc(self, out: int, at: dict[str, Any]) -> None:
        """Softmax, and a cap before it, of a group of rows that LD brings; their codes to line ``out``."""
        net, asm = self.network, self.asm
        behind = ["LD"]
        if net.attention_cap:
            asm.operator("attention_cap", "softcap")
            self._misc("softcap", self.channels, 0, out=self.group_rows, out_register=R.PARAMETER, wait=behind, **at)
            behind = []
        asm.operator("softmax", "softmax")
        self._misc("softmax", self.channels, 0, out=self.group_rows, out_register=R.PARAMETER, wait=behind, **at)
        asm.operator("probability_quantise", "quantise")
        self._misc("probability_quantise", self.channels, 0, b=self.value_scales, out=out, target="weight",
                   static=net.static_query, release=["LD"], **at)  # fmt: skip

    def _value_tile(
        self, values: tuple[int, int], blocks: int, register: int, accumulate: bool, rows: RowsOfBlock
    ) -> None:
        """Probabilities times one block of values."""
        net, asm = self.network, self.asm
        asm.add("LD", wait=["MM"], release=["MM"], buffer="act", slotted=1, wide=1, advance=1, base_register=R.C,
                buffer_register=R.SLOT, bytes=values[0], bytes_register=values[1])  # fmt: skip
        width = min(self.machine.mm_columns, net.head_dim)
        count = ceil_div(net.head_dim, width)
        for number in range(count):
            self._mm(net.value, rows, columns=width, k_blocks=blocks, k_register=register, transpose=1, last=1,
                     accumulate=accumulate, in_line=self.probabilities, out_line=self.results,
                     wait=["LD"] if number == 0 else [], release=["LD"] if number == count - 1 else [])  # fmt: skip
        asm.rotate(R.SLOT, 1, SLOTS)

    # -- the last token --------------------------------------------------------------------------------------------

    def _last_token(self) -> None:
        """Logits of the last token of every sequence: a vector, as in a decode step."""
        net, asm = self.network, self.asm
        asm.operator("final_norm", "norm")
        self._norm_weights(True)
        line = ceil_div(net.norm_bytes, LINE_BYTES) + self.norm_parameters
        blocks = self.block // self.channels * self.x_row
        row_lines = ceil_div(net.hidden * FP32, LINE_BYTES)
        asm.set(R.A, self.x_at, source=R.CACHE)
        asm.set(R.HEAD)
        with asm.loop(net.batch):
            # the group of rows with the last token, and the token's place in it
            with asm.loop(0, R.FULL_BLOCKS):
                asm.set(R.A, blocks, source=R.A)
            asm.set(R.TILE, -self.x_row, source=R.A)
            asm.set(R.B, self.channels - 1, source=R.LAST_ROWS)
            with asm.loop(0, R.LAST_GROUPS):
                asm.set(R.TILE, self.x_row, source=R.TILE)
                asm.set(R.B, -self.channels, source=R.B)
            asm.set(R.C, source=R.PARAMETER)
            with asm.loop(0, R.B):
                asm.set(R.C, row_lines, source=R.C)
            self._load_rows(R.TILE, self.x_row)
            self._misc("norm", 1, net.hidden, a=self.group_rows, a_register=R.C, b=line, out=self.results,
                       out_register=R.HEAD, wait=["LD"], release=["LD"])  # fmt: skip
            self._read()
            asm.set(R.A, blocks, source=R.A)
            asm.set(R.HEAD, row_lines, source=R.HEAD)
        asm.operator("head_input_quantise", "quantise")
        self._misc("quantise", self.rows, net.hidden, a=self.results, out=self.head_codes, act=net.head.act,
                   static=net.head.static, release=["MV"])  # fmt: skip
        for _ in range(SLOTS):
            asm.add("LD", wait=["MM"])
            asm.add("MV", release=["LD"])
        asm.add("MV", wait=["MISC"])
        asm.set(R.SLOT)
        asm.set(R.SLOT)
        self._logits(self.logits_at)
        for _ in range(SLOTS):
            asm.add("LD", wait=["MV"])
        for _ in range(RING):
            asm.add("LD", wait=["MISC"])
            asm.add("MM", wait=["ST"])
        for _ in range(self.results_held):
            asm.add("MM", wait=["MISC"])
        asm.add("SYS", operation="done", wait=["ST"])
