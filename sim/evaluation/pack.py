"""Values rounded into the block formats of GGUF that hold scales of scales, tables or powers of two.

    pack    values [N, K] to a stored Tensor, by rounding alone: no search for better scales, no importance weights

Every group's range gives its scale (and minimum), the block's largest gives the block's, both are rounded as they are
stored, and each value then takes the nearest code under the stored ones.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.sim.golden.quantise import to_f16
from mixflight.workloads.tensor import LAYOUTS, Tensor, pack_tensor

F64 = NDArray[np.float64]
E8M0_BIAS = 128  # of a byte that stands for half the microscaling scale


def pack(name: str, values: F64, wanted: Format) -> Tensor:
    """``values`` [N, K] as a tensor of the GGUF format ``wanted``; K must be a multiple of its block."""
    layout = LAYOUTS.get(wanted.name)
    if layout is None or wanted.kind == "float":
        raise InputError(f"blocks can be packed in a quantised GGUF format, not in {wanted.name}, in tensor {name!r}")
    n, k = values.shape
    if k % layout.codes:
        raise InputError(f"K must be a multiple of {layout.codes} for {wanted.name}, not {k}, in tensor {name!r}")
    groups = values.reshape(n, k // wanted.group, wanted.group)
    if wanted.scale == "e8m0-half":
        parts = _powers_of_two(groups)
    elif wanted.zero == "f16-min":
        parts = _with_minima(groups, wanted)
    else:
        parts = _symmetric(groups, wanted)
    codes = np.zeros((n, k), np.uint8)
    if wanted.signed:
        codes = codes.view(np.int8)
    empty = pack_tensor(name, wanted.name, codes=codes, **parts)
    return pack_tensor(name, wanted.name, codes=_nearest(groups, empty), **parts)


def _nearest(groups: F64, stored: Tensor) -> NDArray[Any]:
    """Codes [N, K] whose values under the scales of ``stored`` are nearest to ``groups``."""
    wanted = stored.format
    d = stored.group_scales().astype(np.float64)[..., None]
    m = stored.group_minima()
    x = (groups - (0 if m is None else m.astype(np.float64)[..., None])) / np.where(d == 0, 1, d)
    if wanted.table:
        order = np.argsort(wanted.table, kind="stable")
        table = np.array(wanted.table)[order]
        codes = order[np.searchsorted((table[1:] + table[:-1]) / 2, x)]
    else:
        low, high = wanted.code_range()
        codes = np.clip(np.rint(x), low, 1 if wanted.packed_bits or wanted.name == "tq2_0" else high) + wanted.offset
    return codes.reshape(stored.shape).astype(np.int8 if wanted.signed else np.uint8)


def _powers_of_two(groups: F64) -> dict[str, Any]:
    """The OCP rule: the largest magnitude's power of two less that of the largest FP4 value, 2^2."""
    amax = np.abs(groups).max(axis=-1)
    exponent = np.floor(np.log2(np.where(amax > 0, amax, 1.0))) - 2
    return {"scale_codes": np.clip(exponent + E8M0_BIAS - 1, 0, 254).astype(np.uint8)}


def _symmetric(groups: F64, wanted: Format) -> dict[str, Any]:
    """The value of largest magnitude takes the lowest code: d = value / low, of either sign."""
    low = wanted.code_range()[0]
    at = np.abs(groups).argmax(axis=-1)[..., None]
    scale = np.take_along_axis(groups, at, -1)[..., 0] / low
    level = wanted.two_level
    if level is None:
        return {"scales": _half(scale)}
    least, most = (-(1 << (level.scale_bits - 1)), (1 << (level.scale_bits - 1)) - 1)
    blocks = scale.reshape(len(scale), -1, level.block // wanted.group)
    d = _half(np.abs(blocks).max(axis=-1) / most)
    codes = np.clip(np.rint(blocks / _live(d)), least, most) + level.scale_offset
    return {"scales": d, "scale_codes": codes.reshape(scale.shape).astype(np.int8 if level.signed else np.uint8)}


def _with_minima(groups: F64, wanted: Format) -> dict[str, Any]:
    """The range, widened to hold 0 where minima are stored as what is subtracted, over all codes."""
    most = (1 << wanted.bits) - 1
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    level = wanted.two_level
    if level is None:
        return {"scales": _half((high - low) / most), "minima": _half(low)}
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    found: dict[str, Any] = {}
    for part, codes, values, bits in (
        ("scales", "scale_codes", (high - low) / most, level.scale_bits),
        ("minima", "minimum_codes", -low, level.minimum_bits),
    ):
        top = (1 << bits) - 1
        blocks = values.reshape(len(values), -1, level.block // wanted.group)
        found[part] = _half(blocks.max(axis=-1) / top)
        rounded = np.clip(np.rint(blocks / _live(found[part])), 0, top)
        found[codes] = rounded.reshape(values.shape).astype(np.uint8)
    return found


def _half(x: F64) -> NDArray[np.float16]:
    return to_f16(x.astype(np.float32), "a weight's scale")


def _live(d: NDArray[np.float16]) -> F64:
    return np.where(d == 0, 1, d).astype(np.float64)[..., None]
