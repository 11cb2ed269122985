"""Operators from the append to the cache to the attention's output: they depend on the context."""

import functools
import math
from typing import Literal

import msgspec

from mixflight.arch.formats import FORMATS, Format
from mixflight.workloads.attention_pattern import FULL, Pattern, Window, densities, pattern_of, spans
from mixflight.workloads.codec import Codec
from mixflight.workloads.codec_products import products
from mixflight.workloads.codec_size import stored
from mixflight.workloads.expansion import Expansion, Pass, decoded, weighted
from mixflight.workloads.expression import evaluate
from mixflight.workloads.inserted_operators import inserted, operators_of
from mixflight.workloads.kv_policy import Part
from mixflight.workloads.layer_shape import LayerShape
from mixflight.workloads.operators import Operator

_LONG = 1024  # tokens over which the bits of a token's keys and values are averaged where they are written


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """How a layer stores keys and values, and what a pass sees of them: the layers that share it are expanded once."""

    shape: LayerShape
    k: Codec | Format
    v: Codec | Format
    pattern: Pattern
    layer: int
    tokens: int
    context: int


def cache_of(e: Expansion, step: Pass, layer: int) -> Cache:
    """The cache of ``layer`` in ``step``; ``layer`` is told apart only where a table goes by layers."""
    shape = e.graph.layers[layer]
    k: Codec | Format
    v: Codec | Format
    if e.recipe is None:
        k, v = e.formats.kv_formats()
        pattern: Pattern = FULL
    else:
        k, v = e.recipe.kv.codecs(layer, e.model.layers)
        pattern = pattern_of(e.recipe.attn, layer, step.phase, step.number)
    if pattern is FULL and shape.window:
        pattern = Window(tokens=shape.window)
    tables = (getattr(pattern, field, 0) for field in ("alpha", "beta", "full"))
    by_layer = any(isinstance(table, tuple) for table in tables)
    by_layer = by_layer or bool(e.kv and e.kv.evict and isinstance(e.kv.evict.keep, tuple))
    by_layer = by_layer or any(op.layers for op in (e.recipe.ops if e.recipe else ()))
    return Cache(
        shape=shape, k=k, v=v, pattern=pattern, layer=layer if by_layer else e.layers[0],
        tokens=e.tokens(step, layer), context=e.context(step, layer),
    )  # fmt: skip


def attention(e: Expansion, step: Pass, layer: int) -> list[Operator]:
    """The operators of ``layer`` from the cache's append to the attention's output."""
    cache = cache_of(e, step, layer)
    shape = cache.shape
    if not shape.attention:
        return []
    batch = e.batch * step.streams
    found: list[Operator] = []
    earlier = cache.context - cache.tokens if step.phase == "prefill" else cache.context
    kept = e.kv.kept(earlier, cache.layer) if e.kv else earlier
    kept = kept + cache.tokens if step.phase == "prefill" else max(kept, min(cache.tokens, cache.context))
    if shape.projects_kv:
        written = e.kv.kept(cache.tokens, cache.layer) if e.kv and step.phase == "prefill" else cache.tokens
        found += _append(e, cache.shape, cache.k, cache.v, batch, written)
        found += inserted(e, step, layer, "kv.write", shape.kv_heads * (shape.qk_dim + shape.v_dim))
    found += e.quantise("query_quantise", "attention", batch * cache.tokens * shape.heads, shape.qk_dim)
    found += _scorer(e, step, layer, cache, kept)
    found += inserted(e, step, layer, "scores", kept, kept)
    found += inserted(e, step, layer, "kv.read", shape.kv_heads * (shape.qk_dim + shape.v_dim), kept)
    if e.kv and e.kv.latent:
        found += _latent(e, step, cache, batch, kept)
    elif cache.tokens > 1 and step.phase == "prefill":
        found += _whole(e, step, cache, batch, kept)
    else:
        for seen, heads in spans(cache.pattern, kept, cache.layer, shape.kv_heads, cache.context):
            found += _span(e, step, cache, batch, heads, max(seen, min(cache.tokens, kept)))
    return found + (_cross(e, step, layer, cache, batch) if shape.cross else [])


def at_context(operators: list[Operator], context: int) -> list[Operator]:
    """The attention ``operators`` of a recipe that only names formats, at another context."""
    found = []
    for op in operators:
        if op.kind == "qk" and op.weight:
            read = op.count * context * op.weight.row_bits(op.k) // 8
            op = msgspec.structs.replace(op, n=context, kv_read_bytes=read)
        elif op.kind == "av" and op.weight:
            read = op.count * context * op.weight.row_bits(op.n) // 8
            op = msgspec.structs.replace(op, k=context, kv_read_bytes=read)
        elif op.name in ("softmax", "attention_cap", "probability_quantise"):
            op = msgspec.structs.replace(op, n=context)
        found.append(op)
    return found


