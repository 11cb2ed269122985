"""What the systolic array outputs, bit for bit, and the beats that make it do so. Plain NumPy.

``array_outputs`` is the contract of ``arch/numerics.md`` for a linear layer; ``tile_beats`` and
``lane_values`` say how one tile's operands enter the array's streams and in which order its outputs leave.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixflight.arch.array_pipeline import columns_per_lane, tile_shape
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Zero

Array = npt.NDArray[Any]


def group_count(a: Array, w: Array, s_a: Array | None, d: Array, z: Array | None, group: int, zero: Zero) -> int:
    """Groups in a row, after checking that every shape fits; without ``s_a`` activations have no scales."""
    (m, k), n = a.shape, w.shape[0]
    if group < 1 or k % group:
        raise InputError(f"group must divide K: {group} does not divide {k}, in the array's operands")
    groups: int = k // group
    shapes: dict[str, tuple[Array, tuple[int, ...]]] = {"w": (w, (n, k)), "d": (d, (n, groups))}
    if s_a is not None:
        shapes["s_a"] = (s_a, (m, groups))
    if zero == "none" and z is not None:
        raise InputError("z must be None without zero points, not an array, in the array's operands")
    if zero != "none":
        if z is None:
            raise InputError(f"z must be given for zero {zero!r}, not None, in the array's operands")
        shapes["z"] = (z, (n, groups))
    for name, (values, shape) in shapes.items():
        if values.shape != shape:
            raise InputError(
                f"{name} must have the shape {shape}, not {values.shape}, in the array's operands")
    return groups


def array_outputs(*, a: Array, w: Array, s_a: Array, d: Array, z: Array | None, group: int,
                  zero: Zero) -> Array:
    """The array's outputs as float32 [M, N].

    ``a`` int8 [M, K]; ``w`` [N, K] codes: 0..15, -8..7, or 8-bit for two passes; ``s_a`` float16 [M,
    K/group]; ``d`` float16 [N, K/group]; ``z`` None, uint8 [N, K/group] (``int4``) or float16 [N, K/group]
    (``f16-min``). Scales and minima must be finite. Groups are taken in ascending order; each product and
    each sum is rounded once to FP32.
    """
    groups = group_count(a, w, s_a, d, z, group, zero)
    total = np.zeros((a.shape[0], w.shape[0]), np.float32)
    for g in range(groups):
        span = slice(g * group, (g + 1) * group)
        activations = a[:, span].astype(np.int64)
        integers = activations @ w[:, span].astype(np.int64).T
        row_sums = activations.sum(axis=1, keepdims=True)
        scale_a = s_a[:, g, None].astype(np.float32)
        if zero == "int4" and z is not None:
            integers = integers - row_sums * z[None, :, g].astype(np.int64)
        total = total + (d[None, :, g].astype(np.float32) * scale_a) * integers.astype(np.float32)
        if zero == "f16-min" and z is not None:
            total = total + (z[None, :, g].astype(np.float32) * scale_a) * row_sums.astype(np.float32)
    return total


class ActBeat(NamedTuple):
    """One beat of stream ``act``; the fields are the payload's, ``exponent`` empty but for aligned activations."""

    a: list[int]
    last_in_group: int
    last_in_tile: int
    high: int
    signed: int
    exponent: list[int]


class ParamsBeat(NamedTuple):
    """One beat of stream ``params``; FP16 values as their bits, ``z`` empty without zero points, ``s_a``
    without activation scales."""

    d: list[int]
    z: list[int]
    s_a: list[int]


class TileBeats(NamedTuple):
    """The beats of one tile: ``act`` and ``wgt`` one a step, ``params`` one a group.

    Of a split tile ``wgt_below[i - 1]`` holds block i's weights, one a step, and ``params`` has a beat a group
    and block.
    """

    act: list[ActBeat]
    wgt: list[list[int]]
    params: list[ParamsBeat]
    wgt_below: list[list[list[int]]]

    @property
    def split(self) -> bool:
        """The value of ``act``'s field ``split`` in every step, for an array that has it."""
        return bool(self.wgt_below)


def bits_of(values: Array) -> list[int]:
    """FP16 values as their bits, integers as they are."""
    return [int(v) for v in (values.view(np.uint16) if values.dtype == np.float16 else values)]


def tile_beats(*, a: Array, w: Array, s_a: Array | None, d: Array, z: Array | None, group: int, zero: Zero,
               passes: int, signed: bool | Sequence[bool], split: int = 1, w_bits: int = 4,
               exponents: Array | None = None) -> TileBeats:
    """The beats of a tile of M = rows activation rows and N = columns weights of ``w_bits`` bits a pass.

    Operands are as in :func:`array_outputs`, or FP16, or an element's own words; ``exponents`` [M, K/group] those of
    the groups of aligned activations.

    ``signed``: weight codes are two's complement, of all groups or of each. With two passes the steps of a group
    are the low nibbles (unsigned), then the high nibbles (signed if the codes are), with the activations repeated.
    ``split`` > 1: a split tile of M = rows / split and N = columns * split, whose block i has the i-th ``split``-th
    of the N.
    """
    groups = group_count(a, w, s_a, d, z, group, zero)
    if len(w) % split:
        raise InputError(f"split must divide N: {split} does not divide {len(w)}, in the array's operands")
    cols = len(w) // split
    blocks = [slice(i * cols, (i + 1) * cols) for i in range(split)]
    wgt: list[list[list[int]]] = [[] for _ in blocks]
    beats = TileBeats([], wgt[0], [], wgt[1:])
    mask = (1 << w_bits) - 1
    for g in range(groups):
        own_sign = signed if isinstance(signed, bool) else signed[g]
        exponent = [] if exponents is None else split * bits_of(exponents[:, g])
        for high in range(passes):
            for k in range(g * group, (g + 1) * group):
                last = high == passes - 1 and k == (g + 1) * group - 1
                beats.act.append(ActBeat(
                    a=split * bits_of(np.ascontiguousarray(a[:, k])), exponent=exponent, last_in_group=int(last),
                    last_in_tile=int(last and g == groups - 1), high=high,
                    signed=int(own_sign and high == passes - 1)))
                for block, own in zip(blocks, wgt, strict=True):
                    own.append([v >> (w_bits * high) & mask for v in bits_of(np.ascontiguousarray(w[block, k]))])
        beats.params.extend(ParamsBeat(
            d=bits_of(np.ascontiguousarray(d[block, g])),
            s_a=[] if s_a is None else split * bits_of(np.ascontiguousarray(s_a[:, g])),
            z=[] if z is None else bits_of(np.ascontiguousarray(z[block, g]))) for block in blocks)
    return beats


def lane_values(outputs: Array, *, lanes: int, split: int = 1) -> Array:
    """A tile's outputs [rows, cols] as [lanes, rows * cols / lanes], each lane in the order in which it emits
    them.

    Lane ``l`` has the columns from ``l * cols / lanes`` on, rows ascending, then the next column. A split
    tile's outputs are [rows / split, cols * split]: row ``i * rows / split + m`` has token m's channels from
    ``i * cols`` on.
    """
    tokens, channels = outputs.shape
    if split > 1:
        tile_shape(rows=tokens * split, cols=channels // split, split=split)
        outputs = outputs.reshape(tokens, split, -1).transpose(1, 0, 2).reshape(tokens * split, -1)
    columns_per_lane(cols=outputs.shape[1], lanes=lanes)
    return np.ascontiguousarray(outputs.T).reshape(lanes, -1)
