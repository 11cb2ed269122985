"""One weight in another format, codes of tables included: what the design space quantises real tensors to.

in_format     a weight's values rounded to a format, as golden arithmetic multiplies them
noise_ratio   signal over quantisation noise of two weights, in dB
"""

import math

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.formats import Format
from mixflight.sim.evaluation.prepare import requantise
from mixflight.sim.golden.linear import GroupedWeight
from mixflight.sim.golden.quantise import to_f16

F64 = NDArray[np.float64]


def in_format(weight: GroupedWeight, wanted: Format, where: str) -> GroupedWeight:
    """``weight`` rounded to ``wanted`` without calibration; formats without a table as ``prepare.requantise``.

    A table's code is the nearest of its values. Its scale: the group's largest magnitude falls on the table's largest
    (of a table that is not symmetric, the value of largest magnitude falls on the table's, sign and all), in FP16; of
    MXFP4 the power of two that the OCP microscaling specification takes, ``2**(floor(log2 amax) - 2)``, halved, as the
    table is doubled. Values of a table that are no integers are rounded to FP16, which an FP16 PE multiplies exactly.
    """
    if wanted.name == "f16":
        exact = weight.values().astype(np.float16).astype(np.float32)
        return _grouped(exact, np.ones((weight.n, 1), np.float16), weight.k)
    if not wanted.table:
        return requantise(weight, wanted, where)
    group = wanted.group or weight.k
    values = weight.values().astype(np.float64).reshape(weight.n, wanted.groups(weight.k), group)
    stored = np.float16 if wanted.kind == "float" else np.float64
    table = np.array(wanted.table).astype(stored).astype(np.float64)
    scales = _table_scales(values, table, wanted)
    live = np.where(scales != 0, scales, 1).astype(np.float64)
    codes = _nearest(values / live[..., None], table).reshape(weight.n, weight.k)
    return _grouped(codes.astype(np.int8 if wanted.kind == "int" else np.float32), scales, group)


def _grouped(codes: NDArray[np.generic], scales: NDArray[np.float16], group: int) -> GroupedWeight:
    """Codes may be FP32 here: with FP16 activations their products are exact as those of integers are."""
    return GroupedWeight(codes=codes, d=scales, zero=None, group=group)  # type: ignore[arg-type]


def _table_scales(values: F64, table: F64, wanted: Format) -> NDArray[np.float16]:
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=2)[..., None], axis=2)[..., 0]
    if wanted.scale == "e8m0-half":
        _, exponents = np.frexp(np.abs(largest))  # amax = m * 2**exponent with m in [0.5, 1)
        powers = np.where(largest != 0, np.ldexp(1.0, exponents - 1 - 2 - 1), 0.0)
        return to_f16(powers.astype(np.float32), "a weight's scale")
    most = table[np.abs(table).argmax()]
    if (table == -most).any():
        largest = np.abs(largest) * np.sign(most)
    return to_f16((largest / most).astype(np.float32), "a weight's scale")


def _nearest(values: F64, table: F64) -> F64:
    """The nearest entry of ``table`` to each value; half-way ones go up."""
    levels = np.unique(table)
    found: F64 = levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values, side="right")]
    return found


def noise_ratio(before: list[GroupedWeight], after: list[GroupedWeight]) -> float | None:
    """10 log10 of the energy of all values over that of all differences; None where nothing changed."""
    signal = noise = 0.0
    for old, new in zip(before, after, strict=True):
        exact = old.values()
        signal += float(np.square(exact).sum())
        noise += float(np.square(new.values() - exact).sum())
    return 10 * math.log10(signal / noise) if noise else None
