"""The instructions of a pass of a plain decoder on one core, as distinct rows with how often each runs.

They are those of the fused texts (``mapping.core_decode``, ``mapping.core_prefill``), by the same tilings, without a
text, addresses or tokens: what comes from a row is its occupancy and its counts. Of each row ``own`` says how many
of its runs no other unit's work hides, ``late`` behind how many something waits for its latency.
"""

from collections.abc import Iterator

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.formats import Format
from mixflight.mapping.core_decode import CAP_BYTES, FP32, kv_tile
from mixflight.mapping.core_memory import Cache, channel_share
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_program import BUFFERS, MEMORIES, OPERATIONS, SYS_OPERATIONS
from mixflight.mapping.core_shares import Share, tilings
from mixflight.mapping.core_tiles import Tiling, ceil_div, round_up, slot_bytes, tiling_of
from mixflight.mapping.vector import WORK

_BUFFER = {name: index for index, name in enumerate(BUFFERS)}
_CODES = {"MV": "weight", "MM": "act"}


class Rows:
    """Rows of one pass on one core by class: (times, own, late, attention, stage, columns).

    ``n`` is how often the layer in hand comes again. Stages are linears with what is fused to them (``linears``), and
    what lies between. ``stored``: bytes in each channel of what a decode step streams in once, by purpose.
    """

    def __init__(self, network: Network, machine: CoreMachine, share: Share, cache: Cache) -> None:
        self.network, self.machine, self.share, self.cache = network, machine, share, cache
        self.channels, self.many = machine.hbm.channels_per_core, machine.cores > 1
        self.n = 1.0
        self.attention = self.stage = 0
        self.linears = set[int]()
        self.found: dict[str, list[tuple[float, ...]]] = {
            kind: [] for kind in ("LD", "ST", "MM", "MV", "MISC", "SYS")
        }  # fmt: skip
        self.stored = {"weights": 0, "scales": 0, "indices": 0, "parameters": 0}

    # -- rows ------------------------------------------------------------------------------------------------------

    def add(self, kind: str, times: float, own: float, late: float, *columns: float) -> None:
        """``times`` runs of an instruction for each of ``n`` layers."""
        if times:
            n = self.n
            self.found[kind].append(
                (n * times, n * min(own, times), n * min(late, times), self.attention, self.stage, *columns)
            )  # fmt: skip

    def move(
        self, kind: str, times: float, buffer: str, size: int, *, late: float = 0, memory: str = "hbm",
        channels: int = 0,
    ) -> None:  # fmt: skip
        """``size`` bytes in each channel; behind ``late`` of the runs something waits."""
        if size:
            self.add(kind, times, late, late, MEMORIES.index(memory), _BUFFER[buffer], channels or self.channels, size)

    def misc(
        self, operation: str, times: float, vectors: int, elements: int, *, own: float = -1, late: float = -1,
        causal: int = 0, target: str = "global", static: bool = False,
    ) -> None:  # fmt: skip
        """``times`` of an operation; unless ``own`` says otherwise nothing hides any of them, and another unit waits
        for the last one alone."""
        own = times if own < 0 else own
        if vectors > 0 and elements > 0:
            passes = 1 if static else WORK[operation].passes
            self.add("MISC", times, own, min(own, 1.0) if late < 0 else late, OPERATIONS.index(operation), vectors,
                     elements, passes, causal, _BUFFER[target])  # fmt: skip

    def product(
        self, kind: str, times: float, item: Format, *, rows: int, columns: int, k: int, keep: int = K_BLOCK,
        accumulate: bool = False, last: bool = True, late: float = 0,
    ) -> None:  # fmt: skip
        """``times`` of MM or MV on codes of the format ``item``."""
        integer = item.offset or item.zero not in ("none", "f16-min")
        zero = 2 if item.zero == "f16-min" else int(bool(integer))
        self.add(kind, times, times, late, rows, columns, round_up(k, K_BLOCK), keep, item.bits, item.group, zero,
                 accumulate, last)  # fmt: skip

    def exchange(self, times: float, elements: int, bits: float) -> None:
        """What a core receives ``times``."""
        if self.many:
            received = ceil_div(int(elements * bits), 8)
            self.add("SYS", times, times, times, SYS_OPERATIONS.index("exchange"), received)

    def parameters(self, size: int, times: float = 1) -> None:
        """``size`` bytes of norms or biases, which come ahead of their use."""
        each = channel_share(size, self.channels)
        self.stored["parameters"] += int(self.n * times * each)
        self.move("LD", times, "global", each)

    def enter(self, *, linear: bool = False) -> None:
        """The next stage begins."""
        self.stage += 1
        if linear:
            self.linears.add(self.stage)

    def layers(self) -> Iterator[dict[str, Linear]]:
        """Distinct layers; ``n`` is how often each comes."""
        counts: dict[tuple[Linear, ...], int] = {}
        for layer in self.network.layers:
            key = tuple(layer.values())
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            self.n = float(count)
            yield {linear.name: linear for linear in key}
        self.n = 1.0

    def _stream(self, kind: str, times: float, tiling: Tiling, columns: int, k: int, last: bool) -> None:
        slab = tiling.slab_of(columns, k, last)
        parts = (("weights", _CODES[kind], slab.weight_bytes), ("scales", "scale", slab.scale_bytes),
                 ("indices", "index", slab.index_bytes))  # fmt: skip
        for purpose, buffer, size in parts:
            self.stored[purpose] += int(self.n * times * size)
            self.move("LD", times, buffer, size)

    def bias(self, linear: Linear, times: float, columns: int, rows: int, own: float) -> None:
        """The bias of ``times`` tiles."""
        if linear.bias:
            self.parameters(columns * FP32, times)
            self.misc("bias", times, rows, columns, own=own)

    # -- a vector: a decode step, and the head of a prefill --------------------------------------------------------

    def vector_linear(self, tiling: Tiling, rows: int) -> Iterator[tuple[int, int, float]]:
        """MVs of a linear; then (tiles, columns, tiles whose results are waited for) of what is fused to them."""
        self.enter(linear=True)
        for times, columns, ends in tiling.tiles():
            at = 0
            for k in tiling.slabs():
                last = at + k == tiling.linear.k
                self._stream("MV", times, tiling, columns, k, last)
                self.product("MV", times, tiling.linear.weight, rows=rows, columns=columns, k=k,
                             keep=tiling.linear.keep_n, accumulate=at > 0, last=last,
                             late=float(ends and last))  # fmt: skip
                at += k
            yield times, columns, float(ends)
        self.enter()

    def norm(self, rows: int) -> None:
        """Norm of whole vectors, and the bias of a LayerNorm."""
        net = self.network
        self.parameters(net.norm_bytes, net.norm_parameters)
        self.misc(net.norm, 1, rows, net.hidden, late=0)
        if net.norm == "layernorm":
            self.misc("bias", 1, rows, net.hidden, late=0)

    def caps(self) -> None:
        """The constants of soft caps."""
        if self.network.capped:
            self.parameters(CAP_BYTES)

    def vector_norm(self, linear: Linear, rows: int) -> None:
        """Norm of the residual vectors, and the codes of the next linear's input."""
        net = self.network
        self.norm(rows)
        self.misc("quantise", 1, rows, net.hidden, target="act", static=linear.static)

    def head(self, rows: int) -> None:
        """Logits of ``rows`` quantised vectors."""
        net = self.network
        tiling = tiling_of(net.head, *self.share.vocab, self.machine)
        for times, columns, own in self.vector_linear(tiling, rows):
            if net.logit_cap:
                self.misc("softcap", times, rows, columns, own=own)
        self.move("ST", 1, "global", channel_share(rows * tiling.columns * FP32, self.channels), late=1)
        self.add("SYS", 1, 1, 0, SYS_OPERATIONS.index("done"), 0)


