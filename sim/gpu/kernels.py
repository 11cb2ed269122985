"""What a GPU runs in one decode step or one prefill: kernels with their bytes and operations."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.workloads.model import Model

KernelKind = Literal["dense", "int4", "attention", "prefill attention", "vector"]
KINDS: tuple[KernelKind, ...] = ("dense", "int4", "attention", "prefill attention", "vector")
DENSE, INT4, ATTENTION, PREFILL_ATTENTION, VECTOR = range(len(KINDS))

Precision = Literal["fp16", "bf16", "w4a16"]
HALF = 2  # bytes of an FP16 or BF16 number
BLOCK = 128  # queries that one thread block of a prefill's attention takes: FlashAttention-2 (arXiv 2307.08691), cuDNN


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel that runs ``count`` times in a step.

    ``moved``    bytes that one run moves: stored weights or cache, and activations in and out.
    ``stored``   those of ``moved`` that must come from or go to device memory: weights, cache, embedding rows.
    ``flops``    2 per multiply-add.
    ``inner``    length of a product's sum; ``context`` tokens that attention reads.
    ``issued``   those that causal attention issues: ``flops`` and the masked part of the blocks on the diagonal.
    ``longest``  of these, what the thread block of the last queries does, one multiprocessor alone.
    """

    kind: KernelKind
    count: int
    moved: float
    stored: float
    flops: float = 0.0
    inner: int = 0
    context: int = 0
    issued: float = 0.0
    longest: float = 0.0


def linear(m: int, n: int, k: int, bytes_per_weight: float, count: int = 1, int4: bool = False) -> Kernel:
    """``count`` products x[m, k] @ w[n, k]^T; ``int4``: by the measured 4-bit kernel."""
    return Kernel(
        kind="int4" if int4 else "dense", count=count, stored=n * k * bytes_per_weight,
        moved=n * k * bytes_per_weight + HALF * m * (n + k), flops=2.0 * m * n * k, inner=k,
    )  # fmt: skip


def int4_bytes_per_weight(group: int) -> float:
    """Storage of the measured 4-bit kernel: a code, and one BF16 scale and one BF16 zero a group."""
    return 0.5 + 2 * HALF / group


class Storage(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes a weight of the blocks and of the head, and whether the measured 4-bit kernel multiplies them."""

    block: float = HALF
    head: float = HALF
    int4_block: bool = False
    int4_head: bool = False


def outside_attention(model: Model, storage: Storage, rows: int, heads: int) -> list[Kernel]:
    """Kernels of a pass over ``rows`` tokens with logits of ``heads`` of them, attention left out.

    As measured: query, key and value in one product, gate and up in one, residual and norm in one kernel, rotation
    with the write of the cache in one, the activation function in one; four small kernels outside the blocks
    (embedding, last norm, choice of the token, its copy).
    """
    attention, kv, layers = model.heads * model.head_dim, model.kv_heads * model.head_dim, model.layers
    qkv, wide = attention + 2 * kv, model.ffn * (2 if model.ffn_kind == "gated" else 1)

    def block(n: int, k: int) -> Kernel:
        return linear(rows, n, k, storage.block, layers, storage.int4_block)

    def vector(count: int, elements: int, stored: float = 0.0) -> Kernel:
        return Kernel(kind="vector", count=count, moved=HALF * rows * elements, stored=stored)

    return [
        block(qkv, model.hidden), block(model.hidden, attention),
        block(wide, model.hidden), block(model.hidden, model.ffn),
        linear(heads, model.vocab, model.hidden, storage.head, 1, storage.int4_head),
        vector(2 * layers, 3 * model.hidden, HALF * model.hidden), vector(layers, 2 * qkv, HALF * rows * 2 * kv),
        vector(layers, wide + model.ffn), vector(4, model.hidden, HALF * rows * model.hidden / 4),
    ]  # fmt: skip


def decode_attention(model: Model, batch: int, context: int) -> Kernel:
    """Attention of one new token a sequence over ``context`` cached ones."""
    cache = batch * context * 2.0 * model.kv_heads * model.head_dim * HALF
    return Kernel(
        kind="attention", count=model.layers, moved=cache, stored=cache, context=context,
        flops=4.0 * batch * context * model.heads * model.head_dim,
    )  # fmt: skip


def prefill_attention(model: Model, batch: int, tokens: int) -> Kernel:
    """Causal attention of a prompt; keys and values are read once, queries read and results written."""
    cache = batch * tokens * 2.0 * model.kv_heads * model.head_dim * HALF
    width, rows = model.heads * model.head_dim, min(BLOCK, tokens)
    return Kernel(
        kind="prefill attention", count=model.layers, stored=0.0, moved=cache + 2.0 * HALF * batch * tokens * width,
        flops=4.0 * batch * (tokens * (tokens + 1) // 2) * width, context=tokens,
        issued=2.0 * batch * tokens * (tokens + rows) * width, longest=4.0 * rows * tokens * model.head_dim,
    )  # fmt: skip


def decode_kernels(model: Model, storage: Storage, batch: int, contexts: Iterable[int]) -> list[Kernel]:
    """Kernels of one decode step at each of ``contexts`` (the new token included)."""
    steps = [decode_attention(model, batch, context) for context in contexts]
    fixed = outside_attention(model, storage, batch, batch)
    return [msgspec.structs.replace(kernel, count=kernel.count * len(steps)) for kernel in fixed] + steps


def prefill_kernels(model: Model, storage: Storage, batch: int, tokens: int) -> list[Kernel]:
    """Kernels of the prefill of ``tokens`` tokens a sequence."""
    return [*outside_attention(model, storage, batch * tokens, batch), prefill_attention(model, batch, tokens)]


Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Kernels of several passes as arrays, one element a kernel; ``owner`` is the pass it belongs to."""

    passes: int
    owner: NDArray[np.int64]
    kind: NDArray[np.int64]
    count: Floats
    moved: Floats
    flops: Floats
    inner: Floats
    context: Floats
    issued: Floats
    longest: Floats

    def per_pass(self, values: Floats) -> Floats:
        """Sum of ``values``, one a kernel, over each pass with the kernels' counts."""
        return np.bincount(self.owner, values * self.count, self.passes).astype(np.float64)


def pack(passes: list[list[Kernel]]) -> Packed:
    """``passes`` as arrays."""
    flat = [kernel for kernels in passes for kernel in kernels]
    owner = np.repeat(np.arange(len(passes)), [len(kernels) for kernels in passes])

    def column(field: str) -> Floats:
        return np.array([getattr(kernel, field) for kernel in flat], float)

    return Packed(
        passes=len(passes), owner=owner, kind=np.array([KINDS.index(kernel.kind) for kernel in flat]),
        count=column("count"), moved=column("moved"), flops=column("flops"), inner=column("inner"),
        context=column("context"), issued=column("issued"), longest=column("longest"),
    )  # fmt: skip
