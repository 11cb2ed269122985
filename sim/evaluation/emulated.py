"""The forward pass in plain FP32, with values rounded where compression rounds them: what no golden arithmetic defines.

Without a compression it is the unquantised model, against which the others are measured. Nothing here is specified to
the bit: products go through NumPy's matrix multiplication, whose order is the machine's. What is rounded is said by
``Compression``; queries, probabilities and everything between linears stay FP32.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.formats import Format
from mixflight.sim.evaluation import sparse_attention
from mixflight.sim.evaluation.compression import Compression
from mixflight.sim.evaluation.prepare import rounded
from mixflight.sim.evaluation.prune import kept
from mixflight.sim.evaluation.rotation import random
from mixflight.sim.evaluation.score import CHUNK, Logits
from mixflight.sim.golden import kernels
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.linear import GroupedWeight
from mixflight.sim.golden.llama import Llama, embed
from mixflight.sim.golden.quantise import to_f16
from mixflight.sim.golden.rope import rotate, rotation
from mixflight.workloads.llama_gguf import FINAL_NORM, LINEARS

Observer = Callable[[str, int, int, F32], None]


class Emulated:
    """Weights rounded once; ``logits`` is what ``losses`` asks for.

    ``observe(what, layer, index, values)`` is told of ``key`` and ``value`` [tokens, KV heads, head] before they are
    rounded, of the ``probabilities`` [query, key] of head ``index``, and of the ``neurons`` [tokens, FFN width].
    """

    def __init__(
        self, llama: Llama, compression: Compression | None = None, observe: Observer | None = None
    ) -> None:
        self.observe = observe or (lambda what, layer, index, values: None)
        self.llama, self.compression = llama, compression or Compression()
        self.rotations = {
            name: random(kind, llama.linears[name].k) for name, kind in self.compression.rotations.items()
        }
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda item: self._weight(*item), llama.linears.items())
            self.weights = dict(zip(llama.linears, found, strict=True))

    def _weight(self, name: str, weight: GroupedWeight) -> F32:
        """Rotated, then pruned, then rounded; what is absent stays absent after rounding."""
        plan, values = self.compression, weight.values()
        if name in self.rotations:
            values = self.rotations[name].apply(values)
        present = kept(values, plan.pruned[name], name) if name in plan.pruned else None
        if present is not None:
            values = np.where(present, values, 0.0)
        if name in plan.weights:
            values = _round(values, plan.weights[name], name)
        if present is not None:
            values = np.where(present, values, 0.0)
        return values.astype(np.float32)

    def logits(self) -> Logits:
        """Logits of a window, CHUNK rows at a time."""
        return self._logits

    def _logits(self, window: Sequence[int]) -> Iterator[F32]:
        model = self.llama.model
        x = embed(self.llama.embedding, window)
        cosine, sine = (part[:, None] for part in rotation(model.rope_theta, model.head_dim, np.arange(len(window))))
        for layer in range(model.layers):
            x = self._block(layer, x, cosine, sine)
        x = self._norm(FINAL_NORM, x)
        for at in range(0, len(x), CHUNK):
            yield self._linear(self.llama.head_name, x[at : at + CHUNK])

    def _block(self, layer: int, x: F32, cosine: F32, sine: F32) -> F32:
        def linear(role: str, y: F32) -> F32:
            return self._linear(f"blk.{layer}.{LINEARS[role]}.weight", y)

        plan, head = self.compression, self.llama.model.head_dim
        y = self._norm(f"blk.{layer}.attn_norm.weight", x)
        q, k, v = (linear(role, y).reshape(len(x), -1, head) for role in ("q", "k", "v"))
        k = rotate(k, cosine, sine)
        self.observe("key", layer, 0, k)
        self.observe("value", layer, 0, v)
        mixed = sparse_attention.attend(
            rotate(q, cosine, sine), k, v, plan.keys, plan.values, plan.pattern,
            lambda h, p: self.observe("probabilities", layer, h, p),
        )  # fmt: skip
        x = x + linear("o", mixed.reshape(len(x), -1))
        y = self._norm(f"blk.{layer}.ffn_norm.weight", x)
        gate = linear("gate", y)
        hidden = gate / (1 + np.exp(-gate)) * linear("up", y)
        self.observe("neurons", layer, 0, hidden)
        out: F32 = x + linear("down", hidden)
        return out

    def _linear(self, name: str, x: F32) -> F32:
        wanted, turned = self.compression.activations.get(name), self.rotations.get(name)
        if turned is not None:
            x = turned.apply(x)
        if wanted is not None:
            x = (
                kernels.quantise(x, wanted.group or x.shape[-1], wanted.levels).values()
                if wanted.levels
                else to_f16(x, f"the input of {name}").astype(np.float32)
            )
        return x @ self.weights[name].T

    def _norm(self, name: str, x: F32) -> F32:
        mean = (x * x).mean(axis=1, keepdims=True) + np.float32(self.llama.model.norm_epsilon)
        y: F32 = x / np.sqrt(mean) * self.llama.norms[name]
        return y


def _round(values: NDArray[np.float64], wanted: Format, where: str) -> NDArray[np.float64]:
    if wanted.name == "f16":
        return to_f16(values.astype(np.float32), where).astype(np.float64)
    return values if wanted.name == "f32" else rounded(values, wanted, where).values()