@functools.lru_cache(maxsize=4096)
def _row_bits(codec: Codec | Format, width: int, heads: int, tokens: int = _LONG) -> float:
    """Stored bits of one token's row of one head."""
    if isinstance(codec, Format):
        return codec.row_bits(width)
    return stored(codec, tokens, width, heads).bits / tokens


@functools.lru_cache(maxsize=4096)
def _named_row_bits(codec: str | Format, width: int) -> int:
    return decoded(codec).row_bits(width)


def _bytes(codec: Codec | Format, tokens: int, width: int, heads: int, count: int) -> int:
    """Stored bytes of ``count`` times ``tokens`` rows of one head."""
    if isinstance(codec, Format | str):
        return count * tokens * _named_row_bits(codec, width) // 8
    return math.ceil(count * stored(codec, tokens, width, heads).bits / 8 - 1e-9)


def _append(
    e: Expansion, shape: LayerShape, k_codec: Codec | Format, v_codec: Codec | Format, batch: int, tokens: int
) -> list[Operator]:
    """The write of new tokens; what is compressed later is written twice."""
    rows, kv = batch * tokens, shape.kv_heads
    latent, window = (e.kv.latent, e.kv.window) if e.kv else (None, None)
    bits = _row_bits(k_codec, shape.qk_dim, kv) + _row_bits(v_codec, shape.v_dim, kv)
    if latent:
        widths = round(latent.k * kv * shape.qk_dim), round(latent.v * kv * shape.v_dim)
        bits = sum(_row_bits(codec, width, 1) for codec, width in zip((k_codec, v_codec), widths, strict=True)) / kv
    if window or (e.kv and (e.kv.residual or e.kv.flush > 1)):
        k, v = (window.k, window.v) if window else ("f16", "f16")
        bits += _row_bits(k, shape.qk_dim, kv) + _row_bits(v, shape.v_dim, kv)  # written, read and written again
    width = kv * (shape.qk_dim + shape.v_dim)
    return [e.vector("kv_append", "kv_append", rows, width, kv_write_bytes=int(rows * kv * bits / 8 + 1e-6))]


def _softmax(
    e: Expansion, vectors: int, width: int, causal: int, density: float = 1.0, name: str = ""
) -> list[Operator]:
    found = [e.vector("attention_cap", "softcap", vectors, width)] if e.model.attention_cap else []
    found.append(e.vector("softmax", "softmax", vectors, width))
    found += e.quantise("probability_quantise", "attention", vectors, width)
    return [
        msgspec.structs.replace(op, causal_step=causal, density=density, name=f"{name}{op.name}") for op in found
    ]  # fmt: skip


def _whole(e: Expansion, step: Pass, cache: Cache, batch: int, columns: int) -> list[Operator]:
    """Attention of a prefill to ``columns`` tokens, those that stay of earlier chunks and its own: part by part of how
    they are stored."""
    shape, found = cache.shape, []
    queries, causal = shape.queries_per_kv_head, shape.queries_per_kv_head if step.causal else 0
    for density, heads in densities(cache.pattern, cache.tokens, cache.layer, shape.kv_heads, columns, step.causal):
        count = batch * heads
        sides: tuple[tuple[Literal["qk", "av"], Literal["k", "v"], Codec | Format, int], ...] = (
            ("qk", "k", cache.k, shape.qk_dim), ("av", "v", cache.v, shape.v_dim),
        )  # fmt: skip
        for kind, which, codec, width in sides:
            first = 0
            for part in _parts(e, which, codec, columns, cache.context):
                end = first + part.tokens
                blocks = _blocks(first, end, cache.tokens, columns) if causal else [(cache.tokens, False)]
                for rows, masked in blocks:
                    for op in _products(e, kind, part, width, cache, count, rows * queries, causal if masked else 0):
                        read = op.kv_read_bytes if (rows, masked) == max(blocks) else 0
                        found.append(msgspec.structs.replace(op, density=op.density * density, kv_read_bytes=read))
                first = end
            if kind == "qk":
                found += _softmax(e, count * cache.tokens * queries, columns, count * causal, density)
    return found


