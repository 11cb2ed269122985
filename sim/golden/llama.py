"""The forward pass of a llama file in golden arithmetic: prefill and decode over a KV cache.

    load_llama       a GGUF file to a Llama (dimensions, and weights by their name in the file)
    Session          one sequence: ``extend(tokens)`` appends them and gives logits, ``residuals`` what they are made of
    record_operands  what enters a chosen linear: quantised activations and grouped weights

A token's values do not depend on how it is handed over: a prefill of several gives the bits of one by one.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixflight.arch.errors import InputError
from mixflight.sim.golden import attention, batched, kernels
from mixflight.sim.golden.cache import Fp16Store, Int8Store, store
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import silu_gate
from mixflight.sim.golden.linear import GroupedWeight, grouped_weight, linear, linear_f16
from mixflight.sim.golden.norm import rms_norm
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.sim.golden.quantise import F16, Quantised, quantise, to_f16
from mixflight.sim.golden.rope import rotate, rotation
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.llama_gguf import FINAL_NORM, LINEARS, NORMS, model_of, weights_of
from mixflight.workloads.model import Model
from mixflight.workloads.tensor import Tensor

MANY = 8  # tokens from which on the batched functions are faster
KvKind = Literal["int8", "fp16"]
Observer = Callable[[str, Quantised], None]


@dataclass(frozen=True, kw_only=True)
class Functions:
    """The functions of a block, by the contract; every set of them gives the same bits."""

    quantise: Callable[[F32, int, int], Quantised]
    linear: Callable[[GroupedWeight, Quantised], F32]
    rms_norm: Callable[[F32, F32, np.float32], F32]
    silu_gate: Callable[[F32, F32], F32]


REFERENCE = Functions(quantise=quantise, linear=linear, rms_norm=rms_norm, silu_gate=silu_gate)
COMPILED = Functions(
    quantise=kernels.quantise, linear=kernels.linear, rms_norm=kernels.rms_norm, silu_gate=kernels.silu_gate
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Llama:
    """Dimensions and weights; linears and norms by their tensor's name in the file."""

    model: Model
    embedding: Tensor
    linears: dict[str, GroupedWeight]
    norms: dict[str, F32]
    head_name: str


def load_llama(file: GgufFile) -> Llama:
    """The model in a GGUF file of the llama architecture; codes are unpacked on all cores."""
    model, weights = model_of(file), weights_of(file)
    tensors = [getattr(layer, role) for layer in weights.layers for role in LINEARS] + [weights.head]
    norms = [getattr(layer, role) for layer in weights.layers for role in NORMS] + [weights.final_norm]
    with ThreadPoolExecutor() as pool:
        unpacked = list(pool.map(_unpack, tensors))
    return Llama(
        model=model,
        embedding=weights.embedding,
        linears={tensor.name: weight for tensor, weight in zip(tensors, unpacked, strict=True)},
        norms={tensor.name: tensor.values().astype(np.float32) for tensor in norms},
        head_name=weights.head.name,
    )


def _unpack(tensor: Tensor) -> GroupedWeight:
    weight = grouped_weight(tensor)
    _ = weight.wide_d, weight.wide_minimum  # worked out here, in the pool
    return weight


