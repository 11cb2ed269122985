"""Time and power of kernels on a GPU: a roofline with launch, occupancy and attention terms.

Every rate is a fitted share (at most 1) of the data sheet's, so no kernel is faster than its bytes over the bandwidth
or its operations over the tensor cores' rate.

Time of one run of a kernel, with M = moved bytes, F = flops, k = inner length, B = bandwidth, T = tensor rate,
S = SMs, I = S x clock, and sum_p(a, b, ...) = (a^p + b^p + ...)^(1/p), a maximum with a soft edge:

    dense              launch + fill k + sum_p(M / (memory B), F (1 + half_inner / k) / (tensor T))
    int4               launch + sum_q(M / (memory B), M / (int4_bytes I), F / (int4_flops I))
    attention          launch + attention_start + split [context > 128] + M / (attention B)
    prefill attention  launch + attention_start + sum_p(M / (memory B), (G + S L) / (attention_tensor T))
    vector             launch + M / (vector B)

``launch`` stands for what lies between two dependent kernels of a CUDA graph. ``fill k`` is the occupancy term of small
products: a tile's sum is serial, and few tiles do not hide its start. ``half_inner / k`` is that of large ones: a short
sum does not keep the tensor cores busy.

Causal attention has blocks of 128 queries: G is F with the masked half of the blocks on the diagonal, L the work of the
block of the last queries, which has all keys to read on one SM alone. Blocks of unlike length end at most L after the
mean of all SMs (Graham's bound of list scheduling); that is most of a short prompt's time and little of a long one's.
``split``: attention of a decode over more than 128 tokens is cut along the context and put together by a second kernel.

Vector kernels read and write in turns, products and attention hardly write: their shares of the bandwidth differ. The
int4 kernel is bound by its instructions (unpacking), not by memory: its rates follow SMs x clock.

Power from utilisation: with u_mem = sum M / (B t), u_tensor = sum F / (T t), u_unpack and u_int4 the shares of t that
the int4 kernel's bytes and operations take at its own rates, over all kernels of the pass,

    P = idle + (limit - idle) min(1, (active + mem u_mem + ten u_tensor + unp u_unpack + int u_int4) [fp16_factor])

``fp16_factor`` multiplies for FP16 data: FP16 decode draws more than BF16 at the same speed. At the limit the clock
falls; the fitted ``tensor`` share contains that.
"""

from dataclasses import dataclass

import msgspec
import numpy as np

from mixflight.arch.gpu import Gpu
from mixflight.sim.gpu.kernels import ATTENTION, DENSE, INT4, PREFILL_ATTENTION, VECTOR, Floats, Packed

SPLIT_ABOVE = 128


class TimeCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted numbers of the time formulas: seconds, shares of the data sheet's rates, and work per SM and cycle."""

    launch_s: float
    fill_s: float
    attention_start_s: float
    split_s: float
    memory: float
    attention: float
    tensor: float
    attention_tensor: float
    half_inner: float
    vector: float
    edge: float
    int4_bytes: float
    int4_flops: float
    int4_edge: float