class DecodeRows(Rows):
    """A decode step that makes the cache ``context`` long."""

    def write(self, context: int) -> "DecodeRows":
        """All rows."""
        net = self.network
        rows = net.batch
        self.caps()
        self.move("LD", rows, "global", net.embedding_bytes, late=1, memory="ddr", channels=1)
        self.misc("embed", 1, rows, net.hidden)
        if net.positions:
            self.move("LD", 1, "global", net.position_bytes, late=1, memory="ddr", channels=1)
            self.misc("bias", 1, rows, net.hidden)
        for layer in self.layers():
            self._layer(layer, context, rows)
        self.vector_norm(net.head, rows)
        self.head(rows)
        return self

    def _layer(self, layer: dict[str, Linear], context: int, rows: int) -> None:
        net, share = self.network, self.share
        tiles = tilings(net, self.machine, share, layer)
        step = net.queries * net.head_dim
        self.vector_norm(layer["k"], rows)
        if share.heads[1]:
            self._projections(tiles, rows)
            self._attention(context, rows * share.heads[1])
        self._shared(layer["o"], net.heads_width, share.heads[1] * step, rows)
        self._residual(tiles["o"], rows)
        self.vector_norm(layer["up"], rows)
        gate = tiles.get("gate")
        if gate is not None:
            for times, columns, own in self.vector_linear(gate, rows):
                self.bias(gate.linear, times, columns, rows, own)
        for times, columns, own in self.vector_linear(tiles["up"], rows):
            self.bias(tiles["up"].linear, times, columns, rows, own)
            self.misc(net.activation, times, rows, columns, own=own)
        self._shared(layer["down"], net.ffn, share.ffn[1], rows)
        self._residual(tiles["down"], rows)

    def _projections(self, tiles: dict[str, Tiling], rows: int) -> None:
        net, heads = self.network, rows * self.share.heads[1]
        for name in ("k", "v", "q"):
            for times, columns, ends in self.vector_linear(tiles[name], rows):
                # what follows k and v is hidden by the next linear's products
                own = ends * (name == "q")
                self.bias(tiles[name].linear, times, columns, rows, own)
                vectors = columns // net.head_dim * rows
                if name != "v" and net.head_norm_bytes:
                    self.parameters(net.head_norm_bytes, times)
                    self.misc("norm", times, vectors, net.head_dim, own=own)
                if name != "v" and net.rope:
                    self.misc("rope", times, vectors, net.head_dim, own=own)
        self.misc("kv_append", 1, 2 * heads, net.head_dim, own=0, target="act")
        for size in (self.cache.key_bytes, self.cache.value_bytes, self.cache.scale_bytes):
            self.move("ST", heads, "act", size, channels=1)
        self.misc("quantise", heads, net.queries, net.head_dim, target="act", static=net.static_query)

    def _attention(self, context: int, heads: int) -> None:
        net, cache, tile = self.network, self.cache, kv_tile(self.machine)
        full = (context - 1) // tile
        tail = round_up(context - full * tile, K_BLOCK)
        self.attention = 1
        for times, tokens in ((full, tile), (1, tail)):
            each = ceil_div(tokens, self.channels)
            self.move("LD", heads * times, "weight", each * cache.key_bytes)
            self.move("LD", heads * times, "scale", each * cache.scale_bytes)
            self.move("LD", heads * times, "weight", each * cache.value_bytes)
            self.product("MV", heads * times, net.key, rows=net.queries, columns=tokens, k=net.head_dim)
            self.product("MV", heads * times, net.value, rows=net.queries, columns=net.head_dim, k=tokens,
                         accumulate=tokens == tile)  # fmt: skip
        scales = (full * tile // self.channels + ceil_div(tail, self.channels)) * cache.scale_bytes
        self.move("LD", heads, "global", scales)
        if net.attention_cap:
            self.misc("softcap", heads, net.queries, context, late=0)
        self.misc("softmax", heads, net.queries, context, late=0)
        self.misc("probability_quantise", heads, net.queries, context, target="act")
        self.attention = 0

    def _shared(self, linear: Linear, width: int, own: int, rows: int) -> None:
        """A linear's input of which this core has ``own``: quantised ahead of the exchange where it can be."""
        act = linear.act
        whole = width != self.network.heads_width or not act.group or (
            self.network.head_dim * self.network.queries % act.group == 0
        )  # fmt: skip
        if linear.static or (act.group and whole) or not self.many:
            self.misc("quantise", 1, rows, own, target="act")
            self.exchange(1, rows * (width - own), act.bits + (16 / act.group if act.group else 0))
        else:
            self.exchange(1, rows * (width - own), FP32 * 8)
            self.misc("quantise", 1, rows, width, target="act")

    def _residual(self, tiling: Tiling, rows: int) -> None:
        net = self.network
        for times, columns, own in self.vector_linear(tiling, rows):
            self.bias(tiling.linear, times, columns, rows, own)
            if not net.post_norms:
                self.misc("residual", times, rows, columns, own=own)
        self.exchange(1, rows * (net.hidden - tiling.columns), FP32 * 8)
        if net.post_norms:
            self.norm(rows)
            self.misc("residual", 1, rows, net.hidden)


class PrefillRows(Rows):
    """A prefill, block by block; linears' results are held twice, so that what is fused to a tile runs beside the
    products of the next one, but for gate and up."""

    def write(self, tokens: int) -> "PrefillRows":
        """All rows."""
        net, block = self.network, self.machine.mm_rows
        full, rest = divmod(tokens, block)
        blocks = [(at, block) for at in range(full)] + ([(full, rest)] if rest else [])
        row = net.hidden * FP32
        self.caps()
        for _, rows in blocks:
            groups = net.batch * ceil_div(rows, self.channels)
            self.move("LD", groups, "global", self.channels * net.embedding_bytes, memory="ddr", channels=1)
            self.misc("embed", groups, self.channels, net.hidden)
            if net.positions:
                self.move("LD", groups, "global", self.channels * net.position_bytes, memory="ddr", channels=1)
                self.misc("residual", groups, self.channels, net.hidden)
            self.move("ST", groups, "global", row)
        for layer in self.layers():
            count = self.n
            for done, rows in blocks:
                self.n = count * net.batch
                self._block(layer, done, rows)
                self.n = count
        self.move("LD", net.batch, "global", row, late=1)
        self.parameters(net.norm_bytes, net.norm_parameters)
        self._normed(net.batch, 1)
        self.misc("quantise", 1, net.batch, net.hidden, target="act", static=net.head.static)
        self.head(net.batch)
        return self

    def _block(self, layer: dict[str, Linear], done: int, rows: int) -> None:
        net, share = self.network, self.share
        tiles = tilings(net, self.machine, share, layer)
        self._norm(layer["k"], rows)
        if share.heads[1]:
            for name in ("k", "v", "q"):
                for times, columns, own in self._linear(tiles[name], rows):
                    self._projected(name, tiles[name], times, columns, rows, own)
            sizes = (self.cache.key_bytes, self.cache.value_bytes, self.cache.scale_bytes)
            each = ceil_div(round_up(rows, K_BLOCK), self.channels)
            for size in sizes:
                self.move("ST", share.heads[1], "weight", each * size, late=1)
            self._attention(layer["o"], done, rows)
        self.enter()
        self._gather(layer["o"], net.heads_width, share.heads[1] * net.queries * net.head_dim, rows)
        self._residual(tiles["o"], rows)
        self._norm(layer["up"], rows)
        self._ffn(tiles, layer["down"], rows)
        self._gather(layer["down"], net.ffn, share.ffn[1], rows)
        self._residual(tiles["down"], rows)

    def _groups(self, rows: int) -> int:
        return ceil_div(rows, self.channels)

    def _norm(self, linear: Linear, rows: int) -> None:
        net, groups = self.network, self._groups(rows)
        self.move("LD", net.norm_parameters, "global", channel_share(net.norm_bytes, self.channels), late=1)
        self.move("LD", groups, "global", net.hidden * FP32)
        self._normed(groups, self.channels)
        self.misc("quantise", groups, self.channels, net.hidden, target="weight", static=linear.static)

    def _normed(self, times: float, vectors: int) -> None:
        """``times`` the norm of a group of rows, and the bias of a LayerNorm."""
        net = self.network
        self.misc(net.norm, times, vectors, net.hidden, late=0)
        if net.norm == "layernorm":
            self.misc("bias", times, vectors, net.hidden, late=0)

    def _linear(self, tiling: Tiling, rows: int, *, held: bool = True) -> Iterator[tuple[int, int, float]]:
        """MMs of a linear; then (tiles, columns, tiles whose fused work is waited for)."""
        linear, machine = tiling.linear, self.machine
        width = min(machine.mm_columns, tiling.step)
        grain = max(LINE_BYTES, linear.weight.block or 1)
        longest = max(grain, slot_bytes(machine)["act"] // tiling.step // grain * grain)
        part = tiling.part_of(longest)
        self.enter(linear=True)
        for times, columns, ends in tiling.tiles():
            steps, at = ceil_div(columns, tiling.step), 0
            for k in tiling.slabs():
                last = at + k == linear.k
                whole = tiling.slab_of(tiling.step, k, last or bool(linear.weight.group))
                middle = (k - 1) // longest
                for number, length, ended in ((middle, longest, False), (1, k - middle * longest, last)):
                    self.product("MM", number * times * steps * (tiling.step // width), linear.weight, rows=rows,
                                 columns=width, k=length, keep=linear.keep_n, accumulate=at > 0, last=ended,
                                 late=float(ended and (ends or not held)) * (1 if held else times))  # fmt: skip
                for name, buffer in (("weight_bytes", "act"), ("scale_bytes", "scale"), ("index_bytes", "index")):
                    one = getattr(part, name)
                    self.move("LD", times * steps * middle, buffer, one)
                    self.move("LD", times * steps, buffer, getattr(whole, name) - middle * one)
                at += k
            yield times, columns, float(ends) if held else float(times)
        self.enter()

    def _projected(self, name: str, tiling: Tiling, times: int, columns: int, rows: int, own: float) -> None:
        net = self.network
        self.bias(tiling.linear, times, columns, rows, own)
        vectors = columns // net.head_dim * rows
        if name != "v" and net.head_norm_bytes:
            self.misc("norm", times, vectors, net.head_dim, own=own)
        if name != "v" and net.rope:
            self.misc("rope", times, vectors, net.head_dim, own=own)
        kind = "quantise" if name == "q" else "kv_append"
        self.misc(kind, times, vectors, net.head_dim, own=own, target="weight", static=name == "q" and net.static_query)

    def _attention(self, linear: Linear, done: int, rows: int) -> None:
        net, cache, block = self.network, self.cache, self.machine.mm_rows
        heads, groups = self.share.heads[1] * net.queries, self._groups(rows)
        width = min(self.machine.mm_columns, net.head_dim)
        for times, tokens in ((done, block), (1, rows)):
            often = heads * times
            each = ceil_div(round_up(tokens, K_BLOCK), self.channels)
            self.move("LD", often, "act", each * cache.key_bytes)
            self.move("LD", often, "scale", each * cache.scale_bytes)
            self.move("LD", often, "act", each * cache.value_bytes)
            self.product("MM", often * ceil_div(tokens, K_BLOCK), net.key, rows=rows, columns=K_BLOCK,
                         k=net.head_dim, late=often)  # fmt: skip
            self.product("MM", often * ceil_div(net.head_dim, width), net.value, rows=rows, columns=width, k=tokens,
                         late=often)  # fmt: skip
            self.move("ST", often * groups, "global", block * FP32, late=often)
        seen = done * block + rows
        each = ceil_div(seen, self.channels) * cache.scale_bytes
        self.move("LD", heads, "global", each, late=heads)
        self.move("LD", heads * groups, "global", seen * FP32)
        if net.attention_cap:
            self.misc("softcap", heads * groups, self.channels, seen, late=0, causal=1)
        self.misc("softmax", heads * groups, self.channels, seen, late=0, causal=1)
        self.misc("probability_quantise", heads * groups, self.channels, seen, late=heads, causal=1,
                  target="weight")  # fmt: skip
        self._leave(linear, net.heads_width, net.head_dim, rows, heads)

    def _local(self, linear: Linear, width: int) -> bool:
        net = self.network
        whole = width != net.heads_width or net.head_dim * net.queries % max(linear.act.group, 1) == 0
        return linear.static or (bool(linear.act.group) and whole)

    def _leave(self, linear: Linear, width: int, columns: int, rows: int, times: float, own: float = -1) -> None:
        """Results of ``times`` tiles: codes, of which nothing hides ``own`` (all), or rows to memory."""
        if self._local(linear, width):
            self.misc("quantise", times, rows, columns, own=own, target="weight", static=linear.static)
        else:
            number = times * self._groups(rows)
            self.move("ST", number, "global", columns * FP32, late=number)

    def _gather(self, linear: Linear, width: int, own: int, rows: int) -> None:
        groups = self._groups(rows)
        if not self._local(linear, width):
            self.exchange(groups, self.channels * (self.machine.cores - 1), FP32 * 8)
            self.move("LD", groups, "global", own * FP32)
            self.misc("quantise", groups, self.channels, own, target="weight")
        bits = linear.act.bits + (16 / linear.act.group if linear.act.group else 0)
        self.exchange(groups, self.channels * (width - own), bits)

    def _residual(self, tiling: Tiling, rows: int) -> None:
        net, cores, groups = self.network, self.machine.cores, self._groups(rows)
        for times, columns, own in self._linear(tiling, rows):
            self.bias(tiling.linear, times, columns, rows, own)
            number, waited = times * groups, own * groups
            if not net.post_norms:
                self.move("LD", number, "global", columns * FP32)
                self.misc("residual", number, self.channels, columns, own=waited, late=waited)
            if self.many:
                received = (cores - 1) * self.channels * columns * FP32
                self.add("SYS", number, waited, waited, SYS_OPERATIONS.index("exchange"), received)
            self.move("ST", number * cores, "global", columns * FP32, late=waited)
        if net.post_norms:
            self.move("LD", net.norm_parameters, "global", channel_share(net.norm_bytes, self.channels), late=1)
            self.move("LD", 2 * groups, "global", net.hidden * FP32, late=groups)
            self._normed(groups, self.channels)
            self.misc("residual", groups, self.channels, net.hidden)
            self.move("ST", groups, "global", net.hidden * FP32, late=groups)

    def _ffn(self, tiles: dict[str, Tiling], down: Linear, rows: int) -> None:
        gate, up = tiles.get("gate"), tiles["up"]
        if gate is not None:
            for _ in self._linear(gate, rows, held=False):
                pass
        for times, columns, own in self._linear(up, rows, held=gate is None):
            self.bias(up.linear, times, columns, rows, own)
            self.misc(self.network.activation, times, rows, columns, own=own)
            self._leave(down, self.network.ffn, columns, rows, times, own)
