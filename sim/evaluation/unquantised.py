"""The forward pass in plain FP32 on the weights that a file's codes stand for: what quantisation is measured against.

Nothing here is specified to the bit: products go through NumPy's matrix multiplication, whose order is the machine's.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from mixflight.sim.evaluation.score import CHUNK, Logits
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.llama import Llama, embed
from mixflight.sim.golden.rope import rotate, rotation
from mixflight.workloads.llama_gguf import FINAL_NORM, LINEARS


class Unquantised:
    """Weights widened once; ``logits`` is what ``losses`` asks for."""

    def __init__(self, llama: Llama) -> None:
        self.llama = llama
        self.weights = {name: weight.values().astype(np.float32) for name, weight in llama.linears.items()}

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
            yield x[at : at + CHUNK] @ self.weights[self.llama.head_name].T

    def _block(self, layer: int, x: F32, cosine: F32, sine: F32) -> F32:
        def linear(role: str, y: F32) -> F32:
            return y @ self.weights[f"blk.{layer}.{LINEARS[role]}.weight"].T

        head = self.llama.model.head_dim
        y = self._norm(f"blk.{layer}.attn_norm.weight", x)
        q, k, v = (linear(role, y).reshape(len(x), -1, head) for role in ("q", "k", "v"))
        mixed = _attend(rotate(q, cosine, sine), rotate(k, cosine, sine), v)
        x = x + linear("o", mixed.reshape(len(x), -1))
        y = self._norm(f"blk.{layer}.ffn_norm.weight", x)
        gate = linear("gate", y)
        out: F32 = x + linear("down", gate / (1 + np.exp(-gate)) * linear("up", y))
        return out

    def _norm(self, name: str, x: F32) -> F32:
        mean = (x * x).mean(axis=1, keepdims=True) + np.float32(self.llama.model.norm_epsilon)
        y: F32 = x / np.sqrt(mean) * self.llama.norms[name]
        return y


def _attend(q: F32, k: F32, v: F32) -> F32:
    """Causal attention of [tokens, heads, head] over the same tokens."""
    tokens, heads, head = q.shape
    later = np.triu(np.ones((tokens, tokens), bool), 1)
    out = np.empty_like(q)
    for h in range(heads):
        kv = h * k.shape[1] // heads
        scores = q[:, h] @ k[:, kv].T / np.float32(np.sqrt(head))
        scores[later] = -np.inf
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, h] = (p / p.sum(axis=1, keepdims=True)) @ v[:, kv]
    return out