def _blocks(first: int, end: int, tokens: int, columns: int) -> list[tuple[int, bool]]:
    """(tokens, whether masked) of the products with the columns ``first`` ... ``end`` - 1 of ``columns``, of which the
    last ``tokens`` are the new ones: those among the columns see a triangle of them, later ones see them all."""
    before = columns - tokens
    among, later = max(0, end - max(first, before)), columns - max(end, before)
    return [block for block in ((among, True), (later, False)) if block[0]]


def _parts(e: Expansion, which: Literal["k", "v"], codec: Codec | Format, tokens: int, context: int) -> list[Part]:
    if e.kv is None or isinstance(codec, Format):
        return [Part(tokens, codec)]  # type: ignore[arg-type]
    return e.kv.parts(which, codec, tokens, context)


def _span(e: Expansion, step: Pass, cache: Cache, batch: int, heads: int, seen: int) -> list[Operator]:
    """Attention of ``heads`` KV heads over ``seen`` tokens, part by part of how they are stored."""
    shape = cache.shape
    count, m = batch * heads, cache.tokens * shape.queries_per_kv_head
    causal = shape.queries_per_kv_head if step.causal and cache.tokens > 1 else 0
    k_parts = _parts(e, "k", cache.k, seen, cache.context)
    v_parts = _parts(e, "v", cache.v, seen, cache.context)
    found = []
    for part in k_parts:
        found += _products(e, "qk", part, shape.qk_dim, cache, count, m, causal if len(k_parts) == 1 else 0)
    found += _softmax(e, count * m, seen, count * causal if causal else 0)
    for part in v_parts:
        found += _products(e, "av", part, shape.v_dim, cache, count, m, causal if len(v_parts) == 1 else 0)
    return found


def _products(
    e: Expansion, kind: Literal["qk", "av"], part: Part, width: int, cache: Cache, count: int, m: int, causal: int
) -> list[Operator]:
    """Products with one part of the cache: those of its codec, transposed for values. Values that a sparse codec drops
    are zeros that are multiplied: an array leaves out blocks of pairs, no single values. Of a sum of terms (outliers
    beside codes) a sparse one is as many multiplies as it has values."""
    read = _bytes(part.codec, part.tokens, width, cache.shape.kv_heads, count)
    read += math.ceil(count * part.tokens * width * part.side_bits / 8)
    if isinstance(part.codec, Format | str):
        items = [(decoded(part.codec), part.tokens, width, 1.0)]
        found_bytes = [read]
    else:
        pieces = products(part.codec, part.tokens, width)
        pieces = pieces if kind == "qk" else pieces[::-1]
        items = [(piece.format, piece.n, piece.k, piece.density if len(pieces) > 1 else 1.0) for piece in pieces]
        total = sum(piece.size.bits for piece in pieces) or 1.0
        found_bytes = [int(read * piece.size.bits / total) for piece in pieces]
        found_bytes[0] += read - sum(found_bytes)
    return [
        Operator(
            name=kind, kind=kind, layers=(), m=m, n=n if kind == "qk" else k, k=k if kind == "qk" else n, count=count,
            causal_step=causal if n == part.tokens else 0, weight=item, act=e.query, kv_read_bytes=bytes_,
            density=density,
        )
        for (item, n, k, density), bytes_ in zip(items, found_bytes, strict=True)
    ]  # fmt: skip


