"""The compact program of a prefill of one core: one text for every length.

Tokens run in blocks of as many rows as the matrix engine has (``core_prefill_rows``); a layer finishes one block before
the next begins, which causality allows, since a block needs keys and values of itself and of those before
(``core_prefill_attention``). Weights stream in the order of the decode program, once a block. Embedding rows are
gathered by the host.
"""

from collections.abc import Sequence

from mixflight.arch.compact import LINE_BYTES, SLOTS
from mixflight.mapping.core_assembler import Register, Text
from mixflight.mapping.core_decode import FP32, log2_group
from mixflight.mapping.core_memory import channel_share
from mixflight.mapping.core_network import Linear
from mixflight.mapping.core_prefill_attention import AttentionText
from mixflight.mapping.core_prefill_rows import RING, RowsOfBlock
from mixflight.mapping.core_shares import tilings
from mixflight.mapping.core_tiles import Tiling, ceil_div

R = Register


class PrefillText(AttentionText):
    """Writes the text of one core."""

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
        self._load_caps()
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
        """Rows of the embedding and, behind those of a group, learned positions, gathered by the host, to the residual
        vectors in memory."""
        net, asm = self.network, self.asm

        def rows(item: RowsOfBlock) -> None:
            with asm.loop(item.groups, item.groups_register):
                asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", memory="ddr", advance=1,
                        base_register=R.EMBEDDING, bytes=self.channels * net.embedding_bytes,
                        buffer_line=self.group_rows, buffer_register=R.PARAMETER)  # fmt: skip
                self._misc("embed", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER,
                           out=self.group_rows, out_register=R.PARAMETER, wait=["LD"],
                           release=[] if net.positions else ["ST"])  # fmt: skip
                at = self._add_positions() if net.positions else R.PARAMETER
                asm.add("ST", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=1,
                        base_register=R.ROWS_AT, bytes=self.x_row, buffer_line=self.group_rows,
                        buffer_register=at)  # fmt: skip
                self._read()
                asm.add("MISC", wait=["ST"], release=["LD"])
                if net.positions:
                    asm.add("MISC", release=["LD"])

        with asm.loop(0, R.FULL_BLOCKS):
            rows(RowsOfBlock(self, True))
        rows(RowsOfBlock(self, False))

    def _add_positions(self) -> Register:
        """The positions of a group of rows to the next place of the ring, added to the rows; the register of these."""
        net, asm = self.network, self.asm
        asm.operator("positions", "bias")
        asm.set(R.C, source=R.PARAMETER)
        self._read()
        asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", memory="ddr", advance=1,
                base_register=R.EMBEDDING, bytes=self.channels * net.position_bytes, buffer_line=self.group_rows,
                buffer_register=R.PARAMETER)  # fmt: skip
        self._misc("residual", self.channels, net.hidden, a=self.group_rows, a_register=R.C, b=self.group_rows,
                   b_register=R.PARAMETER, out=self.group_rows, out_register=R.C, wait=["LD"],
                   release=["ST"])  # fmt: skip
        asm.operator("embed", "embed")
        return R.C

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

    # -- parts of a layer ----------------------------------------------------------------------------------------------

    def _norm_rows(self, name: str, linear: Linear, quantise: str, rows: RowsOfBlock) -> None:
        """Norm and quantisation of the residual vectors, a group of rows at a time; the next MM may start."""
        net, asm = self.network, self.asm
        asm.operator(name, net.norm)
        self._norm_weights(name != "attention_norm")
        asm.set(R.A, source=R.ROWS_AT)
        asm.set(R.B)
        with asm.loop(rows.groups, rows.groups_register):
            self._load_rows(R.A, self.x_row)
            self._normed(name, self.channels, name != "attention_norm", R.PARAMETER, self.group_rows, R.PARAMETER)
            asm.operator(quantise, "quantise")
            self._misc("quantise", self.channels, net.hidden, a=self.group_rows, a_register=R.PARAMETER,
                       out=self.input_codes, out_register=R.B, target="weight", group=log2_group(linear.act),
                       static=linear.static, release=["LD"])  # fmt: skip
            self._read()
            asm.set(R.B, ceil_div(self.channels * net.hidden, LINE_BYTES), source=R.B)
        self._then_matrix()

    def _norm_line(self, second: bool) -> int:
        """Line of the weights of a layer's norms; a bias lies behind them."""
        return self.norm_parameters + second * self.network.norm_parameters * self.norm_lines

    def _norm_weights(self, second: bool) -> None:
        each, count = channel_share(self.network.norm_bytes, self.channels), self.network.norm_parameters
        for number in range(count):
            self.asm.add("LD", release=["MISC"] if number == count - 1 else [], buffer="global", wide=1, advance=1,
                         base_register=R.PARAMETERS, bytes=each,
                         buffer_line=self._norm_line(second) + number * self.norm_lines)  # fmt: skip
        self.asm.add("MISC", wait=["LD"])

    def _normed(
        self, name: str, vectors: int, second: bool, register: int, out: int, out_register: int,
        release: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Norm of the rows at ``register`` of the ring, which LD brings, and the bias of a LayerNorm."""
        net, asm, line = self.network, self.asm, self._norm_line(second)
        biased = net.norm == "layernorm"
        asm.operator(name, net.norm)
        self._misc(net.norm, vectors, net.hidden, a=self.group_rows, a_register=register, b=line, out=out,
                   out_register=out_register, wait=["LD"], release=() if biased else release)  # fmt: skip
        if biased:
            asm.operator(f"{name}_bias", "bias")
            self._misc("bias", vectors, net.hidden, a=out, a_register=out_register, b=line + self.norm_lines, out=out,
                       out_register=out_register, release=release)  # fmt: skip

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
        asm.operator(f"{part}_post_norm", net.norm)
        self._norm_weights(part == "ffn")
        asm.set(R.A, source=R.ROWS_AT)
        asm.set(R.B, self.own_at, source=R.CACHE)
        with asm.loop(rows.groups, rows.groups_register):
            asm.operator(f"{part}_post_norm", net.norm)
            asm.set(R.C, source=R.PARAMETER)
            asm.set(R.TILE, source=R.B)
            self._load_rows(R.TILE, self.x_row)
            self._normed(f"{part}_post_norm", self.channels, part == "ffn", R.C, self.group_rows, R.C)
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

    # -- the last token ------------------------------------------------------------------------------------------------

    def _last_token(self) -> None:
        """Logits of the last token of every sequence: a vector, as in a decode step."""
        net, asm = self.network, self.asm
        asm.operator("final_norm", net.norm)
        self._norm_weights(True)
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
            self._normed("final_norm", 1, True, R.C, self.results, R.HEAD, release=["LD"])
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
