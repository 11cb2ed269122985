"""One operator of a trace: what is computed, on which formats, moving which bytes."""

from typing import Literal

import msgspec

from mixflight.arch.formats import Format

MatrixKind = Literal["linear", "qk", "av"]
VectorKind = Literal[
    "embed", "norm", "rope", "quantise", "kv_append", "softmax", "activation", "residual", "bias", "softcap",
    "lookup", "elementwise", "layernorm",
]  # fmt: skip

MATRIX_KINDS = ("linear", "qk", "av")


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator that stands ``len(layers)`` times in the trace, once in each of ``layers`` (-1: outside the blocks).

    Matrix operators multiply ``count`` independent pairs [m, k] x [k, n]; ``weight`` is the format of the [k, n]
    operand (a weight, or the cached keys or values) and ``act`` that of the [m, k] operand. ``causal_step`` > 0: the m
    rows are tokens times ``causal_step`` query heads that share a KV head, and token t needs only the first ``context -
    tokens + t + 1`` columns (``qk``) or inner elements (``av``). Vector operators process ``count`` times ``m`` vectors
    of ``n`` elements, with ``causal_step`` > 0 only the columns that a token may see; k is 0, ``weight`` is the format
    of the rows that ``embed`` looks up, ``act`` what ``quantise`` writes, ``variant`` tells activation functions apart
    (``silu:gated``) and a ``quantise`` whose scale is known beforehand (``static``). ``lookup`` fetches its vectors by
    index; an element of ``elementwise`` takes ``multiplies``, ``adds`` and ``table_reads``.

    Of a linear's weights ``keep_n`` of every ``keep_m`` along k are kept (0 of 0: dense); their places are
    ``index_bytes`` of ``weight_bytes``. ``density`` is the share of other sparse weights, or of the pairs that an
    attention product computes (in 64 x 64 blocks). ``probability`` is how often the operator runs, expected.

    Bytes are per layer and off-chip as stored, scales, zero points and minima included:
    ``weight_bytes`` weight matrices, ``parameter_bytes`` vectors such as norm weights, biases and embedding rows,
    ``kv_read_bytes`` and ``kv_write_bytes`` the cache.
    """

    name: str
    kind: MatrixKind | VectorKind
    layers: tuple[int, ...]
    m: int
    n: int
    k: int = 0
    count: int = 1
    weight: Format | None = None
    act: Format | None = None
    causal_step: int = 0
    variant: str = ""
    weight_bytes: int = 0
    parameter_bytes: int = 0
    kv_read_bytes: int = 0
    kv_write_bytes: int = 0
    keep_n: int = 0
    keep_m: int = 0
    index_bytes: int = 0
    density: float = 1.0
    probability: float = 1.0
    adds_only: bool = False
    multiplies: int = 0
    adds: int = 0
    table_reads: int = 0

    @property
    def is_matrix(self) -> bool:
        """Whether the operator runs on the matrix array."""
        return self.kind in MATRIX_KINDS

    @property
    def vector_elements(self) -> int:
        """Elements of all vectors of a vector operator, masked ones left out."""
        tokens = self.m // self.causal_step if self.causal_step else 0
        dense = self.count * (self.m * self.n - self.causal_step * tokens * (tokens - 1) // 2)
        return dense if self.density == 1 else round(dense * self.density)

    @property
    def share(self) -> float:
        """Share of the multiply-accumulates that sparsity leaves."""
        return self.density * self.keep_n / self.keep_m if self.keep_m else self.density

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one layer, masked ones and those with weights that are not kept left out."""
        return self.dense_macs if self.share == 1 else round(self.dense_macs * self.share)

    @property
    def dense_macs(self) -> int:
        """Multiply-accumulates of one layer on an array that skips nothing but what is causally masked."""
        if not self.is_matrix:
            return 0
        if not self.causal_step:
            return self.count * self.m * self.n * self.k
        tokens = self.m // self.causal_step
        wide, other = (self.n, self.k) if self.kind == "qk" else (self.k, self.n)
        before = wide - tokens
        pairs = self.causal_step * (tokens * before + tokens * (tokens + 1) // 2)
        return self.count * pairs * other