class Session:
    """One sequence over its KV cache.

    ``kv`` int8 is the contract's default, fp16 the reference variant. ``numerics`` chooses the formats of activations
    and cache in its place; without it activations are INT8 per group of 32. ``compiled=False`` runs the NumPy reference
    of every function. ``observe(name, activation)`` is called for each linear with its quantised input.
    """

    def __init__(
        self,
        llama: Llama,
        *,
        kv: KvKind = "int8",
        numerics: Numerics | None = None,
        compiled: bool = True,
        observe: Observer | None = None,
    ) -> None:
        if kv not in ("int8", "fp16"):
            raise InputError(f"kv must be int8 or fp16, not {kv!r}")
        self.llama = llama
        self.numerics = numerics or Numerics(k=kv, v=kv)
        self.compiled = compiled
        self._functions = COMPILED if compiled else REFERENCE
        self.observe = observe
        self.position = 0
        model = llama.model
        formats = self.numerics.k, self.numerics.v
        keys, values = (
            [store(name, model.kv_heads, model.head_dim) for _ in range(model.layers)] for name in formats
        )
        self._caches = list(zip(keys, values, strict=True))
        if isinstance(keys[0], Fp16Store) != isinstance(values[0], Fp16Store):
            raise InputError(f"keys and values must both be integers or both FP16, not {formats[0]} and {formats[1]}")

    def extend(self, tokens: Sequence[int], *, every: bool = False) -> F32:
        """Append ``tokens``; logits [1, vocab] after the last, or after each token with ``every``."""
        x = self.residuals(tokens)
        return self.logits(x if every else x[-1:])

    def logits(self, residuals: F32) -> F32:
        """The logits [tokens, vocab] of what :meth:`residuals` gave."""
        return self._project([self.llama.head_name], self._norm(FINAL_NORM, residuals))[0]

    def residuals(self, tokens: Sequence[int]) -> F32:
        """Append ``tokens``; the residual vectors [tokens, hidden] behind the last layer."""
        llama, model, end = self.llama, self.llama.model, self.position + len(tokens)
        if not tokens or min(tokens) < 0 or max(tokens) >= model.vocab:
            raise InputError(f"tokens must be numbers below {model.vocab}, not {list(tokens)[:8]}")
        if end > model.context_length:
            raise InputError(f"the context must hold at most {model.context_length} tokens, not {end}")
        x = embed(llama.embedding, tokens)
        angles = rotation(model.rope_theta, model.head_dim, np.arange(self.position, end))
        for layer in range(model.layers):
            x = self._block(layer, x, angles)
        self.position = end
        return x

    def cache(self, layer: int) -> tuple[attention.Int8Cache | F16, attention.Int8Cache | F16]:
        """Keys and values of a layer, of all positions so far."""
        keys, values = self._caches[layer]
        return keys.view(self.position), values.view(self.position)

    def _block(self, layer: int, x: F32, angles: tuple[F32, F32]) -> F32:
        def name(role: str) -> str:
            return f"blk.{layer}.{LINEARS.get(role, role)}.weight"

        y = self._norm(name("attn_norm"), x)
        q, k, v = (
            part.reshape(len(x), -1, self.llama.model.head_dim)
            for part in self._project([name("q"), name("k"), name("v")], y)
        )
        cosine, sine = (part[:, None] for part in angles)
        keys, values = self._caches[layer]
        keys.put(self.position, rotate(k, cosine, sine), self._functions.quantise)
        values.put(self.position, v, self._functions.quantise)
        mixed = self._attend(layer, rotate(q, cosine, sine)).reshape(len(x), -1)
        x = x + self._project([name("o")], mixed)[0]
        gate, up = self._project([name("gate"), name("up")], self._norm(name("ffn_norm"), x))
        return x + self._project([name("down")], self._functions.silu_gate(gate, up))[0]

    def _norm(self, name: str, x: F32) -> F32:
        return self._functions.rms_norm(x, self.llama.norms[name], np.float32(self.llama.model.norm_epsilon))

    def _project(self, names: list[str], x: F32) -> list[F32]:
        """The named linears of one input, which is quantised once for all that take it in the same format."""
        formats = {name: self.numerics.of(name) for name in names}
        inputs: dict[Activation, Quantised | F16] = {}
        for wanted in formats.values():
            if wanted not in inputs:
                inputs[wanted] = (
                    self._functions.quantise(x, wanted.group or x.shape[-1], wanted.levels)
                    if wanted.levels
                    else to_f16(x, "an activation")
                )
        return [self._linear(name, inputs[formats[name]]) for name in names]

    def _linear(self, name: str, activation: Quantised | F16) -> F32:
        weight = self.llama.linears[name]
        if not isinstance(activation, Quantised):
            return batched.linear(weight, activation) if self.compiled else linear_f16(weight, activation)
        if self.observe is not None:
            self.observe(name, activation)
        if self.compiled and (weight.real or len(activation.codes) >= MANY):
            return batched.linear(weight, activation)
        return self._functions.linear(weight, activation)

    def _attend(self, layer: int, q: F32) -> F32:
        keys, values = self._caches[layer]
        if self.compiled:
            end = self.position + len(q)
            if len(q) < MANY and isinstance(keys, Int8Store) and isinstance(values, Int8Store):
                return kernels.attend_int8(q, keys.view(), values.view(), self.position)
            return batched.attend(q, keys.view(end), values.view(end), self.position)
        out = np.empty_like(q)
        for token in range(len(q)):
            used = self.position + token + 1
            k, v = keys.view(used), values.view(used)
            if isinstance(k, attention.Int8Cache) and isinstance(v, attention.Int8Cache):
                out[token] = attention.attend_int8(q[token], k, v)
            elif isinstance(k, np.ndarray) and isinstance(v, np.ndarray):
                out[token] = attention.attend_fp16(q[token], k, v)
        return out


def embed(embedding: Tensor, tokens: Sequence[int]) -> F32:
    """Embedding rows: x = f32(d·q), then f32(x + m) where the table has minima; float tables are widened."""
    return embedding.dequantise(list(tokens))


def record_operands(
    llama: Llama, tokens: Sequence[int], name: str, *, kv: KvKind = "int8"
) -> tuple[Quantised, GroupedWeight]:
    """What enters the linear ``name`` in a prefill of ``tokens``: activations [tokens, K] and the weight."""
    if name not in llama.linears:
        raise InputError(f"tensor must be a linear, such as blk.0.ffn_up.weight, not {name!r}")
    found: list[Quantised] = []

    def observe(seen: str, activation: Quantised) -> None:
        if seen == name:
            found.append(activation)

    Session(llama, kv=kv, observe=observe).extend(tokens, every=True)
    return found[0], llama.linears[name]
