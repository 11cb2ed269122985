"""What a weight's codec computes: matrix products with one operand format each, lookups and adds.

The sum of terms runs term by term and adds the results, but a sum of codebooks is decoded and added before one product.
A product of factors is two products, a split along inputs or by elements one product a part and an add, a split along
outputs one product a part.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format, format_named
from mixflight.workloads.codec import (
    Bin,
    Codec,
    Leaf,
    Nm,
    Prod,
    Quat,
    Split,
    Sum,
    Tern,
    Vq,
    operand_format,
    widths_apart,
)
from mixflight.workloads.codec_size import Stored, stored


class Product(NamedTuple):
    """One matrix product [m, k] x [k, n] of a linear.

    ``suffix``   of the operator's name. ``streams``  rows of the input are this often as many (2: complex numbers).
    ``lookups``  (vectors, length) decoded from codebooks. ``adds``  values added to the other results, a row.
    ``keep``     (n, m) of an n:m weight, (0, 0) otherwise; ``density`` of other sparse weights.
    """

    suffix: str
    n: int
    k: int
    format: Format
    size: Stored
    lookups: tuple[tuple[int, int], ...] = ()
    adds: int = 0
    keep: tuple[int, int] = (0, 0)
    density: float = 1.0
    streams: int = 1
    adds_only: bool = False
    inner: bool = False  # its input is another product's result

    @property
    def bytes(self) -> int:
        """Stored bytes, whole ones."""
        return math.ceil(self.size.bits / 8 - 1e-9)

    @property
    def index_bytes(self) -> int:
        """Those of them that say where kept values are."""
        return math.ceil(self.size.places / 8 - 1e-9)


def products(codec: Codec, n: int, k: int) -> list[Product]:
    """The products of a linear of ``n`` outputs and ``k`` inputs, in order of execution."""
    codec = widths_apart(codec)
    if isinstance(codec, str):
        item = format_named(codec, "a codec")
        return [Product("", n, k, item, Stored(codes=float(n * item.row_bits(k) // 8 * 8)))]
    if isinstance(codec, Sum):
        return _sum(codec, n, k)
    if isinstance(codec, Prod):
        return _prod(codec, n, k)
    if isinstance(codec, Split):
        return _split(codec, n, k)
    return [_leaf(codec, n, k)]


def _leaf(leaf: Leaf, n: int, k: int) -> Product:
    lookups = ((n * k // leaf.v, leaf.v),) if isinstance(leaf, Vq) else ()
    keep = (leaf.sparse.n, leaf.sparse.m) if isinstance(leaf.sparse, Nm) else (0, 0)
    density = 1.0 if leaf.sparse is None or keep[1] else leaf.sparse.density
    return Product(
        "", n, k, operand_format(leaf), stored(leaf, n, k), lookups=lookups, keep=keep, density=density,
        streams=2 if isinstance(leaf, Quat) else 1, adds_only=isinstance(leaf, Bin | Tern | Quat),
    )  # fmt: skip


def _sum(codec: Sum, n: int, k: int) -> list[Product]:
    books = [term for term in codec.terms if isinstance(term, Vq)]
    others = [term for term in codec.terms if not isinstance(term, Vq)]
    found: list[Product] = []
    if books:
        size = Stored()
        for book in books:
            size = size.plus(stored(book, n, k))
        lookups = tuple((n * k // book.v, book.v) for book in books)
        found.append(Product("", n, k, format_named("f16", "a codec"), size, lookups=lookups))
    for place, term in enumerate(others, start=len(found)):
        found += _named(products(term, n, k), f"term{place}" if place else "", adds=n if place else 0)
    return found


def _prod(codec: Prod, n: int, k: int) -> list[Product]:
    rank = codec.rank_of(n, k)
    first = _named(products(codec.f[1], rank, k), "down")
    second = [item._replace(inner=True) for item in _named(products(codec.f[0], n, rank), "up")]
    return first + second


def _split(codec: Split, n: int, k: int) -> list[Product]:
    if codec.axis == "operator":
        raise InputError("a split by operator must be the whole codec of a weight, not a part of one")
    if codec.axis == "token":
        raise InputError("a split by token must be the codec of keys or values, not of a weight")
    found: list[Product] = []
    along = n if codec.axis == "out" else k
    edges = [round(along * sum(share for share, _ in codec.parts[:i])) for i in range(len(codec.parts) + 1)]
    for place, (share, part) in enumerate(codec.parts):
        if codec.axis == "element":
            pieces = [item._replace(density=item.density * share, size=Stored().plus(item.size, share))
                      for item in products(part, n, k)]  # fmt: skip
        elif edges[place] == edges[place + 1]:
            continue
        elif codec.axis == "out":
            pieces = products(part, edges[place + 1] - edges[place], k)
        else:
            pieces = products(part, n, edges[place + 1] - edges[place])
        adds = 0 if codec.axis == "out" or not place else n
        if not place:
            side = Stored(places=codec.side_bits * n * k)
            pieces[0] = pieces[0]._replace(size=pieces[0].size.plus(side))
        found += _named(pieces, f"part{place}", adds=adds)
    return found


def _named(items: list[Product], suffix: str, adds: int = 0) -> list[Product]:
    named = [item._replace(suffix=".".join(filter(None, (suffix, item.suffix)))) for item in items]
    if adds:
        named[-1] = named[-1]._replace(adds=named[-1].adds + adds)
    return named


def assignment(split: Split, sizes: Sequence[int]) -> list[int]:
    """Which part each of the operators of ``sizes`` weights gets, so that parts have their shares of all weights.

    Operators are visited in an order shuffled by the split's seed; each gets the part that lacks most. The shares are
    met within the size of an operator.
    """
    order = np.random.default_rng(split.seed).permutation(len(sizes)).tolist()
    total = sum(sizes)
    lacking = [share * total for share, _ in split.parts]
    parts = [0] * len(sizes)
    for place in order:
        part = max(range(len(lacking)), key=lambda index: lacking[index])
        parts[place] = part
        lacking[part] -= sizes[place]
    return parts
