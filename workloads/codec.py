"""How a tensor is stored: an algebra of codecs that weights, activations and the KV cache share.

    Codec := "a format's name" | leaf | sum of codecs | product of two codecs | split of codecs
    leaf  := int | float | bin | tern | quat | vq

A codec in TOML is a format's name (``"q4_1"``, ``"int4-g64-bf16"``) or a table whose ``t`` says which kind it is.
``codec_size`` says how many bits a codec stores, ``codec_products`` which matrix products and lookups it computes.
"""

from typing import Annotated, Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format, format_named

ScaleName = Literal["none", "f16", "bf16", "f32", "e8m0", "ue4m3", "u8"]
ZeroName = Literal["none", "f16", "folded", "u1", "u2", "u3", "u4", "u8"]
Per = Literal["tensor", "out", "in", "group", "token", "token_head", "channel"]
NmIndex = Literal["four_bit", "position", "bitmap", "rank"]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Bits = Annotated[int, msgspec.Meta(ge=1, le=16)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class NestedScale(_Strict, frozen=True, kw_only=True):
    """Scales that are codes themselves: ``b`` bits each, and ``scale_bits`` for every ``group`` of them."""

    b: Bits
    group: Positive
    scale_bits: Positive = 32


class Nm(_Strict, frozen=True, kw_only=True, tag_field="kind", tag="nm"):
    """``n`` of every ``m`` values along K are kept.

    ``index`` says how their places are stored: ``four_bit`` four bits a kept value as FlightLLM does, ``position``
    ceil(log2 m) bits a kept value, ``bitmap`` one bit a value, ``rank`` ceil(log2 C(m, n)) bits for every m values.
    """

    n: Positive
    m: Positive
    index: NmIndex = "position"

    def __post_init__(self) -> None:
        if self.n > self.m:
            raise ValueError(f"n must be at most m, not {self.n} of {self.m}")
        if self.index == "four_bit" and self.m > 16:
            raise ValueError(f"a four-bit index must point into at most 16 values, not {self.m}")

    @property
    def density(self) -> float:
        """Share of values kept."""
        return self.n / self.m


class Bitmap(_Strict, frozen=True, kw_only=True, tag_field="kind", tag="bitmap"):
    """Unstructured: a bit a value, kept values of each ``tile`` padded to a multiple of ``pad``, an ``offset`` a tile.

    Padding counts its expectation, (pad - 1) / 2 values a tile.
    """

    density: Share
    tile: Positive = 64
    pad: Positive = 1
    offset: int = 0


class Coo(_Strict, frozen=True, kw_only=True, tag_field="kind", tag="coo"):
    """Unstructured: ``index`` bits for every kept value."""

    density: Share
    index: Positive = 16


class Block(_Strict, frozen=True, kw_only=True, tag_field="kind", tag="block"):
    """Blocks of ``rows`` times ``cols`` values, kept or dropped whole; one bit a block."""

    rows: Positive
    cols: Positive
    density: Share


class Rows(_Strict, frozen=True, kw_only=True, tag_field="kind", tag="rows"):
    """Whole rows (outputs or tokens) are kept; ``index`` bits for every kept row."""

    density: Share
    index: int = 16


Sparse = Nm | Bitmap | Coo | Block | Rows


class _Leaf(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="t"):
    """What leaves share.

    ``per``     the values that share a scale: the whole ``tensor``, an ``out``put channel or a row, an ``in``put
                channel, a ``group`` of ``group`` values along K, a ``token``, a ``token_head``, or a ``channel`` over
                ``group`` tokens (0: all).
    ``scale``   how a scale is stored; a table {b, group, scale_bits} for scales that are codes themselves.
    ``zero``    how a zero point or minimum is stored; ``folded`` into another operator costs nothing here.
    ``sparse``  which values are kept, and how their places are stored.
    ``static``  (activations) the scale is known beforehand: nothing is reduced at run time.
    """

    per: Per = "out"
    group: int = 0
    scale: ScaleName | NestedScale = "f16"
    zero: ZeroName | None = None
    sparse: Sparse | None = None
    static: bool = False

    def __post_init__(self) -> None:
        if self.group < 0:
            raise ValueError(f"group must be at least 0, not {self.group}")
        if (self.per == "group") != (self.group > 0) and self.per != "channel":
            raise ValueError(f"group must be given with per = 'group' (or 'channel') only, not {self.group}")


class Int(_Leaf, frozen=True, kw_only=True, tag="int"):
    """Integers of ``b`` bits, symmetric (``sym``) or with a zero point or minimum (``zero``, by default FP16).

    ``b`` may be a list with ``mix`` the share of the weights in each width: whole operators are given one width each,
    by ``seed`` (see ``assignment``).
    """

    b: Bits | tuple[Bits, ...]
    sym: bool = True
    mix: tuple[Share, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        widths = self.b if isinstance(self.b, tuple) else ()
        if len(widths) != len(self.mix):
            raise ValueError(f"mix must have a share for each of b: {len(widths)} widths, {len(self.mix)} shares")
        if self.mix and abs(sum(self.mix) - 1) > 1e-6:
            raise ValueError(f"mix must sum to 1, not {sum(self.mix)}")
        if self.sym and self.zero not in (None, "none"):
            raise ValueError(f"a symmetric integer must have no zero point, not {self.zero!r}")

    @property
    def stored_zero(self) -> ZeroName:
        """The zero point as stored."""
        return self.zero or ("none" if self.sym else "f16")


class Float(_Leaf, frozen=True, kw_only=True, tag="float"):
    """Floats of ``b`` bits; ``e`` exponent bits where they are not IEEE's. Without a scale unless one is given."""

    b: Bits = 16
    e: int = 0
    scale: ScaleName | NestedScale = "none"


class Bin(_Leaf, frozen=True, kw_only=True, tag="bin"):
    """One bit: plus or minus the scale. Adds only."""


class Tern(_Leaf, frozen=True, kw_only=True, tag="tern"):
    """Minus one, zero, one: ``b`` stored bits a value (1.6: five a byte). Adds only."""

    b: float = 1.6


class Quat(_Leaf, frozen=True, kw_only=True, tag="quat"):
    """Complex weights in {1, -1, i, -i}: two bits each, two adds each and no multiply."""


class Vq(_Leaf, frozen=True, kw_only=True, tag="vq"):
    """Vectors of ``v`` values, each an index into a codebook of ``k`` vectors.

    ``axis``   the vectors lie along the outputs or the inputs.
    ``books``  codebooks a matrix has. Each entry is FP16, ``book_bits`` a value.
    ``tables`` counts no codebook (it is fixed, as a lattice's) where false.
    """

    v: Positive
    k: Positive
    axis: Literal["in", "out"] = "out"
    books: Positive = 1
    book_bits: Positive = 16
    tables: bool = True
    scale: ScaleName | NestedScale = "none"


class Sum(_Strict, frozen=True, kw_only=True, tag_field="t", tag="sum"):
    """The tensor is the sum of ``terms``."""

    terms: "tuple[Codec, ...]"


class Prod(_Strict, frozen=True, kw_only=True, tag_field="t", tag="prod"):
    """The tensor [n, k] is ``f[0]`` [n, rank] times ``f[1]`` [rank, k].

    ``rank`` of the factors, or ``keep``: the share of the values that the factors have, rank = keep n k / (n + k).
    ``chunk`` (caches) tokens that have factors of their own; 0: all tokens share them.
    """

    f: "tuple[Codec, Codec]"
    rank: int = 0
    keep: float = 0.0
    chunk: int = 0

    def __post_init__(self) -> None:
        if (self.rank > 0) == (self.keep > 0):
            raise ValueError("a product must have either rank or keep, greater than 0")

    def rank_of(self, rows: int, cols: int) -> int:
        """The rank for a tensor of ``rows`` times ``cols``."""
        return self.rank or max(1, int(self.keep * rows * cols / (rows + cols)))


class Split(_Strict, frozen=True, kw_only=True, tag_field="t", tag="split"):
    """The tensor is cut along ``axis``; ``parts`` are [share, codec] and sum to 1.

    ``in``, ``out``   rows of inputs or outputs; ``channel`` the same as ``in`` for keys and values.
    ``token``         (caches) tokens.
    ``element``       values by a mask; each part computes only its own values.
    ``operator``      whole weight matrices, by ``seed`` (see ``assignment``).
    ``side_bits``     stored bits a value that say where the parts are.
    """

    axis: Literal["in", "out", "channel", "token", "element", "operator"]
    parts: "tuple[tuple[Share, Codec], ...]"
    side_bits: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        total = sum(share for share, _ in self.parts)
        if not self.parts or abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of a split must sum to 1, not {total}")


Leaf = Int | Float | Bin | Tern | Quat | Vq
Codec = str | Int | Float | Bin | Tern | Quat | Vq | Sum | Prod | Split

_ZERO = {"none": "none", "folded": "none", "f16": "f16-min", "u1": "int2", "u2": "int2", "u3": "int3", "u4": "int4",
         "u8": "int8"}  # fmt: skip


def check_codec(codec: Codec, where: str) -> None:
    """Refuse names that are no format; ``where`` is said in the error."""
    if isinstance(codec, str):
        format_named(codec, where)
    elif isinstance(codec, Sum):
        for term in codec.terms:
            check_codec(term, where)
    elif isinstance(codec, Prod):
        for factor in codec.f:
            check_codec(factor, where)
    elif isinstance(codec, Split):
        for _, part in codec.parts:
            check_codec(part, where)


def widths_apart(codec: Codec) -> Codec:
    """``codec`` with integers of several widths written as a split by operator."""
    if isinstance(codec, Int) and isinstance(codec.b, tuple):
        plain = (msgspec.structs.replace(codec, b=b, mix=(), seed=0) for b in codec.b)
        return Split(axis="operator", parts=tuple(zip(codec.mix, plain, strict=True)), seed=codec.seed)
    return codec


def operand_format(codec: Codec) -> Format:
    """The format in which an array gets the values of ``codec``: of its widest leaf, decoded.

    Values of a codebook and of products are FP16. The format says how a value is computed with; what is stored is said
    by ``codec_size``.
    """
    codec = widths_apart(codec)
    if isinstance(codec, str):
        return format_named(codec, "a codec")
    if isinstance(codec, Int | Float | Bin | Tern | Quat | Vq):
        return _leaf_format(codec)
    if isinstance(codec, Sum):
        return max((operand_format(term) for term in codec.terms), key=_width)
    if isinstance(codec, Split):
        return max((operand_format(part) for _, part in codec.parts), key=_width)
    return max((operand_format(factor) for factor in codec.f), key=_width)


def _width(item: Format) -> tuple[bool, int]:
    return item.kind == "float", item.bits


def _leaf_format(leaf: Leaf) -> Format:
    group = leaf.group if leaf.per == "group" else 0
    suffix = f"-g{group}" if group else ""
    if isinstance(leaf, Vq):
        return format_named("f16", "a codec")
    if isinstance(leaf, Float):
        if leaf.b == 16 and not leaf.e:
            return format_named("f16", "a codec")
        exponent = leaf.e or (4 if leaf.b == 8 else 0)
        if not 1 < exponent < leaf.b:
            raise InputError(f"a float of {leaf.b} bits must say its exponent bits e, 2 ... {leaf.b - 1}, not {leaf.e}")
        return Format(
            name=f"f{leaf.b}_e{exponent}m{leaf.b - 1 - exponent}{suffix}", bits=leaf.b, kind="float",
            exponent_bits=exponent, group=group, scale="f16",
        )  # fmt: skip
    if isinstance(leaf, Bin):
        return Format(name=f"bin{suffix}", bits=1, signed=False, group=group, scale="f16", table=(-1.0, 1.0))
    if isinstance(leaf, Tern | Quat):
        name = "tern" if isinstance(leaf, Tern) else "quat"
        return Format(name=f"{name}{suffix}", bits=2, signed=False, offset=1, group=group, scale="f16")
    assert isinstance(leaf.b, int)
    zero = _ZERO[leaf.stored_zero]
    name = f"{'int' if leaf.sym else 'uint'}{leaf.b}{suffix}" + ({"none": ""}.get(zero, f"-{zero}"))
    return msgspec.convert(
        {"name": name, "bits": leaf.b, "signed": leaf.sym, "group": group, "scale": "f16", "zero": zero}, Format
    )
