"""LUTs and registers of a systolic array of any shape: a closed form fitted to what synthesis found.

    LUT = a R C + b L + c R + d C + e R C log2(split) + f

with R rows, C columns, L lanes, and the same for registers. The coefficients are least squares over the shapes in
``arch/synthesis/array_shapes.toml`` (``python -m mixflight.rtl.record_array_shapes``: shift-add PEs, zero points of 4
bits, multipliers in LUTs); another PE adds what it takes beyond the shift-add one, each synthesised alone. The largest
relative error over all recorded shapes comes with every count. Mapped, not placed.
"""

import functools
import math
from pathlib import Path

import msgspec
import numpy as np

from mixflight.arch.array import Array
from mixflight.arch.errors import InputError
from mixflight.arch.pe import PeKind
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.arch.synthesis_counts import counts_named

SHAPES = Path(__file__).with_name("synthesis") / "array_shapes.toml"
UNITS = ("lut", "ff")

PE_ROWS: dict[PeKind, str] = {
    "shift-add-4x8": "mixpe-w4a8-pe", "centred-4x8": "mixpe-w4a8-centred-pe", "multiply-4x8": "mul4x8-pe-lut",
    "multiply-8x8": "int8-pe-lut", "shift-add-4x16-aligned": "mixpe-w4a16-aligned-pe",
    "shift-add-4x16-float": "mixpe-w4a16-pe", "fp16-mac": "fp16-pe-lut",
}  # fmt: skip
"""Kind of PE -> its row of ``arch/synthesis/counts.toml``."""


class ShapeCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one shape takes."""

    rows: int
    cols: int
    lanes: int
    split: int
    lut: int
    ff: int
    text_sha256: str
    yosys: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rows: list[ShapeCounts]


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """Coefficients of one unit, in the order of the formula, and the largest relative error over the shapes."""

    coefficients: tuple[float, ...]
    largest_error: float


class ArrayResources(msgspec.Struct, frozen=True, kw_only=True):
    """LUTs and registers of one array; ``lut_error`` and ``ff_error`` are those of the fits."""

    lut: int
    ff: int
    lut_error: float
    ff_error: float


@functools.cache
def shapes() -> tuple[ShapeCounts, ...]:
    """The recorded shapes."""
    file: _File = convert(read_toml(SHAPES), _File, SHAPES.name)
    return tuple(file.rows)


def _terms(rows: int, cols: int, lanes: int, split: int) -> list[float]:
    return [rows * cols, lanes, rows, cols, rows * cols * math.log2(split), 1.0]


@functools.cache
def fit(unit: str) -> Fit:
    """The fit of ``lut`` or ``ff``."""
    table = np.array([_terms(item.rows, item.cols, item.lanes, item.split) for item in shapes()])
    found = np.array([getattr(item, unit) for item in shapes()], np.float64)
    # Relative errors count: a shape's row is divided by its count.
    coefficients = np.linalg.lstsq(table / found[:, None], np.ones(len(found)), rcond=None)[0]
    error = float(np.abs(table @ coefficients / found - 1).max())
    return Fit(coefficients=tuple(coefficients.tolist()), largest_error=error)


def array_resources(array: Array) -> ArrayResources:
    """Resources of ``array``; one that is weight-stationary is an InputError: its shapes are not recorded."""
    if array.dataflow != "output-stationary":
        raise InputError(f"resources must be asked of an output-stationary array, not of one that is {array.dataflow}")
    own, first = counts_named(PE_ROWS[array.pe]), counts_named(PE_ROWS["shift-add-4x8"])
    terms, pes = _terms(array.rows, array.cols, array.lanes, array.split), array.rows * array.cols
    found = {
        unit: round(sum(a * b for a, b in zip(fit(unit).coefficients, terms, strict=True)))
        + pes * (getattr(own, unit) - getattr(first, unit))
        for unit in UNITS
    }
    return ArrayResources(
        lut=found["lut"], ff=found["ff"], lut_error=fit("lut").largest_error, ff_error=fit("ff").largest_error
    )
