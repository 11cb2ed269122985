"""The compact program of a chunk of a prompt: several tokens of one sequence at once, on vectors.

Tokens are rows of every MV, so weights are streamed once for all of them; nothing leaves the chip but the cache. Rows
lie interleaved, heads one after the other, as linears leave them: every head's work on all tokens is one instruction,
whose vectors are rotated by their own positions and see their own past (``causal``). Logits are the last token's.

A chunk continues a sequence wherever its first token is the first of a row of the cache, and leaves the memories as so
many decode steps would. Weights, cache and results lie where the decode program of the same model has them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from mixflight.arch.compact import LINE_BYTES, SLOTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_assembler import Register, Text
from mixflight.mapping.core_compile import CoreText, registers_of
from mixflight.mapping.core_decode import CAP_BYTES, FP32, DecodeText, log2_group
from mixflight.mapping.core_memory import PARAMETER_SLOTS, REGION_BYTES, Arena, Cache, channel_share
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_shares import Share
from mixflight.mapping.core_tiles import Tiling, ceil_div, round_up, slot_bytes

R = Register


class ChunkText(DecodeText):
    """Writes the text of one core for chunks of ``tokens``, whole rows of the cache."""

    def __init__(
        self, network: Network, machine: CoreMachine, share: Share, cache: Cache, max_context: int, tokens: int,
        names: dict[tuple[str, str], int] | None = None,
    ) -> None:  # fmt: skip
        channels = machine.hbm.channels_per_core
        group = network.layers[0]["o"].act.group
        if tokens < channels or tokens % channels:
            raise InputError(f"a chunk must be whole rows of {channels} tokens in the cache, not {tokens} tokens")
        if network.batch != 1:
            raise InputError(f"a chunk must be of one sequence, not of {network.batch}, in {network.model}")
        if network.head_dim % LINE_BYTES or not group or network.head_dim % group:
            raise InputError(
                f"heads of a chunk must be lines of {LINE_BYTES} codes in whole groups, not {network.head_dim} in "
                f"groups of {group}, in {network.model}"
            )
        room = round_up(channel_share(share.vocab[1] * FP32, channels), REGION_BYTES)
        if network.hidden * FP32 > room:
            raise InputError(
                f"a residual vector of {network.hidden * FP32} bytes must fit a channel's logits of {room}, "
                f"in {network.model}"
            )
        self.tokens = tokens
        super().__init__(network, machine, share, cache, max_context, names=names)

    # -- buffers ---------------------------------------------------------------------------------------------------

    def _allocate(self) -> None:
        net, rows = self.network, self.tokens
        self.rows = rows
        machine, (first, heads) = self.machine, self.share.heads
        lines, codes = Arena("global", machine.buffers.vector.bytes), Arena("act", machine.buffers.act.bytes)
        scales = channel_share(self.max_context * self.cache.scale_bytes, self.channels) * self.channels
        self.parameter_lines = self._parameter_lines(scales)
        self.head_lines = self._lines(net.head_dim)
        """Of one head of all tokens."""
        vector = net.hidden * FP32 * rows
        self.x = lines.take(vector, "embed")
        self.normed = lines.take(vector, "attention_norm")
        self.parameters = lines.take(PARAMETER_SLOTS * self.parameter_lines * LINE_BYTES, "softmax")
        self.o_out = lines.take(vector if net.post_norms else 0, "o")
        self.caps = lines.take(self._dealt(CAP_BYTES) if net.capped else 0, "softcap")
        lines.stages()
        self.embedded = lines.take(net.embedded_bytes(rows), "embed")
        lines.stage()
        self.gathered = lines.take(net.kv_heads * net.queries * self.head_lines * LINE_BYTES, "av")
        self.mixed = self.gathered + first * net.queries * self.head_lines
        self.k_out = lines.take(heads * self.head_lines * LINE_BYTES, "k")
        self.v_out = lines.take(heads * self.head_lines * LINE_BYTES, "v")
        self.q_out = lines.take(heads * net.queries * self.head_lines * LINE_BYTES, "q")
        self.score_lines = self._lines(self.max_context)
        self.scores = lines.take(net.queries * self.score_lines * LINE_BYTES, "qk")
        lines.stage()
        self.gate_out = lines.take(rows * net.ffn * FP32, "ffn_activation")
        self.up_out = lines.take(rows * self.share.ffn[1] * FP32, "up")
        lines.stage()
        self.logits = lines.take(self.share.vocab[1] * FP32, "head")
        self._allocate_codes(codes, heads)

    def _allocate_codes(self, codes: Arena, heads: int) -> None:
        net, rows = self.network, self.tokens
        self.code_lines = rows * (net.head_dim // LINE_BYTES)
        """Of one head of all tokens."""
        self.input_codes = codes.take(rows * max(net.hidden, net.heads_width), "attention_input_quantise")
        self.mixed_codes = self.head_codes = self.input_codes
        codes.stages()
        self.key_lines = ceil_div(self.cache.key_bytes, LINE_BYTES)
        self.value_lines = ceil_div(self.cache.value_bytes, LINE_BYTES)
        self.cell_lines = self.key_lines + self.value_lines + 1
        self.cells = codes.take(rows * heads * self.cell_lines * LINE_BYTES, "kv_append")
        self.query_codes = codes.take(heads * net.queries * self.code_lines * LINE_BYTES, "query_quantise")
        self.probability_lines = rows * ceil_div(self.max_context, LINE_BYTES)
        self.probabilities = codes.take(net.queries * self.probability_lines * LINE_BYTES, "probability_quantise")
        codes.stage()
        self.hidden_codes = codes.take(rows * net.ffn, "ffn_hidden_quantise")

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
            asm.add("SYS", operation="barrier", release=["LD"])
        asm.set(R.KEYS, source=R.CACHE)
        self._load_caps()
        asm.add("LD", wait=["SYS"] if self.many else [], release=["MISC"], buffer="global", memory="ddr",
                base_register=R.EMBEDDING, bytes=net.embedded_bytes(self.rows),
                buffer_line=self.embedded)  # fmt: skip
        self._misc("embed", self.rows, net.hidden, a=self.x, b=self.embedded, out=self.x,
                   group=log2_group(net.embedding), wait=["LD"])  # fmt: skip
        if net.positions:
            asm.operator("positions", "bias")
            rows_behind = self.rows * net.embedding_stride // LINE_BYTES
            self._misc("residual", self.rows, net.hidden, a=self.x, b=self.embedded + rows_behind, out=self.x)
        for first, count in self._runs():
            with asm.loop(count):
                self._layer(net.layers[first])
                self._next_row()
        self._end()
        return asm.finish()

    def _end(self) -> None:
        self._last_token()
        self._head()

    def _queries_keys_values(self, tiles: dict[str, Tiling]) -> None:
        """Linears, rotated head by head; queries quantised."""
        net, asm, head = self.network, self.asm, self.network.head_dim
        for name, out in (("k", self.k_out), ("v", self.v_out), ("q", self.q_out)):
            turned = name != "v"

            def fused(columns: int, *, name: str = name, out: int = out, turned: bool = turned) -> None:
                behind = self._bias(tiles[name], columns, out)
                if turned and net.head_norm_bytes:
                    self._head_norms(name, columns // head, out, behind)
                    behind = []
                if turned and net.rope:
                    asm.operator(f"rope_{name}", "rope")
                    for number in range(columns // head):
                        at = out + number * self.head_lines
                        self._misc("rope", self.rows, head, a=at, out=at, tile=True, causal=1, wait=behind)
                        behind = []
                elif behind:
                    asm.add("MISC", wait=behind)

            self._linear(tiles[name], self.input_codes, out, fused)
            if name == "v":
                self._append()
        asm.operator("query_quantise", "quantise")
        asm.set(R.HEAD)
        asm.set(R.SCORE)
        with asm.loop(self.batch_heads * net.queries):
            self._misc("quantise", self.rows, head, a=self.q_out, a_register=R.HEAD, out=self.query_codes,
                       out_register=R.SCORE, act=net.query)  # fmt: skip
            asm.set(R.HEAD, self.head_lines, source=R.HEAD)
            asm.set(R.SCORE, self.code_lines, source=R.SCORE)
        asm.add("MISC", release=["MV"])
        asm.add("MV", wait=["MISC"])

    def _head_norms(self, name: str, heads: int, out: int, behind: Sequence[str]) -> None:
        """Norm of ``heads`` heads of a tile, one after the other."""
        net = self.network
        self.asm.operator(f"{name}_norm", "norm")
        self._fetch(net.head_norm_bytes)
        for number in range(heads):
            at = out + number * self.head_lines
            self._misc("norm", self.rows, net.head_dim, a=at, out=at, b=self.parameters, tile=True,
                       b_register=R.PARAMETER, wait=[*behind, "LD"] if number == 0 else [],
                       release=["LD"] if number == heads - 1 else [])  # fmt: skip
        self.asm.rotate(R.PARAMETER, self.parameter_lines, PARAMETER_SLOTS * self.parameter_lines)

    def _append(self) -> None:
        """The tokens' keys and values: quantised head by head, then a row of the cache after the other to memory."""
        net, asm, cache, rows = self.network, self.asm, self.cache, self.rows
        asm.operator("kv_append", "kv_append")
        asm.set(R.A)
        asm.set(R.B)
        with asm.loop(self.batch_heads):
            self._misc("kv_append", 2 * rows, net.head_dim, a=self.k_out, a_register=R.A, b=self.v_out, b_register=R.A,
                       out=self.cells, out_register=R.B, target="act")  # fmt: skip
            asm.set(R.A, self.head_lines, source=R.A)
            asm.set(R.B, rows * self.cell_lines, source=R.B)
        asm.add("MISC", release=["ST"])
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
                for token in range(rows):
                    asm.add("ST", buffer="act", base_register=R.C, offset=token // self.channels * size,
                            channel=token % self.channels, bytes=size, buffer_register=R.B,
                            buffer_line=self.cells + token * self.cell_lines + line)  # fmt: skip
            asm.set(R.A, cache.stride, source=R.A)
            asm.set(R.B, rows * self.cell_lines, source=R.B)
        asm.add("ST", release=["LD"])

    # -- attention -------------------------------------------------------------------------------------------------

    def _attention(self) -> None:
        """KV head by KV head: scores of all its queries, their softmax, values query head by query head."""
        net, asm = self.network, self.asm
        asm.operator("qk", "qk")
        asm.add("LD", wait=["ST"])
        asm.set(R.C, source=R.KEYS)
        asm.set(R.HEAD)
        asm.set(R.SCORE)
        with asm.loop(self.batch_heads):
            self._scores()
            self._probabilities()
            asm.set(R.PROBABILITY)
            with asm.loop(net.queries):
                self._values()
                asm.set(R.PROBABILITY, self.probability_lines, source=R.PROBABILITY)
                asm.set(R.HEAD, self.head_lines, source=R.HEAD)
            asm.set(R.SCORE, net.queries * self.code_lines, source=R.SCORE)
            asm.set(R.C, self.cache.stride, source=R.C)
        asm.add("MV", release=["MISC"])

    def _scores(self) -> None:
        asm, cache = self.asm, self.cache
        asm.operator("qk", "qk")
        each = self.tile // self.channels
        asm.set(R.A, source=R.C)
        asm.set(R.B, cache.scale_at, source=R.C)
        asm.set(R.TILE)
        with asm.loop(0, R.FULL_TILES):
            self._cached("keys", R.A, each * cache.key_bytes, wait=["MV"])
            asm.add("LD", release=["MV"], buffer="scale", slotted=1, wide=1, advance=1, base_register=R.B,
                    buffer_register=R.SLOT, bytes=each * cache.scale_bytes)  # fmt: skip
            self._score_tile(columns=self.tile)
            asm.set(R.TILE, self._lines(self.tile), source=R.TILE)
        self._cached("keys", R.A, 0, R.TAIL_KEYS, wait=["MV"])
        asm.add("LD", release=["MV"], buffer="scale", slotted=1, wide=1, base_register=R.B,
                buffer_register=R.SLOT, bytes_register=R.TAIL_SCALES)  # fmt: skip
        self._score_tile(columns_register=R.TAIL_COLUMNS)
        asm.add("MV", release=["MISC"])

    def _score_tile(self, **columns: Any) -> None:
        """The scores of all query heads of a KV head with the keys of one slot."""
        net = self.network
        for query in range(net.queries):
            ends = query == net.queries - 1
            self._mv(net.key, self.rows, k=net.head_dim, in_line=self.query_codes + query * self.code_lines,
                     in_register=R.SCORE, out_line=self.scores + query * self.score_lines, out_register=R.TILE,
                     wait=["LD"] if query == 0 else [], release=["LD"] if ends else [], onwards=ends,
                     **columns)  # fmt: skip

    def _probabilities(self) -> None:
        """Softmax and quantisation of the scores of a KV head's queries."""
        net, asm = self.network, self.asm
        behind = ["MV"]
        for name, kind in (("attention_cap", "softcap"), ("softmax", "softmax")):
            if kind == "softcap" and not net.attention_cap:
                continue
            asm.operator(name, kind)
            for query in range(net.queries):
                at = self.scores + query * self.score_lines
                self._misc(kind, self.rows, 0, a=at, b=self.caps if kind == "softcap" else 0, out=at,
                           elements_register=R.CONTEXT, causal=int(kind == "softmax"), wait=behind)  # fmt: skip
                behind = []
        asm.operator("probability_quantise", "quantise")
        asm.add("LD", wait=["MISC"], release=["MISC"], buffer="global", wide=1, base_register=R.C,
                offset=self.cache.scale_at, bytes_register=R.CONTEXT_SCALES, buffer_line=self.parameters,
                buffer_register=R.PARAMETER)  # fmt: skip
        for query in range(net.queries):
            ends = query == net.queries - 1
            self._misc("probability_quantise", self.rows, 0, a=self.scores + query * self.score_lines,
                       elements_register=R.CONTEXT, b=self.parameters, b_register=R.PARAMETER, causal=1,
                       out=self.probabilities + query * self.probability_lines, target="act",
                       static=net.static_query, wait=["LD"] if query == 0 else [],
                       release=["LD", "MV"] if ends else [])  # fmt: skip
        asm.rotate(R.PARAMETER, self.parameter_lines, PARAMETER_SLOTS * self.parameter_lines)
        asm.add("MV", wait=["MISC"])

    def _values(self) -> None:
        """Probabilities of the query head at PROBABILITY times the values at C: the tail first, then whole tiles."""
        net, asm, at = self.network, self.asm, self.cache.value_at
        asm.operator("av", "av")
        out: dict[str, Any] = {"out_line": self.mixed, "out_register": R.HEAD, "columns": net.head_dim}
        into: dict[str, Any] = {"in_line": self.probabilities, "in_register": R.TILE, "transpose": 1}
        asm.set(R.A, at, source=R.C, other=R.TAIL_AT)
        asm.set(R.TILE, source=R.PROBABILITY, other=R.TAIL_LINES)
        self._cached("values", R.A, 0, R.TAIL_VALUES, wait=["MV"], release=["MV"])
        self._mv(net.value, self.rows, k_register=R.TAIL_BLOCKS, wait=["LD"], release=["LD"], **into, **out)
        asm.set(R.A, at, source=R.C)
        asm.set(R.TILE, source=R.PROBABILITY)
        with asm.loop(0, R.FULL_TILES):
            size = self.tile // self.channels * self.cache.value_bytes
            self._cached("values", R.A, size, wait=["MV"], release=["MV"])
            self._mv(net.value, self.rows, k=self.tile, accumulate=1, wait=["LD"], release=["LD"], **into, **out)
            asm.set(R.TILE, self.tile // LINE_BYTES * self.rows, source=R.TILE)

    def _share_heads(self, linear: Linear) -> None:
        """o's input, of which each core has its heads: quantised head by head, then exchanged."""
        net, asm, act = self.network, self.asm, linear.act
        (first, number), name = self.share.heads, "attention_output_quantise"
        mine = self.mixed_codes + first * net.queries * self.code_lines
        asm.operator(name, "quantise")
        if number:
            asm.add("MISC", wait=["MV"])
            asm.set(R.A)
            asm.set(R.B)
            with asm.loop(number * net.queries):
                self._misc("quantise", self.rows, net.head_dim, a=self.mixed, a_register=R.A, out=mine,
                           out_register=R.B, act=act, parts=1, static=linear.static)  # fmt: skip
                asm.set(R.A, self.head_lines, source=R.A)
                asm.set(R.B, self.code_lines, source=R.B)
        own = number * net.queries
        self._exchange(net.heads_width, own * net.head_dim, act.bits + 16 / act.group, name, "act", mine,
                       own * self.code_lines)  # fmt: skip
        asm.add("MISC", release=["MV"])
        asm.add("MV", wait=["MISC"])

    # -- the last token --------------------------------------------------------------------------------------------

    def _last_token(self) -> None:
        """The last token's residual vector by way of memory, to where it lies alone: what follows is a decode step."""
        asm, rows, size = self.asm, self.rows, self.network.hidden * FP32
        asm.operator("final_norm", "norm")
        asm.add("MISC", release=["ST"])
        asm.add("ST", wait=["MISC"])
        asm.set(R.A, self.cache_bytes, source=R.CACHE)
        self._set_last_row(R.B)
        with asm.loop(ceil_div(size, LINE_BYTES)):
            asm.add("ST", buffer="global", base_register=R.A, bytes=LINE_BYTES, buffer_line=self.x, buffer_register=R.B)
            asm.set(R.A, LINE_BYTES, source=R.A)
            asm.set(R.B, rows, source=R.B)
        asm.add("ST", release=["LD"])
        asm.add("LD", wait=["ST"], release=["MISC"], buffer="global", base_register=R.CACHE, offset=self.cache_bytes,
                bytes=size, buffer_line=self.x)  # fmt: skip
        asm.add("MISC", wait=["LD"])
        self.rows = 1

    def _set_last_row(self, register: Register) -> None:
        """The row of the last token, from 0 on."""
        self.asm.set(register, self.rows - 1)


def chunk_texts(
    decode: Sequence[CoreText], network: Network, machine: CoreMachine, max_context: int, tokens: int
) -> tuple[CoreText, ...]:  # fmt: skip
    """The texts of all cores for chunks of ``tokens``, beside those of a decode step, whose memories they share."""
    names: dict[tuple[str, str], int] = {}

    def write(item: CoreText) -> Text:
        return ChunkText(network, machine, item.share, item.cache, max_context, tokens, names).text()

    return texts_beside(decode, machine, write)


def texts_beside(
    decode: Sequence[CoreText], machine: CoreMachine, write: Callable[[CoreText], Text]
) -> tuple[CoreText, ...]:  # fmt: skip
    """The cores of ``decode`` with texts that ``write`` writes in place of theirs."""
    found = []
    for item in decode:
        text = write(item)
        sequencer = Sequencer(
            text.stream, text.operators, text.constants, slot_bytes(machine), machine.hbm.channels_per_core
        )
        found.append(msgspec.structs.replace(item, text=text, sequencer=sequencer))
    return tuple(found)


def chunk_registers(
    item: CoreText, network: Network, machine: CoreMachine, position: int, tokens: int, embedded: int
) -> dict[str, int]:  # fmt: skip
    """What the host writes before a chunk of ``tokens`` from ``position`` on, whose rows of the embedding lie one
    behind the other, each from a line on, at byte ``embedded`` of DDR."""
    cache = item.cache
    if position % cache.channels:
        raise InputError(f"a chunk must begin at a multiple of {cache.channels} tokens, not at {position}")
    at = msgspec.structs.replace(network, context=position + tokens)
    found, row = registers_of(item, at, machine), position // cache.channels
    return found | {
        "EMBEDDING": embedded, "TAIL_LINES": found["TAIL_LINES"] // network.queries * tokens,
        "NEW_KEY": row * cache.key_bytes, "NEW_VALUE": row * cache.value_bytes, "NEW_SCALE": row * cache.scale_bytes,
    }  # fmt: skip