def _latent(e: Expansion, step: Pass, cache: Cache, batch: int, kept: int) -> list[Operator]:
    """Attention on latents: projected up for every cached token, or absorbed into queries and outputs. Tokens at the
    ends of the cache that are stored in full are computed on as such."""
    assert e.kv is not None
    assert e.kv.latent is not None
    shape, latent = cache.shape, e.kv.latent
    causal = step.causal and cache.tokens > 1
    vectors = batch * cache.tokens * shape.heads
    keys = _latent_side(e, "qk", cache.k, shape.qk_dim, latent.k, cache, batch, kept, causal)
    values = _latent_side(e, "av", cache.v, shape.v_dim, latent.v, cache, batch, kept, causal)
    return keys + _softmax(e, vectors, kept, vectors // cache.tokens if causal else 0) + values


def _latent_side(
    e: Expansion, kind: Literal["qk", "av"], codec: Codec | Format, head: int, share: float, cache: Cache, batch: int,
    kept: int, causal: bool,
) -> list[Operator]:  # fmt: skip
    """Products with keys or values: before those of keys, or after those of values, what makes them of latents."""
    assert e.kv is not None
    assert e.kv.latent is not None
    shape, which = cache.shape, "k" if kind == "qk" else "v"
    width, absorbed = round(share * shape.kv_heads * head), which in e.kv.latent.absorb
    found: list[Operator] = []
    first = compressed = 0
    for part in _parts(e, "k" if kind == "qk" else "v", codec, kept, cache.context):
        blocks = _blocks(first, first + part.tokens, cache.tokens, kept) if causal else [(cache.tokens, False)]
        first += part.tokens
        compressed += 0 if part.apart else part.tokens
        for rows, masked in blocks:
            if part.apart:
                count, queries = batch * shape.kv_heads, shape.queries_per_kv_head
                found_here = _products(e, kind, part, head, cache, count, rows * queries, queries if masked else 0)
            else:
                count, queries = (
                    (batch, shape.heads) if absorbed else (batch * shape.kv_heads, shape.queries_per_kv_head)
                )
                inner = width if absorbed else head
                n, k = (part.tokens, inner) if kind == "qk" else (inner, part.tokens)
                found_here = [Operator(
                    name=kind, kind=kind, layers=(), m=rows * queries, n=n, k=k, count=count,
                    weight=decoded(part.codec), act=e.query, causal_step=queries if masked else 0,
                    kv_read_bytes=_bytes(part.codec, part.tokens, width, 1, batch),
                )]  # fmt: skip
            read = (rows, masked) == max(blocks)
            found += [op if read else msgspec.structs.replace(op, kv_read_bytes=0) for op in found_here]
    if not compressed:
        return found
    if not absorbed:
        up = weighted(f"{which}_up", "f16", FORMATS["f16"], shape.kv_heads * head, width, batch * compressed)
        return up + found
    n, k = (width, head) if kind == "qk" else (head, width)
    fold = weighted(f"{which}_absorbed", "f16", FORMATS["f16"], n, k, batch * cache.tokens, count=shape.heads)
    return fold + found if kind == "qk" else found + fold


def _scorer(e: Expansion, step: Pass, layer: int, cache: Cache, kept: int) -> list[Operator]:
    """What finds the tokens that a pattern keeps."""
    symbols = {**e.symbols(step, layer, cache.shape), "x": kept, "kept": kept}
    return [
        operator
        for op in cache.pattern.scorer
        if op.phase in ("both", step.phase) and (step.phase == "prefill" or step.number % op.every == 0)
        for operator in operators_of(op, symbols, name=op.name)
    ]


def _cross(e: Expansion, step: Pass, layer: int, cache: Cache, batch: int) -> list[Operator]:
    """Cross-attention after self-attention: its own queries and output, over tokens that do not grow."""
    shape, hidden = cache.shape, e.model.hidden
    tokens = round(evaluate(shape.cross, {**e.symbols(step, layer, shape), "kept": 0, "x": hidden}))
    queries = min(cache.tokens, shape.cross_queries or cache.tokens)
    rows, width = batch * queries, shape.heads * shape.qk_dim
    kv = shape.kv_heads * shape.qk_dim
    found = [*e.quantise("cross_input_quantise", e.full_name(layer, "cross_q"), rows, hidden),
             *e.linear("cross_q", e.full_name(layer, "cross_q"), width, hidden, rows)]  # fmt: skip
    if step.phase == "prefill" and shape.cross_kv == "own":
        for name in ("cross_k", "cross_v"):
            found += e.linear(name, e.full_name(layer, name), kv, hidden, batch * tokens)
        bits = _row_bits(cache.k, shape.qk_dim, shape.kv_heads) + _row_bits(cache.v, shape.v_dim, shape.kv_heads)
        written = int(batch * tokens * shape.kv_heads * bits / 8)
        found.append(e.vector("cross_append", "kv_append", batch * tokens, 2 * kv, kv_write_bytes=written))
    count, m = batch * shape.kv_heads, queries * shape.queries_per_kv_head
    found += e.quantise("cross_query_quantise", "attention", rows * shape.heads, shape.qk_dim)
    for kind, codec, head in (("qk", cache.k, shape.qk_dim), ("av", cache.v, shape.v_dim)):
        n, k = (tokens, head) if kind == "qk" else (head, tokens)
        found.append(Operator(
            name=f"cross_{kind}", kind="qk" if kind == "qk" else "av", layers=(), m=m, n=n, k=k, count=count,
            weight=decoded(codec), act=e.query,
            kv_read_bytes=_bytes(codec, tokens, head, shape.kv_heads, count),
        ))  # fmt: skip
        if kind == "qk":
            found += _softmax(e, rows * shape.heads, tokens, 0, name="cross_")
    found += e.quantise("cross_output_quantise", e.full_name(layer, "cross_o"), rows, width)
    found += e.linear("cross_o", e.full_name(layer, "cross_o"), hidden, width, rows)
    return [*found, e.vector("cross_residual", "residual", rows, hidden)]