class PowerCoefficients(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted numbers of the power formula: shares of (limit - idle) at utilisation 1."""

    active: float
    memory: float
    tensor: float
    unpack: float
    int4: float
    fp16_factor: float


SHARES = ("memory", "attention", "tensor", "attention_tensor", "vector")  # of the time formulas: below 1


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the formulas take from data sheets, one element a pass: B/s, 1/s, SMs, SM cycles/s, W."""

    bandwidth: Floats
    tensor: Floats
    sms: Floats
    issue: Floats
    idle_w: Floats
    limit_w: Floats
    fp16: Floats


def rates_of(gpu: Gpu, idle_share: float, fp16: bool, passes: int = 1) -> Rates:
    """Rates of ``gpu`` for ``passes`` passes; an unknown idle power is ``idle_share`` of the power limit."""
    idle = gpu.idle_power_w if gpu.idle_power_w is not None else idle_share * gpu.power_limit_w
    return Rates(
        bandwidth=np.full(passes, gpu.bandwidth_gb_s * 1e9), tensor=np.full(passes, gpu.tensor_tflop_s * 1e12),
        sms=np.full(passes, float(gpu.sms)), issue=np.full(passes, gpu.sms * gpu.boost_mhz * 1e6),
        idle_w=np.full(passes, idle), limit_w=np.full(passes, gpu.power_limit_w), fp16=np.full(passes, float(fp16)),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Seconds of one run of each kernel, and what each limit alone would take (0 where it is not in the formula)."""

    seconds: Floats
    memory: Floats
    tensor: Floats
    unpack: Floats
    int4: Floats
    fixed: Floats


def kernel_terms(kernels: Packed, rates: Rates, c: TimeCoefficients) -> Terms:
    """Time of one run of each kernel by the formulas of this module."""
    owner, kind = kernels.owner, kernels.kind
    is_int4, is_attention, is_prefill = kind == INT4, kind == ATTENTION, kind == PREFILL_ATTENTION
    share = np.where(is_attention, c.attention, np.where(kind == VECTOR, c.vector, c.memory))
    memory = kernels.moved / (share * rates.bandwidth[owner])
    inner = np.maximum(kernels.inner, 1)
    products = np.where(kind == DENSE, kernels.flops * (1 + c.half_inner / inner) / c.tensor, 0.0)
    causal = (kernels.issued + rates.sms[owner] * kernels.longest) / c.attention_tensor
    tensor = (products + np.where(is_prefill, causal, 0.0)) / rates.tensor[owner]
    unpack = np.where(is_int4, kernels.moved / (c.int4_bytes * rates.issue[owner]), 0.0)
    int4 = np.where(is_int4, kernels.flops / (c.int4_flops * rates.issue[owner]), 0.0)
    edge = np.where(is_int4, c.int4_edge, c.edge)
    work = np.where(
        (kind == VECTOR) | is_attention, memory, _soft_maximum(edge, memory, tensor, unpack, int4)
    )
    fixed = c.launch_s + np.where(kind == DENSE, c.fill_s * kernels.inner, 0.0)
    fixed = fixed + np.where(is_attention | is_prefill, c.attention_start_s, 0.0)
    fixed = fixed + np.where(is_attention & (kernels.context > SPLIT_ABOVE), c.split_s, 0.0)
    return Terms(seconds=fixed + work, memory=memory, tensor=tensor, unpack=unpack, int4=int4, fixed=fixed)


def _soft_maximum(edge: Floats, *terms: Floats) -> Floats:
    largest = np.maximum.reduce(terms)
    scaled = sum(((term / largest) ** edge for term in terms), np.zeros_like(largest))
    return np.asarray(largest * scaled ** (1 / edge))


POWER_FEATURES = ("active", "memory", "tensor", "unpack", "int4")


def utilisations(kernels: Packed, rates: Rates, terms: Terms) -> dict[str, Floats]:
    """What each power coefficient multiplies, one element a pass."""
    owner = kernels.owner
    seconds = kernels.per_pass(terms.seconds)
    tensor = np.where(kernels.kind == INT4, 0.0, kernels.flops / rates.tensor[owner])
    return {
        "active": np.ones(kernels.passes),
        "memory": kernels.per_pass(kernels.moved / rates.bandwidth[owner]) / seconds,
        "tensor": kernels.per_pass(tensor) / seconds,
        "unpack": kernels.per_pass(terms.unpack) / seconds,
        "int4": kernels.per_pass(terms.int4) / seconds,
    }


def power_parts(used: dict[str, Floats], rates: Rates, c: PowerCoefficients) -> dict[str, Floats]:
    """W of each part, ``idle`` included, one element a pass; at the power limit all but idle shrink together."""
    span = rates.limit_w - rates.idle_w
    factor = np.where(rates.fp16 > 0, c.fp16_factor, 1.0)
    parts = {name: getattr(c, name) * used[name] * factor for name in POWER_FEATURES}
    load = sum(parts.values(), np.zeros_like(span))
    scale = span / np.maximum(load, 1.0)
    return {"idle": rates.idle_w, **{name: part * scale for name, part in parts.items()}}


def predict(kernels: Packed, rates: Rates, time: TimeCoefficients, power: PowerCoefficients) -> tuple[Floats, Floats]:
    """Seconds and W of each pass."""
    terms = kernel_terms(kernels, rates, time)
    parts = power_parts(utilisations(kernels, rates, terms), rates, power)
    return kernels.per_pass(terms.seconds), np.asarray(sum(parts.values()))
