"""The compact program of a decode step of one core: one text for every length and, where layers are alike, every layer.

Activations never leave the chip: LD brings weights, scales, indices, parameters, cache and one row of the embedding,
ST takes the new token's keys and values and the logits away.

Tokens. A tile's last LD gives one to MV, and MV gives one back to LD when the tile's slot is free; ``SLOTS`` tokens
from MV start the ring and are taken back at the end, so LD runs ahead across operators and layers. Parameters ring the
same way between LD and MISC. All other tokens order two neighbouring steps. Scores and probabilities are kept for two
heads: while the SFU works on one head, MV computes the scores of the next.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mixflight.arch.compact import K_BLOCK, LINE_BYTES, SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.mapping.core_assembler import Assembler, Register, Text
from mixflight.mapping.core_memory import PARAMETER_SLOTS, REGION_BYTES, Arena, Cache, channel_share
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import Slab, Tiling, ceil_div, round_up, tiling_of

R = Register
FP32 = 4
MV_ROWS = 255
CAP_BYTES = 2 * LINE_BYTES
"""Of the constants of soft caps: a line for scores and one for logits."""


class DecodeText:
    """Writes the text of one core.

    ``max_context`` tokens fit the cache and the buffers of scores; longer ones are an InputError here. Not ``on_chip``:
    the results of every fused layer go to memory and come back before the next, as in the published generator.
    ``names`` of operators are common to all cores.
    """

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, max_context: int,
        on_chip: bool = True, names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        if network.batch > MV_ROWS:
            raise InputError(f"batch must be at most {MV_ROWS} sequences, not {network.batch}")
        self.network, self.machine, self.share, self.cache = network, machine, share, cache
        self.on_chip = on_chip
        self.rows, self.channels = network.batch, machine.hbm.channels_per_core
        self.many = machine.cores > 1
        self.max_context = round_up(max_context, K_BLOCK)
        self.asm = Assembler(names)
        self.tile = kv_tile(machine)
        self.cache_bytes = round_up(len(network.layers) * self.batch_heads * cache.stride, REGION_BYTES)
        self.logit_bytes = round_up(
            channel_share(self.rows * share.vocab[1] * FP32, self.channels), REGION_BYTES
        )  # fmt: skip
        widest = max(network.heads_width, network.hidden, network.ffn)
        spilled = channel_share(self.rows * widest * FP32, self.channels) + self.logit_bytes
        self.scratch_bytes = 0 if on_chip else spilled
        self.columns: dict[str, int] = {}
        self._allocate()

    # -- buffers ---------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        net, rows = self.network, self.rows
        room, acts = self.machine.buffers.vector.bytes, self.machine.buffers.act.bytes
        lines, codes = Arena("global", room), Arena("act", acts)
        heads, step = self.share.heads[1], net.queries * net.head_dim
        scale_bytes = channel_share(self.max_context * self.cache.scale_bytes, self.channels) * self.channels
        self.parameter_lines = self._parameter_lines(rows * net.embedding_bytes, scale_bytes)
        vector = net.hidden * FP32 * rows
        self.x = lines.take(vector, "embed")
        self.normed = lines.take(vector, "attention_norm")
        self.parameters = lines.take(PARAMETER_SLOTS * self.parameter_lines * LINE_BYTES, "softmax")
        self.o_out = lines.take(vector if net.post_norms else 0, "o")
        self.caps = lines.take(self._dealt(CAP_BYTES) if net.capped else 0, "softcap")
        # attention, FFN and logits follow one another: MV starts each behind the last MISC of the one before
        lines.stages()
        # gathered vectors lie in the same lines on all cores, whatever the shares
        self.head_lines = ceil_div(step * FP32, LINE_BYTES)
        gathered = lines.take((rows * net.kv_heads + 2) * self.head_lines * LINE_BYTES, "av")
        self.gathered = gathered + 2 * self.head_lines
        self.mixed = self.gathered + self.share.heads[0] * self.head_lines
        self.k_out = lines.take(rows * heads * net.head_dim * FP32, "k")
        self.v_out = lines.take(rows * heads * net.head_dim * FP32, "v")
        self.q_out = lines.take(rows * heads * step * FP32, "q")
        self.score_lines = ceil_div(net.queries * self.max_context * FP32, LINE_BYTES)
        self.scores = lines.take(2 * self.score_lines * LINE_BYTES, "qk")
        lines.stage()
        self.gate_out = lines.take(rows * net.ffn * FP32, "ffn_activation")
        self.up_out = lines.take(rows * self.share.ffn[1] * FP32, "up")
        lines.stage()
        self.logits = lines.take(rows * self.share.vocab[1] * FP32, "head")
        inputs = (net.layers[0]["k"].act, net.layers[0]["up"].act, net.head.act)
        widest = max(self._code_bytes(net.hidden, act) for act in inputs)
        self.input_codes = codes.take(widest, "attention_input_quantise")
        # o's input comes when k, v and q have read theirs
        self.mixed_codes = self.input_codes
        more = self._code_bytes(net.heads_width, net.layers[0]["o"].act) - widest
        codes.take(max(0, more), "attention_output_quantise")
        codes.stages()
        self.key_lines = ceil_div(self.cache.key_bytes, LINE_BYTES)
        self.value_lines = ceil_div(self.cache.value_bytes, LINE_BYTES)
        self.cell_lines = self.key_lines + self.value_lines + 1
        self.cells = codes.take(self.batch_heads * self.cell_lines * LINE_BYTES, "kv_append")
        self.query_codes = codes.take(self.batch_heads * self.head_lines * LINE_BYTES, "query_quantise")
        self.probability_lines = ceil_div(net.queries * (self.max_context + LINE_BYTES), LINE_BYTES)
        self.probabilities = codes.take(2 * self.probability_lines * LINE_BYTES, "probability_quantise")
        codes.stage()
        self.hidden_codes = codes.take(self._code_bytes(net.ffn, net.layers[0]["down"].act), "ffn_hidden_quantise")
        self.head_codes = self.input_codes  # no one reads the layers' input any more

    def _dealt(self, size: int) -> int:
        """Bytes that a wide transfer of ``size`` bytes writes."""
        return channel_share(size, self.channels) * self.channels

    def _parameter_lines(self, *sizes: int) -> int:
        """Lines that hold any parameters: of norms, of a tile's biases, and ``sizes`` bytes."""
        net, layer = self.network, self.network.layers[0]
        tiles = [item.tile for item in tilings(net, self.machine, self.share, layer).values() if item.linear.bias]
        vectors = (net.norm_bytes, net.head_norm_bytes, *(FP32 * item for item in tiles))
        most = max(self._dealt(size) for size in vectors)
        return ceil_div(max(most, *sizes), LINE_BYTES)

    @property
    def batch_heads(self) -> int:
        """KV heads of all sequences on this core."""
        return self.network.batch * self.share.heads[1]

    def _lines(self, columns: int) -> int:
        """Lines of ``columns`` FP32 results of every row: rows lie interleaved."""
        return self.rows * ceil_div(columns * FP32, LINE_BYTES)

    def _code_bytes(self, k: int, act: Format) -> int:
        groups = k // act.group if act.group else 1
        return self.rows * (round_up(k, LINE_BYTES) + round_up(2 * groups, LINE_BYTES))

    # -- the program -----------------------------------------------------------------------------------------------

    def text(self) -> Text:
        """The program."""
        net, asm = self.network, self.asm
        asm.operator("embed", "embed")
        for _ in range(SLOTS):
            asm.add("MV", release=["LD"])
        for _ in range(PARAMETER_SLOTS):
            asm.add("MISC", release=["LD"])
        if self.many:
            asm.add("SYS", operation="barrier", release=["MISC"])
        asm.set(R.KEYS, source=R.CACHE)
        self._load_caps()
        asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", memory="ddr", base_register=R.EMBEDDING,
                bytes=self.rows * net.embedding_bytes, buffer_line=self.parameters,
                buffer_register=R.PARAMETER)  # fmt: skip
        self._join()
        self._with_parameters("embed", self.rows, net.hidden, a=self.x, out=self.x, group=log2_group(net.embedding))
        if net.positions:
            asm.operator("positions", "bias")
            asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", memory="ddr", base_register=R.POSITION,
                    bytes=net.position_bytes, buffer_line=self.parameters, buffer_register=R.PARAMETER)  # fmt: skip
            self._with_parameters("bias", self.rows, net.hidden, a=self.x, out=self.x)
        for first, count in self._runs():
            with asm.loop(count):
                self._layer(net.layers[first])
                self._next_row()
        self._head()
        return asm.finish()

    def _load_caps(self) -> None:
        """The constants of soft caps, the first parameters, to where they stay: ahead of what the next LD brings."""
        if self.network.capped:
            self.asm.add("LD", buffer="global", wide=1, advance=1, base_register=R.PARAMETERS,
                         bytes=channel_share(CAP_BYTES, self.channels), buffer_line=self.caps)  # fmt: skip

    # -- layers that differ in bits --------------------------------------------------------------------------------

    def _runs(self) -> Iterator[tuple[int, int]]:
        """Runs of layers that share a text; where their weights differ in bits, these come from a table of constants,
        a row a layer."""
        for first, count in self.network.runs():
            layers = self.network.layers[first : first + count]
            names = [name for name in layers[0] if len({layer[name].weight.bits for layer in layers}) > 1]
            if not self._proportional(layers, names):
                equal = [index for index in range(count) if index == 0 or layers[index] != layers[index - 1]]
                for at, end in zip(equal, [*equal[1:], count], strict=True):
                    self.columns = {}
                    yield first + at, end - at
                continue
            self.columns = {name: number for number, name in enumerate(names)}
            if names:
                self.asm.set(R.TABLE, len(self.asm.constants))
                self.asm.constants += [layer[name].weight.bits for layer in layers for name in names]
            yield first, count

    def _proportional(self, layers: Sequence[dict[str, Linear]], names: Sequence[str]) -> bool:
        """Whether every transfer of the linears ``names`` is bits times the same bytes in all ``layers``."""
        for name in names:
            found = set()
            for linear in {layer[name].weight.bits: layer[name] for layer in layers}.values():
                cut = tilings(self.network, self.machine, self.share, {name: linear}).get(name)
                slabs = [] if cut is None else [
                    cut.slab_of(columns, k, last)
                    for _, columns, _ in cut.tiles() for k in set(cut.slabs()) for last in (False, True)
                ]  # fmt: skip
                if any(slab.weight_bytes % linear.weight.bits for slab in slabs):
                    return False
                found.add((cut and cut.slab, tuple(
                    (slab.k, slab.scale_bytes, slab.index_bytes, slab.weight_bytes // linear.weight.bits)
                    for slab in slabs
                )))  # fmt: skip
            if len(found) > 1:
                return False
        return True

    def _next_row(self) -> None:
        if self.columns:
            self.asm.set(R.TABLE, len(self.columns), source=R.TABLE)

    def _fetch_bits(self, linear: Linear) -> None:
        """The bits of a linear that has its own in every layer."""
        if linear.name in self.columns:
            self.asm.fetch(R.BITS, self.columns[linear.name], source=R.TABLE)

    def _size(self, linear: Linear, size: int, codes: bool) -> dict[str, int]:
        """Fields of the bytes of a transfer of codes (or scales, indices)."""
        if not codes:
            return {"bytes": size}
        if linear.name in self.columns:
            return {"bytes": size // linear.weight.bits, "bytes_register": R.BITS, "times": 1,
                    "signed": linear.weight.signed}  # fmt: skip
        return {"bytes": size, "code_bits": linear.weight.bits, "signed": linear.weight.signed}

    def _bits(self, linear: Linear) -> dict[str, Any]:
        """Fields of the bits of a code."""
        return {"weight_bits": 0, "bits_register": R.BITS} if linear.name in self.columns else {}

    def _layer(self, layer: dict[str, Linear]) -> None:
        net, asm = self.network, self.asm
        tiles = tilings(net, self.machine, self.share, layer)
        self._normed_input("attention_norm", layer["k"], "attention_input_quantise", self.input_codes)
        if self.share.heads[1]:
            self._queries_keys_values(tiles)
            self._attention()
        self._share_heads(layer["o"])
        self._residual_linear(tiles["o"], self.mixed_codes, "attention")
        self._normed_input("ffn_norm", layer["up"], "ffn_input_quantise", self.input_codes)
        self._ffn(tiles)
        self._share_codes("ffn_hidden_quantise", layer["down"], net.ffn, self.share.ffn, self.gate_out,
                          self.hidden_codes, behind_mv=False)  # fmt: skip
        self._residual_linear(tiles["down"], self.hidden_codes, "ffn")
        asm.set(R.KEYS, self.batch_heads * self.cache.stride, source=R.KEYS)

    def _share_heads(self, linear: Linear) -> None:
        """o's input: every core's heads, quantised and exchanged."""
        step, (first, number) = self.network.queries * self.network.head_dim, self.share.heads
        self._share_codes("attention_output_quantise", linear, self.network.heads_width, (first * step, number * step),
                          self.gathered, self.mixed_codes, behind_mv=number > 0)  # fmt: skip

    def _normed_input(self, name: str, linear: Linear, quantise: str, codes: int) -> None:
        """Norm of the residual vector, quantised; the next MV may start."""
        net = self.network
        self._norm(name, self.x, self.normed)
        self.asm.operator(quantise, "quantise")
        self._spill(self.normed, net.hidden)
        self._misc("quantise", self.rows, net.hidden, a=self.normed, out=codes, act=linear.act,
                   static=linear.static, release=["MV"])  # fmt: skip
        self.asm.add("MV", wait=["MISC"])

    def _norm(self, name: str, x: int, out: int) -> None:
        """Norm of the vectors at ``x``, and the bias of a LayerNorm."""
        net = self.network
        self.asm.operator(name, net.norm)
        self._fetch(net.norm_bytes)
        self._with_parameters(net.norm, self.rows, net.hidden, a=x, out=out)
        if net.norm == "layernorm":
            self.asm.operator(f"{name}_bias", "bias")
            self._fetch(net.norm_bytes)
            self._with_parameters("bias", self.rows, net.hidden, a=out, out=out)

    def _queries_keys_values(self, tiles: dict[str, Tiling]) -> None:
        net, head = self.network, self.network.head_dim
        for name, out in (("k", self.k_out), ("v", self.v_out), ("q", self.q_out)):
            turned = name != "v"

            def fused(columns: int, *, name: str = name, out: int = out, turned: bool = turned) -> None:
                vectors = columns // head * self.rows
                behind = self._bias(tiles[name], columns, out)
                if turned and net.head_norm_bytes:
                    self.asm.operator(f"{name}_norm", "norm")
                    self._fetch(net.head_norm_bytes)
                    self._with_parameters("norm", vectors, head, a=out, out=out, tile=True, wait=behind, parts=1)
                    behind = []
                if turned and net.rope:
                    self.asm.operator(f"rope_{name}", "rope")
                    self._misc("rope", vectors, head, a=out, out=out, tile=True, wait=behind, parts=1)
                    behind = []
                if behind:
                    self.asm.add("MISC", wait=behind)

            self._linear(tiles[name], self.input_codes, out, fused)
            self._spill(out, tiles[name].columns)
            if name == "v":
                self._append()
        self.asm.operator("query_quantise", "quantise")
        # head by head: the codes of each lie in turns, as an MV reads them
        if self.batch_heads > 1:
            self.asm.set(R.HEAD)
            with self.asm.loop(self.batch_heads - 1):
                self._quantise_queries(R.HEAD)
                self.asm.set(R.HEAD, self.head_lines, source=R.HEAD)
        self._quantise_queries(R.HEAD if self.batch_heads > 1 else 0, release=["MV"])
        self.asm.add("MV", wait=["MISC"])

    def _quantise_queries(self, register: int, release: Sequence[str] = ()) -> None:
        """The queries of the KV head at ``register``."""
        net = self.network
        self._misc("quantise", net.queries, net.head_dim, a=self.q_out, a_register=register, out=self.query_codes,
                   out_register=register, act=net.query, parts=1, static=net.static_query, release=release)  # fmt: skip

    def _append(self) -> None:
        """The new token's keys and values: quantised, then one row of each head to memory."""
        net, asm, cache = self.network, self.asm, self.cache
        asm.operator("kv_append", "kv_append")
        self._misc("kv_append", 2 * self.batch_heads, net.head_dim, a=self.k_out, b=self.v_out, out=self.cells,
                   target="act", parts=1, release=["ST"])  # fmt: skip
        asm.add("ST", wait=["MISC"])
        asm.set(R.A, source=R.KEYS)
        asm.set(R.B)
        parts = (
            (R.NEW_KEY, 0, cache.key_bytes, 0), (R.NEW_VALUE, cache.value_at, cache.value_bytes, self.key_lines),
            (R.NEW_SCALE, cache.scale_at, cache.scale_bytes, self.key_lines + self.value_lines),
        )  # fmt: skip
        with asm.loop(self.batch_heads):
            for row, at, size, line in parts:
                asm.set(R.C, at, source=R.A, other=row)
                asm.add("ST", buffer="act", base_register=R.C, channel_register=R.NEW_CHANNEL, bytes=size,
                        buffer_line=self.cells + line, buffer_register=R.B)  # fmt: skip
            asm.set(R.A, cache.stride, source=R.A)
            asm.set(R.B, self.cell_lines, source=R.B)
        asm.add("ST", release=["LD"])

    # -- attention -------------------------------------------------------------------------------------------------

    def _attention(self) -> None:
        """Scores of head h, then values of head h - 1, for all heads; the SFU works on h meanwhile."""
        asm, ring = self.asm, 2 * self.score_lines
        asm.operator("qk", "qk")
        asm.add("LD", wait=["ST"])
        asm.set(R.C, source=R.KEYS)
        asm.set(R.HEAD)

        def onwards() -> None:
            asm.set(R.C, self.cache.stride, source=R.C)
            asm.set(R.HEAD, self.head_lines, source=R.HEAD)
            asm.rotate(R.SCORE, self.score_lines, ring)
            asm.rotate(R.PROBABILITY, self.probability_lines, 2 * self.probability_lines)

        self._scores()
        onwards()
        if self.batch_heads > 1:
            with asm.loop(self.batch_heads - 1):
                self._scores()
                onwards()
                self._values()
        asm.set(R.C, self.cache.stride, source=R.C)
        asm.set(R.HEAD, self.head_lines, source=R.HEAD)
        asm.rotate(R.PROBABILITY, self.probability_lines, 2 * self.probability_lines)
        self._values()
        asm.rotate(R.PROBABILITY, self.probability_lines, 2 * self.probability_lines)
        asm.add("MV", release=["MISC"])

    def _scores(self) -> None:
        """Scores of the head at C, their softmax and its quantisation."""
        net, asm, cache = self.network, self.asm, self.cache
        asm.operator("qk", "qk")
        each = self.tile // self.channels
        asm.set(R.A, source=R.C)
        asm.set(R.B, cache.scale_at, source=R.C)
        asm.set(R.TILE, source=R.SCORE)
        with asm.loop(0, R.FULL_TILES):
            self._cached("keys", R.A, each * cache.key_bytes, wait=["MV"])
            asm.add("LD", release=["MV"], buffer="scale", slotted=1, wide=1, advance=1, base_register=R.B,
                    buffer_register=R.SLOT, bytes=each * cache.scale_bytes)  # fmt: skip
            self._mv(net.key, net.queries, columns=self.tile, k=net.head_dim, in_line=self.query_codes,
                     in_register=R.HEAD, out_line=self.scores, out_register=R.TILE, wait=["LD"],
                     release=["LD"])  # fmt: skip
            asm.set(R.TILE, self.tile * FP32 // LINE_BYTES * net.queries, source=R.TILE)
        self._cached("keys", R.A, 0, R.TAIL_KEYS, wait=["MV"])
        asm.add("LD", release=["MV"], buffer="scale", slotted=1, wide=1, base_register=R.B,
                buffer_register=R.SLOT, bytes_register=R.TAIL_SCALES)  # fmt: skip
        self._mv(net.key, net.queries, columns_register=R.TAIL_COLUMNS, k=net.head_dim, in_line=self.query_codes,
                 in_register=R.HEAD, out_line=self.scores, out_register=R.TILE, wait=["LD"],
                 release=["LD", "MISC"])  # fmt: skip
        behind = ["MV"]
        at: dict[str, Any] = {
            "a": self.scores, "a_register": R.SCORE, "out_register": R.SCORE, "elements_register": R.CONTEXT,
        }  # fmt: skip
        for name, kind in (("attention_cap", "softcap"), ("softmax", "softmax")):
            if kind == "softmax" or net.attention_cap:
                asm.operator(name, kind)
                b = self.caps if kind == "softcap" else 0
                self._misc(kind, net.queries, 0, b=b, out=self.scores, wait=behind, **at)
                behind = []
        asm.operator("probability_quantise", "quantise")
        asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, base_register=R.C,
                offset=cache.scale_at, bytes_register=R.CONTEXT_SCALES, buffer_line=self.parameters,
                buffer_register=R.PARAMETER)  # fmt: skip
        self._with_parameters("probability_quantise", net.queries, 0, a=self.scores, a_register=R.SCORE,
                              elements_register=R.CONTEXT, out=self.probabilities, out_register=R.PROBABILITY,
                              target="act", static=net.static_query, release=["MV"])  # fmt: skip

    def _values(self) -> None:
        """Probabilities times values of the head two strides before C: the tail first, then whole tiles."""
        net, asm, cache = self.network, self.asm, self.cache
        asm.operator("av", "av")
        at = cache.value_at - 2 * cache.stride
        out: dict[str, Any] = {
            "out_line": self.mixed - 2 * self.head_lines, "out_register": R.HEAD, "columns": net.head_dim,
        }  # fmt: skip
        into: dict[str, Any] = {"in_line": self.probabilities, "in_register": R.TILE, "transpose": 1}
        asm.set(R.A, at, source=R.C, other=R.TAIL_AT)
        asm.set(R.TILE, source=R.PROBABILITY, other=R.TAIL_LINES)
        self._cached("values", R.A, 0, R.TAIL_VALUES, wait=["MV"], release=["MV"])
        self._mv(net.value, net.queries, k_register=R.TAIL_BLOCKS, wait=["LD", "MISC"], release=["LD"], **into, **out)
        asm.set(R.A, at, source=R.C)
        asm.set(R.TILE, source=R.PROBABILITY)
        with asm.loop(0, R.FULL_TILES):
            size = self.tile // self.channels * cache.value_bytes
            self._cached("values", R.A, size, wait=["MV"], release=["MV"])
            self._mv(net.value, net.queries, k=self.tile, accumulate=1, wait=["LD"], release=["LD"], **into, **out)
            asm.set(R.TILE, self.tile // LINE_BYTES * net.queries, source=R.TILE)

    def _cached(
        self, what: str, base: int, size: int, register: int = 0, *, wait: Sequence[str], release: Sequence[str] = ()
    ) -> None:  # fmt: skip
        """A tile of the cache (``keys`` or ``values``) to the slot that is next."""
        item = self.network.key if what == "keys" else self.network.value
        self.asm.add("LD", wait=wait, release=release, buffer="weight", slotted=1, wide=1, advance=1,
                     base_register=base, buffer_register=R.SLOT, bytes=size, bytes_register=register,
                     code_bits=item.bits, signed=item.signed, layout=what)  # fmt: skip

    # -- linears ---------------------------------------------------------------------------------------------------

    def _residual_linear(self, tiling: Tiling, codes: int, part: str) -> None:
        """o or down: each tile is added to the residual vector, whose parts the cores then exchange."""
        net, local = self.network, self._lines(tiling.first)
        into = self.o_out if net.post_norms else self.x

        def fused(columns: int) -> None:
            behind = self._bias(tiling, columns, self.o_out + local)
            if not net.post_norms:
                self.asm.operator(f"{part}_residual", "residual")
                self._misc("residual", self.rows, columns, a=self.x + local, b=self.o_out + local,
                           out=self.x + local, tile=True, wait=behind)  # fmt: skip
            elif behind:
                self.asm.add("MISC", wait=behind)

        self._linear(tiling, codes, self.o_out + local, fused)
        self._spill(into + local, tiling.columns)
        self._exchange(net.hidden, tiling.columns, FP32 * 8, f"{part}_residual", "global", into + local,
                       self._lines(tiling.columns))  # fmt: skip
        if net.post_norms:
            self._norm(f"{part}_post_norm", into, into)
            self.asm.operator(f"{part}_residual", "residual")
            self._misc("residual", self.rows, net.hidden, a=self.x, b=into, out=self.x)

    def _ffn(self, tiles: dict[str, Tiling]) -> None:
        """Gate and up tile by tile, each pair followed by activation and product."""
        gate, up = tiles.get("gate"), tiles["up"]
        asm = self.asm
        asm.set(R.B)
        for times, columns, _ in up.tiles():
            with asm.loop(times):
                if gate is not None:
                    asm.operator("gate", "linear")
                    self._slabs(gate, columns, self.input_codes, self.gate_local, [])
                asm.operator("up", "linear")
                self._slabs(up, columns, self.input_codes, self.up_out, ["MISC"])
                behind = ["MV"]
                for tiling, out in ((gate, self.gate_local), (up, self.up_out)):
                    if tiling is not None and tiling.linear.bias:
                        self._add_bias(tiling.linear.name, columns, out, behind)
                        behind = []
                asm.operator("ffn_activation", "activation")
                self._misc(self.network.activation, self.rows, columns, a=self.gate_local if gate else self.up_out,
                           b=self.up_out, out=self.gate_local, tile=True, wait=behind)  # fmt: skip
                asm.set(R.B, self._lines(columns), source=R.B)

    @property
    def gate_local(self) -> int:
        """Line of this core's part of the FFN's hidden vector."""
        return self.gate_out + self._lines(self.share.ffn[0])

    def _head(self) -> None:
        net, asm = self.network, self.asm
        self._normed_input("final_norm", net.head, "head_input_quantise", self.head_codes)
        self._logits(self.cache_bytes)
        for _ in range(SLOTS):
            asm.add("LD", wait=["MV"])
        for _ in range(PARAMETER_SLOTS):
            asm.add("LD", wait=["MISC"])
        asm.add("SYS", operation="done", wait=["ST"])

    def _logits(self, offset: int) -> None:
        """The head on its quantised input; logits to ``offset`` bytes behind the cache's first."""
        net, asm = self.network, self.asm
        tiling = tiling_of(net.head, *self.share.vocab, self.machine)

        def fused(columns: int) -> None:
            if net.logit_cap:
                asm.operator("logit_cap", "softcap")
                self._misc("softcap", self.rows, columns, a=self.logits, b=self.caps + 1, b_register=0,
                           out=self.logits, tile=True, wait=["MV"])  # fmt: skip
            else:
                asm.add("MISC", wait=["MV"])

        self._linear(tiling, self.head_codes, self.logits, fused)
        asm.add("MISC", release=["ST"])
        asm.add("ST", wait=["MISC"], release=["SYS"], buffer="global", wide=1, base_register=R.CACHE,
                offset=offset, buffer_line=self.logits,
                bytes=channel_share(self.rows * tiling.columns * FP32, self.channels))  # fmt: skip

    def _linear(self, tiling: Tiling, codes: int, out: int, fused: Callable[[int], None]) -> None:
        """All tiles of a linear; B counts the lines of the results. ``fused`` follows each tile and takes its token."""
        self.asm.set(R.B)
        for times, columns, _ in tiling.tiles():
            with self.asm.loop(times):
                self.asm.operator(tiling.linear.name, "linear")
                self._slabs(tiling, columns, codes, out, ["MISC"])
                fused(columns)
                self.asm.set(R.B, self._lines(columns), source=R.B)

    def _slabs(self, tiling: Tiling, columns: int, codes: int, out: int, release: Sequence[str]) -> None:
        """The slabs of K of one tile: the first, a loop of those between, the last."""
        lengths, asm = tiling.slabs(), self.asm
        self._fetch_bits(tiling.linear)
        step = tiling.slab // LINE_BYTES * self.rows

        def slab(k: int, line: int, register: int, first: bool, last: bool) -> None:
            self._load(tiling.linear, tiling.slab_of(columns, k, last))
            self._mv(
                tiling.linear.weight, self.rows, columns=columns, k=k, in_line=line, in_register=register,
                out_line=out, out_register=R.B, keep=tiling.linear.keep_n, accumulate=not first, last=last,
                wait=["LD"], release=["LD", *(release if last else ())], **self._bits(tiling.linear),
            )  # fmt: skip

        if len(lengths) > 1:
            slab(lengths[0], codes, R.ZERO, True, False)
        if len(lengths) > 2:
            asm.set(R.C, step)
            with asm.loop(len(lengths) - 2):
                slab(lengths[1], codes, R.C, False, False)
                if len(lengths) > 3:
                    asm.set(R.C, step, source=R.C)
        slab(lengths[-1], codes + (len(lengths) - 1) * step, R.ZERO, len(lengths) == 1, True)

    def _load(self, linear: Linear, slab: Slab) -> None:
        """A slab's weights, scales and indices to the next slot."""
        parts = [
            ("weight", R.WEIGHTS, slab.weight_bytes), ("scale", R.SCALES, slab.scale_bytes),
            ("index", R.INDICES, slab.index_bytes),
        ]  # fmt: skip
        parts = [part for part in parts if part[2] or part[0] == "weight"]
        for number, (buffer, base, size) in enumerate(parts):
            self.asm.add(
                "LD", wait=["MV"] if number == 0 else (), release=["MV"] if number == len(parts) - 1 else (),
                buffer=buffer, slotted=1, wide=1, advance=1, base_register=base, buffer_register=R.SLOT,
                **self._size(linear, size, number == 0),
            )  # fmt: skip

    def _mv(
        self, weight: Format, rows: int, *, wait: Sequence[str], release: Sequence[str], k: int = 0, keep: int = 16,
        last: bool = True, onwards: bool = True, **fields: Any,
    ) -> None:  # fmt: skip
        """One MV on the slot that is next; ``onwards``: the next one goes on to the slot behind."""
        integer = weight.offset or weight.zero not in ("none", "f16-min")
        zero = "minimum" if weight.zero == "f16-min" else "integer" if integer else "none"
        self.asm.add(
            "MV", wait=wait, release=release, keep=keep, zero=zero, last=last, k_blocks=ceil_div(k, K_BLOCK),
            group=log2_group(weight), rows=rows, slot_register=R.SLOT, **{"weight_bits": weight.bits, **fields},
        )  # fmt: skip
        if onwards:
            self.asm.rotate(R.SLOT, 1, SLOTS)

    def _spill(self, line: int, elements: int) -> None:
        """Where activations do not stay on chip: a fused layer's FP32 results to memory and back, all rows."""
        if self.on_chip or not elements:
            return
        size = channel_share(self.rows * elements * FP32, self.channels)
        self.asm.add("MISC", release=["ST"])
        self.asm.add("ST", wait=["MISC"], release=["LD"], buffer="global", wide=1, base_register=R.CACHE,
                     offset=self.cache_bytes + self.logit_bytes, bytes=size, buffer_line=line)  # fmt: skip
        self.asm.add("LD", wait=["ST"], release=["MISC"], buffer="global", wide=1, base_register=R.CACHE,
                     offset=self.cache_bytes + self.logit_bytes, bytes=size, buffer_line=line)  # fmt: skip
        self.asm.add("MISC", wait=["LD"])

    # -- vectors ---------------------------------------------------------------------------------------------------

    def _share_codes(
        self, name: str, linear: Linear, width: int, part: tuple[int, int], vector: int, codes: int, *, behind_mv: bool
    ) -> None:  # fmt: skip
        """A linear's input, of which each core has the ``part`` (first element, number): quantised before the exchange
        where the groups lie within a core, else behind it; the next MV may start."""
        asm, act, (first, own) = self.asm, linear.act, part
        if behind_mv and not self.on_chip:
            asm.add("MISC", wait=["MV"])
            behind_mv = False
        at, mine = vector + self._lines(first), codes + self.rows * (first // LINE_BYTES)
        self._spill(at, own)
        local = linear.static or act.group and self._whole_groups(act.group, width)
        wait = ["MV"] if behind_mv else []
        if local or not self.many:
            asm.operator(name, "quantise")
            if own:
                self._misc("quantise", self.rows, own, a=at, out=mine, act=act, static=linear.static, wait=wait)
            self._exchange(width, own, act.bits + (16 / act.group if act.group else 0), name, "act", mine,
                           self.rows * ceil_div(own, LINE_BYTES))  # fmt: skip
            asm.add("MISC", release=["MV"])
        else:
            if wait:
                asm.add("MISC", wait=wait)
            self._exchange(width, own, FP32 * 8, name, "global", at, self._lines(own))
            asm.operator(name, "quantise")
            self._misc("quantise", self.rows, width, a=vector, out=codes, act=act, release=["MV"])
        asm.add("MV", wait=["MISC"])

    def _whole_groups(self, group: int, width: int) -> bool:
        """Whether every core's part of the vector is whole groups, by the unit in which it is cut."""
        if width == self.network.heads_width:
            return self.network.head_dim * self.network.queries % group == 0
        return True

    def _exchange(
        self, width: int, own: int, bits: float, operator: str, buffer: str, line: int, lines: int
    ) -> None:  # fmt: skip
        """All cores gather a vector of ``width`` elements behind the last MISC, of which this one has the ``lines``
        from ``line`` on; the next MISC waits for it."""
        if not self.many:
            return
        self.asm.operator(f"exchange:{operator}", "exchange")
        self.asm.add("MISC", release=["SYS"])
        received = ceil_div(int(self.rows * (width - own) * bits), 8)
        self.asm.add("SYS", operation="exchange", value=received, buffer=buffer, line=line, limit=lines,
                     wait=["MISC"], release=["MISC"])  # fmt: skip
        self._join()

    def _join(self) -> None:
        if self.many:
            self.asm.add("MISC", wait=["SYS"])

    def _bias(self, tiling: Tiling, columns: int, out: int) -> list[str]:
        """The bias of a tile, if there is one; what the step behind must wait for."""
        if not tiling.linear.bias:
            return ["MV"]
        self._add_bias(tiling.linear.name, columns, out, ["MV"])
        return []

    def _add_bias(self, name: str, columns: int, out: int, wait: Sequence[str]) -> None:
        self.asm.operator(f"{name}_bias", "bias")
        self._fetch(columns * FP32)
        self._with_parameters("bias", self.rows, columns, a=out, out=out, tile=True, wait=wait)

    def _fetch(self, size: int) -> None:
        """The next parameters to their ring."""
        each = channel_share(size, self.channels)
        self.asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, advance=1,
                     base_register=R.PARAMETERS, bytes=each, buffer_line=self.parameters,
                     buffer_register=R.PARAMETER)  # fmt: skip

    def _with_parameters(
        self, operation: str, vectors: int, elements: int, *, wait: Sequence[str] = (), release: Sequence[str] = (),
        **fields: Any,
    ) -> None:  # fmt: skip
        """A MISC whose second input is the oldest parameters."""
        self._misc(operation, vectors, elements, wait=[*wait, "LD"], release=["LD", *release], b=self.parameters,
                   b_register=R.PARAMETER, **fields)  # fmt: skip
        self.asm.rotate(R.PARAMETER, self.parameter_lines, PARAMETER_SLOTS * self.parameter_lines)

    def _misc(
        self, operation: str, vectors: int, elements: int, *, a: int, out: int, b: int = 0, act: Format | None = None,
        target: str = "global", tile: bool = False, wait: Sequence[str] = (), release: Sequence[str] = (),
        **registers: Any,
    ) -> None:  # fmt: skip
        """One MISC; ``tile``: B lines on, in all operands but parameters. Quantised results go to the act buffer."""
        if tile:
            registers = {"a_register": R.B, "out_register": R.B, "b_register": R.B, **registers}
        if act is not None:
            target = "act"
        self.asm.add(
            "MISC", wait=wait, release=release, operation=operation, vectors=vectors, elements=elements, a_line=a,
            b_line=b, out_line=out, target=target, **{"group": log2_group(act) if act else 0, **registers},
        )  # fmt: skip


def kv_tile(machine: CoreMachine) -> int:
    """Cached tokens of a tile: as wide as an MV, whole blocks in every channel and whole lines of probabilities."""
    unit = math.lcm(K_BLOCK * machine.hbm.channels_per_core, LINE_BYTES)
    return max(1, machine.mv_columns // unit) * unit


def log2_group(item: Format) -> int:
    """The encoded group of a format."""
    if item.group & (item.group - 1):
        raise InputError(f"a group must be a power of two on a FlightLLM core, not {item.group}, in {item.name}")
    return max(0, item.group.bit_length() - 1)
