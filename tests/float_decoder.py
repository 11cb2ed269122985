"""The forward pass of a decoder in float64, written from the definitions of its parts: the outside reference of golden
arithmetic. It knows nothing of quantised activations, tables or orders of sums.

``halves``: elements i and i + h/2 of a head rotate together, else adjacent ones.
"""

import numpy as np

from mixflight.workloads.llama_gguf import LINEARS


class FloatDecoder:
    """``weights`` by operator, ``vectors`` by their names in a file in which nothing is fused, all float64."""

    def __init__(self, model, weights, embedding, vectors, positions=None, halves=False):
        self.model, self.weights, self.vectors = model, weights, vectors
        self.embedding, self.positions, self.halves = embedding, positions, halves

    def logits(self, tokens):
        """[tokens, vocab]: all of a sequence at once."""
        model = self.model
        x = self.embedding[list(tokens)] * model.embedding_scale
        if self.positions is not None:
            x = x + self.positions[: len(x)]
        for layer in range(model.layers):
            behind = self._norm if model.post_norms else lambda _, y: y
            y = self._norm(f"blk.{layer}.attn_norm", x)
            x = x + behind(f"blk.{layer}.post_attention_norm", self._attention(layer, y))
            y = self._norm(f"blk.{layer}.ffn_norm", x)
            x = x + behind(f"blk.{layer}.post_ffw_norm", self._ffn(layer, y))
        return self._capped(self._norm("output_norm", x) @ self.weights["head"].T, model.logit_cap)

    def _linear(self, layer, role, x):
        y = x @ self.weights[f"layers.{layer}.{role}"].T
        return y + self.vectors.get(f"blk.{layer}.{LINEARS[role]}.bias", 0.0)

    def _norm(self, name, x):
        weight = self.vectors[f"{name}.weight"]
        if self.model.norm == "layernorm":
            centred = x - x.mean(-1, keepdims=True)
            return centred / np.sqrt(x.var(-1, keepdims=True) + self.model.norm_epsilon) * weight + self.vectors[f"{name}.bias"]
        return self._rms(x, weight)

    def _rms(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.model.norm_epsilon) * weight

    def _attention(self, layer, x):
        model, count = self.model, len(x)
        q, k, v = (self._linear(layer, role, x).reshape(count, -1, model.head_dim) for role in "qkv")
        if model.qk_norm:
            q, k = (self._rms(part, self.vectors[f"blk.{layer}.attn_{role}_norm.weight"])
                    for role, part in (("q", q), ("k", k)))  # fmt: skip
        if model.rope_theta:
            q, k = self._rotated(q), self._rotated(k)
        k, v = (np.repeat(part, model.heads // model.kv_heads, axis=1) for part in (k, v))
        scores = self._capped(np.einsum("thd,shd->hts", q, k) / np.sqrt(model.head_dim), model.attention_cap)
        scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = np.einsum("hts,shd->thd", p / p.sum(-1, keepdims=True), v)
        return self._linear(layer, "o", mixed.reshape(count, -1))

    def _rotated(self, x):
        half = self.model.head_dim // 2
        angle = np.arange(len(x))[:, None] * self.model.rope_theta ** (-np.arange(half) / half)
        cosine, sine = np.cos(angle)[:, None], np.sin(angle)[:, None]
        first, second = (slice(0, half), slice(half, None)) if self.halves else (slice(0, None, 2), slice(1, None, 2))
        out = np.empty_like(x)
        out[..., first] = x[..., first] * cosine - x[..., second] * sine
        out[..., second] = x[..., first] * sine + x[..., second] * cosine
        return out

    def _ffn(self, layer, x):
        up = self._linear(layer, "up", x)
        if self.model.ffn_kind == "gated":
            return self._linear(layer, "down", self._activation(self._linear(layer, "gate", x)) * up)
        return self._linear(layer, "down", self._activation(up))

    def _activation(self, x):
        if self.model.activation == "gelu":
            return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return x / (1 + np.exp(-x)) if self.model.activation == "silu" else np.maximum(x, 0)

    @staticmethod
    def _capped(x, cap):
        return cap * np.tanh(x / cap) if cap else x


def relative(found, wanted):
    """The distance of two arrays by the length of the second."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
