"""Linear layers: exact integer sums, dequantised group by group in FP32 (``arch/numerics.md``, Linear)."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.sim.golden.checks import F32
from mixflight.sim.golden.quantise import F16, I8, Quantised
from mixflight.workloads.tensor import Tensor

U8 = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedWeight:
    """Codes [N, K], scales d [N, K/group] and, where the format has one, a zero [N, K/group].

    ``codes``  integers, or the FP16 values of a table of reals (NF4), widened to FP32.
    ``d``      FP16, or FP32 where the scale is a product of two levels or a power of two, exactly.
    ``zero``   uint8: an integer zero point, weight = d·(q - z); a float as ``d``: a minimum, weight = d·q + m.
    """

    codes: I8 | U8 | F32
    d: F16 | F32
    zero: U8 | F16 | F32 | None
    group: int

    def __post_init__(self) -> None:
        n, k = self.codes.shape
        if self.group < 1 or k % self.group:
            raise InputError(f"group must divide K: {self.group} does not divide {k}")
        for part in (self.d, self.zero):
            if part is not None and part.shape != (n, k // self.group):
                raise InputError(f"scales and zeros must be {(n, k // self.group)}, not {part.shape}")

    @property
    def n(self) -> int:
        """Outputs."""
        return int(self.codes.shape[0])

    @property
    def k(self) -> int:
        """Inputs."""
        return int(self.codes.shape[1])

    @functools.cached_property
    def wide_d(self) -> F32:
        """The scales widened to FP32."""
        return self.d.astype(np.float32, copy=False)

    @property
    def real(self) -> bool:
        """Whether the codes are reals, whose sums are rounded and therefore have an order."""
        return self.codes.dtype == np.float32

    @functools.cached_property
    def wide_minimum(self) -> F32:
        """The minima widened to FP32; empty where there are none."""
        if self.zero is None or self.zero.dtype == np.uint8:
            return np.empty((0, 0), np.float32)
        return self.zero.astype(np.float32)

    @functools.cached_property
    def integer_zero(self) -> U8:
        """The integer zero points; empty where there are none."""
        if self.zero is None or self.zero.dtype != np.uint8:
            return np.empty((0, 0), np.uint8)
        return self.zero.astype(np.uint8)

    def values(self) -> NDArray[np.float64]:
        """The exact weights in float64."""
        def spread(part: NDArray[np.generic]) -> NDArray[np.float64]:
            return np.repeat(part.astype(np.float64), self.group, axis=1)

        codes = self.codes.astype(np.float64)
        if self.zero is None:
            return spread(self.d) * codes
        if self.zero.dtype != np.uint8:
            return spread(self.d) * codes + spread(self.zero)
        return spread(self.d) * (codes - spread(self.zero))


def grouped_weight(tensor: Tensor) -> GroupedWeight:
    """A stored integer tensor as the golden model multiplies it.

    A constant code offset is subtracted and a table of integers looked up; scales of two levels and powers of two are
    the exact FP32 products.
    """
    form = tensor.format
    codes = tensor.operands() if form.offset or form.table else tensor.codes()
    if form.two_level is None and form.scale == "f16":
        return GroupedWeight(codes=codes, d=tensor.scales(), zero=tensor.minima(), group=form.group or tensor.k)
    return GroupedWeight(codes=codes, d=tensor.group_scales(), zero=tensor.group_minima(), group=form.group)


def integer_group(weight: GroupedWeight, activation: Quantised) -> int:
    """The run of K whose products share both scales: the smaller group, which must divide the larger."""
    if weight.k != activation.codes.shape[-1]:
        raise InputError(f"K must agree: weights have {weight.k}, activations {activation.codes.shape[-1]}")
    small, large = sorted((weight.group, activation.group))
    if large % small:
        raise InputError(f"groups must divide one another: weights {weight.group}, inputs {activation.group}")
    return small


def linear(weight: GroupedWeight, activation: Quantised) -> F32:
    """Outputs [M, N] of activations [M, K]: groups in ascending order into one FP32 accumulator from +0."""
    if weight.real:
        return _linear_real(weight, activation)
    group = integer_group(weight, activation)
    groups = weight.k // group
    w = weight.codes.astype(np.float64).reshape(weight.n, groups, group)  # integers: float64 sums are exact
    a = activation.codes.astype(np.float64).reshape(-1, groups, group)
    d = np.repeat(weight.d.astype(np.float32), weight.group // group, axis=1)
    s_a = np.repeat(activation.scales.astype(np.float32), activation.group // group, axis=1)
    zero = None if weight.zero is None else np.repeat(weight.zero, weight.group // group, axis=1)
    acc = np.zeros((len(a), weight.n), np.float32)
    for g in range(groups):
        total = a[:, g] @ w[:, g].T
        rowsum = a[:, g].sum(axis=1)[:, None]
        if zero is not None and zero.dtype == np.uint8:
            total = total - zero[:, g].astype(np.float64) * rowsum
        acc = acc + (d[:, g] * s_a[:, g, None]) * total.astype(np.float32)
        if zero is not None and zero.dtype != np.uint8:
            acc = acc + (zero[:, g].astype(np.float32) * s_a[:, g, None]) * rowsum.astype(np.float32)
    return acc


def _linear_real(weight: GroupedWeight, activation: Quantised) -> F32:
    """Codes that are FP16 reals: one FP32 sum a group of t·q_a over ascending k, then ``acc + f32(f32(d·s_a)·sum)``."""
    group = integer_group(weight, activation)
    codes, a = weight.codes.astype(np.float32), activation.codes.astype(np.float32).reshape(-1, weight.k)
    d = np.repeat(weight.wide_d, weight.group // group, axis=1)
    s_a = np.repeat(activation.scales.astype(np.float32).reshape(len(a), -1), activation.group // group, axis=1)
    acc = np.zeros((len(a), weight.n), np.float32)
    for g in range(weight.k // group):
        part = slice(g * group, (g + 1) * group)
        acc = acc + (d[:, g] * s_a[:, g, None]) * _sequential(codes[:, part], a[:, part])
    return acc


def linear_f16(weight: GroupedWeight | F16, a: F16) -> F32:
    """Outputs [M, N] of FP16 activations [M, K]: products are exact in FP32, sums sequential over ascending k.

    Grouped integer weights: one FP32 sum a group from +0 of (q - z)·a, then ``acc = f32(acc + f32(d·sum))``, and
    for a minimum ``acc = f32(acc + f32(m·sum of a))``. FP16 weights [N, K]: one FP32 sum over all of K.
    """
    x = a.astype(np.float32)
    if not isinstance(weight, GroupedWeight):
        return _sequential(weight.astype(np.float32), x)
    if x.shape[1] != weight.k:
        raise InputError(f"K must agree: weights have {weight.k}, activations {x.shape[1]}")
    codes = weight.codes.astype(np.float32)
    if weight.integer_zero.size:
        codes = codes - np.repeat(weight.integer_zero, weight.group, axis=1).astype(np.float32)
    acc = np.zeros((len(x), weight.n), np.float32)
    for g in range(weight.k // weight.group):
        part = slice(g * weight.group, (g + 1) * weight.group)
        acc = acc + weight.wide_d[:, g] * _sequential(codes[:, part], x[:, part])
        if weight.wide_minimum.size:
            acc = acc + weight.wide_minimum[:, g] * _sequential(np.ones((1, weight.group), np.float32), x[:, part])
    return acc


def _sequential(w: F32, x: F32) -> F32:
    total = np.zeros((len(x), len(w)), np.float32)
    for k in range(x.shape[1]):
        total = total + x[:, k, None] * w[:, k]
    return total
