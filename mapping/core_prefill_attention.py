"""Attention in the text of a prefill: keys and values to the cache, then each query head on blocks up to its own."""

from typing import Any

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.mapping.core_assembler import Register
from mixflight.mapping.core_decode import FP32, log2_group
from mixflight.mapping.core_network import Linear
from mixflight.mapping.core_prefill_rows import RowsOfBlock, RowsText
from mixflight.mapping.core_tiles import Tiling, ceil_div

R = Register


class AttentionText(RowsText):
    """Projections and attention of a block's rows, for one core."""

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
            self._misc("softcap", self.channels, 0, b=self.caps, out=self.group_rows, out_register=R.PARAMETER,
                       wait=behind, **at)  # fmt: skip
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
