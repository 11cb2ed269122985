"""The KV cache of one layer: keys or values of every position so far, growing as tokens come."""

from collections.abc import Callable

import numpy as np

from mixflight.sim.golden.attention import Int8Cache
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.quantise import F16, I8, Quantised, quantise, to_f16

FIRST_CAPACITY = 256


class Int8Store:
    """INT8 codes [KV heads, capacity, head] and FP16 scales [KV heads, capacity]."""

    def __init__(self, kv_heads: int, head: int) -> None:
        self.codes: I8 = np.zeros((kv_heads, FIRST_CAPACITY, head), np.int8)
        self.scales: F16 = np.zeros((kv_heads, FIRST_CAPACITY), np.float16)

    def put(self, at: int, rows: F32, quantiser: Callable[[F32, int], Quantised] = quantise) -> None:
        """Quantise rows [tokens, KV heads, head] per token and head; store them from position ``at`` on."""
        end = at + len(rows)
        while end > self.codes.shape[1]:
            self.codes = np.concatenate([self.codes, np.zeros_like(self.codes)], axis=1)
            self.scales = np.concatenate([self.scales, np.zeros_like(self.scales)], axis=1)
        stored = quantiser(rows, rows.shape[-1])
        self.codes[:, at:end] = stored.codes.transpose(1, 0, 2)
        self.scales[:, at:end] = stored.scales[..., 0].T

    def view(self, used: int | None = None) -> Int8Cache:
        """The first ``used`` positions, or the whole capacity."""
        return Int8Cache(codes=self.codes[:, :used], scales=self.scales[:, :used])


class Fp16Store:
    """FP16 values [KV heads, capacity, head]."""

    def __init__(self, kv_heads: int, head: int) -> None:
        self.values: F16 = np.zeros((kv_heads, FIRST_CAPACITY, head), np.float16)

    def put(self, at: int, rows: F32, quantiser: object = None) -> None:
        """Round rows [tokens, KV heads, head] to FP16 and store them from position ``at`` on."""
        end = at + len(rows)
        while end > self.values.shape[1]:
            self.values = np.concatenate([self.values, np.zeros_like(self.values)], axis=1)
        self.values[:, at:end] = to_f16(rows, "a cached key or value").transpose(1, 0, 2)

    def view(self, used: int) -> F16:
        """The first ``used`` positions."""
        return self.values[:, :used]
