"""The forward pass of a decoder in golden arithmetic: prefill and decode over a KV cache.

    load_llama       a GGUF file of the llama architecture to a Llama (dimensions, weights by their name in the file)
    load_decoder     a file of any family that has a forward pass here
    Session          one sequence: ``extend(tokens)`` appends them and gives logits, ``residuals`` what they are made of
    record_operands  what enters a chosen linear: quantised activations and grouped weights

A token's values do not depend on how it is handed over: a prefill of several gives the bits of one by one.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixflight.arch.control_constants import cap_constants
from mixflight.arch.errors import InputError
from mixflight.sim.golden import attention, batched, kernels
from mixflight.sim.golden.cache import Fp16Store, Int8Store, store
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.functions import gelu, silu, silu_gate, softcap
from mixflight.sim.golden.linear import GroupedWeight, grouped_weight, linear, linear_f16
from mixflight.sim.golden.norm import layer_norm, rms_norm
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.sim.golden.quantise import F16, Quantised, quantise, to_f16
from mixflight.sim.golden.rope import rotate, rotation
from mixflight.workloads.gguf import GgufFile
from mixflight.workloads.llama_gguf import ARCHITECTURE, FINAL_NORM, HEAD, LINEARS, NORMS, model_of, weights_of
from mixflight.workloads.model import Model
from mixflight.workloads.plain_decoder import PlainDecoder, plain_decoder, scaled_scales
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
    """Dimensions and weights; linears and norms by their tensor's name in the file.

    ``norms`` has the biases of norms and linears too (``blk.0.attn_q.bias``). ``positions``: learned ones, a row each.
    """

    model: Model
    embedding: Tensor
    linears: dict[str, GroupedWeight]
    norms: dict[str, F32]
    head_name: str
    positions: F32 | None = None


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


def load_decoder(file: GgufFile) -> Llama:
    """The model in a GGUF file of any family; one of another forward pass is an InputError."""
    if file.metadata.text("general.architecture") == ARCHITECTURE:
        return load_llama(file)
    found = plain_decoder(file)
    with ThreadPoolExecutor() as pool:
        unpacked = dict(zip(found.linears, pool.map(_unpack, found.linears.values()), strict=True))
    return llama_of(found, unpacked)


def llama_of(found: PlainDecoder, unpacked: Mapping[str, GroupedWeight]) -> Llama:
    """The model ``found``, whose linears are ``unpacked``."""
    names = {name: weight_name(name) for name in unpacked}
    return Llama(
        model=found.model, embedding=found.embedding, head_name=names["head"],
        linears={names[name]: weight for name, weight in unpacked.items()},
        norms={name: item.dequantise()[0] for name, item in found.vectors.items()},
        positions=None if found.positions is None else found.positions.dequantise(),
    )  # fmt: skip


def weight_name(operator: str) -> str:
    """The name, in a file in which nothing is fused, of the weight of ``operator``."""
    if operator == "head":
        return HEAD
    _, layer, role = operator.split(".")
    return f"blk.{layer}.{LINEARS[role]}.weight"


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
        found = self._project([self.llama.head_name], self._norm(FINAL_NORM, residuals))[0]
        cap = self.llama.model.logit_cap
        return softcap(found, *cap_constants(cap)) if cap else found

    def residuals(self, tokens: Sequence[int]) -> F32:
        """Append ``tokens``; the residual vectors [tokens, hidden] behind the last layer."""
        llama, model, end = self.llama, self.llama.model, self.position + len(tokens)
        if not tokens or min(tokens) < 0 or max(tokens) >= model.vocab:
            raise InputError(f"tokens must be numbers below {model.vocab}, not {list(tokens)[:8]}")
        longest = min(model.context_length, model.window or model.context_length)
        if end > longest:
            raise InputError(f"the context must hold at most {longest} tokens, not {end}")
        x = embed(llama.embedding, tokens, model.embedding_scale)
        if llama.positions is not None:
            x = x + llama.positions[self.position : end]
        angles = rotation(model.rope_theta, model.head_dim, np.arange(self.position, end)) if model.rope_theta else None
        for layer in range(model.layers):
            x = self._block(layer, x, angles)
        self.position = end
        return x

    def cache(self, layer: int) -> tuple[attention.Int8Cache | F16, attention.Int8Cache | F16]:
        """Keys and values of a layer, of all positions so far."""
        keys, values = self._caches[layer]
        return keys.view(self.position), values.view(self.position)

    def _block(self, layer: int, x: F32, angles: tuple[F32, F32] | None) -> F32:
        model = self.llama.model

        def name(role: str) -> str:
            return f"blk.{layer}.{LINEARS.get(role, role)}.weight"

        y = self._norm(name("attn_norm"), x)
        q, k, v = (
            part.reshape(len(x), -1, model.head_dim) for part in self._project([name("q"), name("k"), name("v")], y)
        )
        q, k = (self._turned(name(f"{LINEARS[role]}_norm"), part, angles) for role, part in (("q", q), ("k", k)))
        keys, values = self._caches[layer]
        keys.put(self.position, k, self._functions.quantise)
        values.put(self.position, v, self._functions.quantise)
        mixed = self._attend(layer, q).reshape(len(x), -1)
        x = x + self._behind(name("post_attention_norm"), self._project([name("o")], mixed)[0])
        y = self._norm(name("ffn_norm"), x)
        parts = self._project([name(role) for role in (("gate", "up") if model.ffn_kind == "gated" else ("up",))], y)
        return x + self._behind(name("post_ffw_norm"), self._project([name("down")], self._activate(*parts))[0])

    def _turned(self, norm: str, heads: F32, angles: tuple[F32, F32] | None) -> F32:
        """Queries or keys, normalised and rotated where the model does."""
        if self.llama.model.qk_norm:
            flat, epsilon = heads.reshape(-1, heads.shape[-1]), np.float32(self.llama.model.norm_epsilon)
            heads = self._functions.rms_norm(flat, self.llama.norms[norm], epsilon).reshape(heads.shape)
        return heads if angles is None else rotate(heads, *(part[:, None] for part in angles))

    def _behind(self, name: str, x: F32) -> F32:
        """What a half of a block adds: its output, or the norm of it."""
        return self._norm(name, x) if self.llama.model.post_norms else x

    def _activate(self, x: F32, up: F32 | None = None) -> F32:
        kind = self.llama.model.activation
        if kind == "silu" and up is not None:
            return self._functions.silu_gate(x, up)
        y = _ACTIVATIONS[kind](x)
        return y if up is None else y * up

    def _norm(self, name: str, x: F32) -> F32:
        weight, epsilon = self.llama.norms[name], np.float32(self.llama.model.norm_epsilon)
        if self.llama.model.norm == "rmsnorm":
            return self._functions.rms_norm(x, weight, epsilon)
        return layer_norm(x, weight, epsilon) + self.llama.norms[_bias_of(name)]

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
        found = [self._linear(name, inputs[formats[name]]) for name in names]
        biases = (self.llama.norms.get(_bias_of(name)) for name in names)
        return [part if bias is None else part + bias for part, bias in zip(found, biases, strict=True)]

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
        cap = self.llama.model.attention_cap
        if self.compiled and not cap:
            end = self.position + len(q)
            if len(q) < MANY and isinstance(keys, Int8Store) and isinstance(values, Int8Store):
                return kernels.attend_int8(q, keys.view(), values.view(), self.position)
            return batched.attend(q, keys.view(end), values.view(end), self.position)
        out = np.empty_like(q)
        for token in range(len(q)):
            used = self.position + token + 1
            k, v = keys.view(used), values.view(used)
            if isinstance(k, attention.Int8Cache) and isinstance(v, attention.Int8Cache):
                out[token] = attention.attend_int8(q[token], k, v, cap)
            elif isinstance(k, np.ndarray) and isinstance(v, np.ndarray):
                out[token] = attention.attend_fp16(q[token], k, v, cap)
        return out


def embed(embedding: Tensor, tokens: Sequence[int], scale: float = 1.0) -> F32:
    """Embedding rows: x = f32(d·q), then f32(x + m) where the table has minima; float tables are widened.

    ``scale`` multiplies the values; FP16 scales of codes without minima become FP16(f32(d·scale)), once.
    """
    form = embedding.format
    if scale == 1 or form.scale != "f16" or form.zero != "none" or form.two_level:
        values = embedding.dequantise(list(tokens))
        return values if scale == 1 else values * np.float32(scale)
    codes = embedding.operands(list(tokens)).astype(np.float32)
    scales = scaled_scales(embedding.scales(list(tokens)), scale).astype(np.float32)
    return codes * np.repeat(scales, form.group, axis=-1)


def _relu(x: F32) -> F32:
    return np.maximum(x, np.float32(0))


_ACTIVATIONS: dict[str, Callable[[F32], F32]] = {"silu": silu, "gelu": gelu, "relu": _relu}


def _bias_of(weight: str) -> str:
    return f"{weight.removesuffix('weight')}bias"


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
