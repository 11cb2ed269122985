"""The KV cache of one layer: keys or values of every position so far, growing as tokens come.

    Int8Store    INT8, or narrower symmetric integers, with an FP16 scale per token and head
    Uint4Store   UINT4 with an FP16 scale and minimum per token and head
    Fp16Store    FP16
    store        by the name of the format
"""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.attention import Int8Cache
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.quantise import F16, I8, LEVELS, Quantised, quantise, quantise_asymmetric, to_f16

FIRST_CAPACITY = 256


class Int8Store:
    """Codes [KV heads, capacity, head] from -levels to levels and FP16 scales [KV heads, capacity]."""

    def __init__(self, kv_heads: int, head: int, levels: int = LEVELS) -> None:
        self.levels = levels
        self.codes: I8 = np.zeros((kv_heads, FIRST_CAPACITY, head), np.int8)
        self.scales: F16 = np.zeros((kv_heads, FIRST_CAPACITY), np.float16)

    def put(self, at: int, rows: F32, quantiser: Callable[..., Quantised] = quantise) -> None:
        """Quantise rows [tokens, KV heads, head] per token and head; store them from position ``at`` on."""
        end = at + len(rows)
        self.codes, self.scales = _room(self.codes, end), _room(self.scales, end)
        stored = quantiser(rows, rows.shape[-1], self.levels)
        self.codes[:, at:end] = stored.codes.transpose(1, 0, 2)
        self.scales[:, at:end] = stored.scales[..., 0].T

    def view(self, used: int | None = None) -> Int8Cache:
        """The first ``used`` positions, or the whole capacity."""
        return Int8Cache(codes=self.codes[:, :used], scales=self.scales[:, :used])


class Uint4Store:
    """Codes [KV heads, capacity, head] from 0 to 15, FP16 scales and minima [KV heads, capacity]."""

    def __init__(self, kv_heads: int, head: int) -> None:
        self.codes: I8 = np.zeros((kv_heads, FIRST_CAPACITY, head), np.int8)
        self.scales: F16 = np.zeros((kv_heads, FIRST_CAPACITY), np.float16)
        self.minima: F16 = np.zeros((kv_heads, FIRST_CAPACITY), np.float16)

    def put(self, at: int, rows: F32, quantiser: object = None) -> None:
        """Quantise rows [tokens, KV heads, head] per token and head; store them from position ``at`` on."""
        end = at + len(rows)
        self.codes, self.scales, self.minima = (_room(part, end) for part in (self.codes, self.scales, self.minima))
        stored = quantise_asymmetric(rows)
        self.codes[:, at:end] = stored.codes.transpose(1, 0, 2)
        self.scales[:, at:end] = stored.scales.T
        self.minima[:, at:end] = stored.minima.T

    def view(self, used: int | None = None) -> Int8Cache:
        """The first ``used`` positions, or the whole capacity."""
        return Int8Cache(codes=self.codes[:, :used], scales=self.scales[:, :used], minima=self.minima[:, :used])


class Fp16Store:
    """FP16 values [KV heads, capacity, head]."""

    def __init__(self, kv_heads: int, head: int) -> None:
        self.values: F16 = np.zeros((kv_heads, FIRST_CAPACITY, head), np.float16)

    def put(self, at: int, rows: F32, quantiser: object = None) -> None:
        """Round rows [tokens, KV heads, head] to FP16 and store them from position ``at`` on."""
        end = at + len(rows)
        self.values = _room(self.values, end)
        self.values[:, at:end] = to_f16(rows, "a cached key or value").transpose(1, 0, 2)

    def view(self, used: int) -> F16:
        """The first ``used`` positions."""
        return self.values[:, :used]


Store = Int8Store | Uint4Store | Fp16Store


def store(name: str, kv_heads: int, head: int) -> Store:
    """An empty cache in the format ``name``: fp16 (or f16), int8, int2 to int7 or uint4-asym."""
    if name in ("fp16", "f16"):
        return Fp16Store(kv_heads, head)
    if name == "uint4-asym":
        return Uint4Store(kv_heads, head)
    if match := re.fullmatch("int([2-8])", name):
        return Int8Store(kv_heads, head, levels=2 ** (int(match[1]) - 1) - 1)
    raise InputError(f"kv must be int8 or fp16 (also f16), int2 to int7 or uint4-asym, not {name!r}")


def _room(part: NDArray[Any], end: int) -> NDArray[Any]:
    """``part`` with at least ``end`` positions along its second axis, doubled as often as needed."""
    while end > part.shape[1]:
        part = np.concatenate([part, np.zeros_like(part)], axis=1)
    return part
