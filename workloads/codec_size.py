"""Stored bits of a codec: codes, scales and zero points, indices, codebooks."""

import math
from typing import NamedTuple

from mixflight.arch.errors import InputError
from mixflight.arch.formats import format_named
from mixflight.workloads.codec import (
    Bin,
    Bitmap,
    Block,
    Codec,
    Coo,
    Float,
    Int,
    Leaf,
    NestedScale,
    Nm,
    Prod,
    Quat,
    Rows,
    Sparse,
    Split,
    Sum,
    Tern,
    Vq,
    widths_apart,
)

SCALE_BITS = {"none": 0, "f16": 16, "bf16": 16, "f32": 32, "e8m0": 8, "ue4m3": 8, "u8": 8}
ZERO_BITS = {"none": 0, "folded": 0, "f16": 16, "u1": 1, "u2": 2, "u3": 3, "u4": 4, "u8": 8}


class Stored(NamedTuple):
    """Bits of a tensor: ``codes`` (the payload: kept values or indices into codebooks), ``scales`` with zero points,
    ``places`` (of kept values, masks, split sides) and ``books``."""

    codes: float = 0.0
    scales: float = 0.0
    places: float = 0.0
    books: float = 0.0

    @property
    def bits(self) -> float:
        """All of them."""
        return self.codes + self.scales + self.places + self.books

    def plus(self, other: "Stored", times: float = 1.0) -> "Stored":
        """The sum of this and ``times`` the other."""
        return Stored(*(mine + times * more for mine, more in zip(self, other, strict=True)))


def stored(codec: Codec, rows: int, cols: int, heads: int = 1) -> Stored:
    """Bits of a tensor of ``rows`` (outputs, or tokens) times ``cols`` (inputs, or a head's channels).

    ``heads``  of a token that share a scale where it is stored per token.
    """
    codec = widths_apart(codec)
    if isinstance(codec, str):
        item = format_named(codec, "a codec")
        bits = item.row_bits(cols)
        return Stored(codes=float(rows * cols * item.bits), scales=float(rows * (bits - cols * item.bits)))
    if isinstance(codec, Sum):
        total = Stored()
        for term in codec.terms:
            total = total.plus(stored(term, rows, cols, heads))
        return total
    if isinstance(codec, Prod):
        return _product(codec, rows, cols, heads)
    if isinstance(codec, Split):
        total = Stored(places=codec.side_bits * rows * cols)
        for share, part in codec.parts:
            total = total.plus(stored(part, rows, cols, heads), share)
        return total
    return _leaf(codec, rows, cols, heads)


def _product(codec: Prod, rows: int, cols: int, heads: int) -> Stored:
    """The factors; in a cache, tokens in chunks of ``chunk`` have factors of their own."""
    chunk = codec.chunk or rows
    if rows == 0:
        return Stored()
    rank = codec.rank_of(chunk, cols)
    one = stored(codec.f[0], chunk, rank, heads).plus(stored(codec.f[1], rank, cols, heads))
    return Stored().plus(one, rows / chunk)


def _leaf(leaf: Leaf, rows: int, cols: int, heads: int) -> Stored:
    values = float(rows * cols)
    scales = _scales(leaf, rows, cols, heads) * (_scale_bits(leaf) + _zero_bits(leaf))
    if isinstance(leaf, Vq):
        along = rows if leaf.axis == "out" else cols
        if along % leaf.v and rows > 1:
            raise InputError(
                f"vectors must divide the tensor: {leaf.v} does not divide {along} values along {leaf.axis}"
            )
        books = float(leaf.books * leaf.k * leaf.v * leaf.book_bits) if leaf.tables else 0.0
        return Stored(codes=values / leaf.v * math.log2(leaf.k), scales=scales, books=books)
    width = _width(leaf)
    if leaf.sparse is None:
        return Stored(codes=values * width, scales=scales)
    kept, index = sparse_cost(leaf.sparse, rows, cols)
    return Stored(codes=kept * width, scales=scales, places=index)


def _width(leaf: Leaf) -> float:
    if isinstance(leaf, Int | Float | Tern):
        assert not isinstance(leaf.b, tuple)
        return float(leaf.b)
    return 1.0 if isinstance(leaf, Bin) else 2.0


def _scale_bits(leaf: Leaf) -> float:
    if isinstance(leaf.scale, NestedScale):
        return leaf.scale.b + leaf.scale.scale_bits / leaf.scale.group
    times = 2 if isinstance(leaf, Quat) else 1  # real and imaginary
    return float(times * SCALE_BITS[leaf.scale])


def _zero_bits(leaf: Leaf) -> float:
    return float(ZERO_BITS[leaf.stored_zero if isinstance(leaf, Int) else leaf.zero or "none"])


def _scales(leaf: Leaf, rows: int, cols: int, heads: int) -> float:
    """How many scales the tensor has."""
    if leaf.per == "tensor":
        return 1.0
    if leaf.per == "in" or (leaf.per == "channel" and not leaf.group):
        return float(cols)
    if leaf.per == "channel":
        return cols * rows / leaf.group
    if leaf.per == "group":
        if cols % leaf.group:
            raise InputError(f"group must divide K: {leaf.group} does not divide {cols}")
        return float(rows * (cols // leaf.group))
    return rows / heads if leaf.per == "token" else float(rows)


def sparse_cost(sparse: Sparse, rows: int, cols: int) -> tuple[float, float]:
    """Values stored of a tensor of ``rows`` times ``cols``, and the bits that say where they are."""
    values = rows * cols
    if isinstance(sparse, Nm):
        if cols % sparse.m:
            raise InputError(f"the m of n:m must divide K: {sparse.m} does not divide {cols}")
        kept = values // sparse.m * sparse.n
        return float(kept), nm_index_bits(sparse, values)
    if isinstance(sparse, Bitmap):
        tiles = values / sparse.tile
        return values * sparse.density + tiles * (sparse.pad - 1) / 2, values + tiles * sparse.offset
    if isinstance(sparse, Coo):
        return values * sparse.density, values * sparse.density * sparse.index
    if isinstance(sparse, Block):
        return values * sparse.density, values / (sparse.rows * sparse.cols)
    assert isinstance(sparse, Rows)
    return values * sparse.density, rows * sparse.density * sparse.index


def nm_index_bits(sparse: Nm, values: int) -> float:
    """Bits that say which of ``values`` are kept."""
    blocks = values // sparse.m
    if sparse.index == "bitmap":
        return float(values)
    if sparse.index == "rank":
        return float(blocks * math.ceil(math.log2(math.comb(sparse.m, sparse.n))))
    return float(blocks * sparse.n * (4 if sparse.index == "four_bit" else math.ceil(math.log2(sparse.m))))
