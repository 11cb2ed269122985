"""The machines of the corrected comparison: PEs and lanes in equal area.

Rule: 32 rows everywhere. The INT8 machine has 32 columns; every other one has the whole number nearest to the columns
of exactly the same area. An array is PEs; dequantisation lanes, one for 128 PEs so that they keep up with groups of
128, with an FP32 accumulator for each output; and where activations are FP16 a shifter a row that aligns them. Areas
are of our own RTL in osu018 cells, mapped and not placed. Lanes count as R C / 128 whatever divides the columns; the
engine, whose lanes must divide them, gets the next number that does and so never waits for lanes. Not counted, and
the same for all: buffers, control, vector unit, and the second set of weight inputs of rows that split (1.6 % of the
LUTs of an 8x8 array).
"""

import functools

import msgspec

from mixflight.arch.accelerator import Accelerator, array_named
from mixflight.arch.cell_counts import CellCounts, cell_counts_named
from mixflight.arch.errors import InputError
from mixflight.arch.formats import Format
from mixflight.arch.pe import PeKind
from mixflight.sim.mixpe_corrected.hardware import hardware
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import Formats

ROWS = 32
GROUP = 128
SPLIT = 8
"""Blocks into which rows may split, so that one token can use the memory's bandwidth; the same for all."""

REFERENCE = "int8"
_REFERENCE_COLS = 32


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into an array.

    ``kind``      the PE for the engine; ``cells`` its row in ``arch/synthesis/osu018.toml``, whose ``operands`` give
                  the energy: ``real-codes`` is an INT8 PE on the model's own 4-bit codes
    ``lane``      of ``hardware.toml``; ``accumulators``: outputs have FP32 accumulators there
    ``recipe``    the 4-bit model as this machine runs it
    ``luts``      rows of ``arch/synthesis/counts.toml`` with DSPs and without; None where there is none
    """

    name: str
    summary: str
    kind: PeKind
    cells: str
    lane: str
    recipe: str
    operands: str = "real"
    accumulators: bool = True
    aligned: bool = False
    luts: tuple[str, str] | None = None


CANDIDATES = (
    Candidate(name="int8", summary="INT8 multiplier, 4-bit codes widened on chip", kind="multiply-8x8", cells="int8-pe",
              lane="w4a8", recipe="w4a8g128", operands="real-codes", luts=("int8-pe", "int8-pe-lut")),
    Candidate(name="mixpe-w4a8", summary="shift-add of plain codes", kind="shift-add-4x8",
              cells="mixpe-w4a8-pe-two-pass", lane="w4a8", recipe="w4a8g128", luts=("mixpe-w4a8-pe", "mixpe-w4a8-pe")),
    Candidate(name="mixpe-w4a8-centred", summary="shift-add of centred codes", kind="centred-4x8",
              cells="mixpe-w4a8-centred-pe-two-pass", lane="w4a8", recipe="w4a8g128",
              luts=("mixpe-w4a8-centred-pe", "mixpe-w4a8-centred-pe")),
    Candidate(name="mul4x8", summary="plain 4x8 multiplier, the right-sized baseline", kind="multiply-4x8",
              cells="mul4x8-pe-two-pass", lane="w4a8", recipe="w4a8g128", luts=("mul4x8-pe", "mul4x8-pe-lut")),
    Candidate(name="int8-dequantise", summary="INT8 PE that dequantises every weight itself; sums over all of K",
              kind="multiply-8x8", cells="dequantise-pe-32", lane="w4a8", recipe="w4a8-in-pe", accumulators=False),
    Candidate(name="mixpe-w4a16", summary="shift-add of FP16 activations aligned to their group",
              kind="shift-add-4x16-aligned", cells="mixpe-w4a16-aligned-pe", lane="w4a16", recipe="w4a16g128",
              aligned=True, luts=("mixpe-w4a16-aligned-pe", "mixpe-w4a16-aligned-pe")),
    Candidate(name="fp16", summary="FP16 multiplier, FP32 sum, 4-bit codes widened on chip", kind="fp16-mac",
              cells="fp16-pe", lane="w4a8", recipe="w4a16g128", luts=("fp16-pe", "fp16-pe-lut")),
)  # fmt: skip


class InPeFormats(msgspec.Struct, frozen=True, kw_only=True):
    """``w4a8g128`` with weights of two levels: an 8-bit integer scale and a 4-bit zero a group, an FP16 scale a row,
    so that the PE makes INT8 weights of them and sums over the whole row."""

    base: Formats

    def weight_format(self, operator: str) -> Format:
        """Stored so; the row is one group for the lanes."""
        if operator == "head":
            return self.base.weight_format(operator)
        return Format(name="uint4-two-level", bits=4, scale="f16", packed_bits=4 * GROUP + 12, packed_codes=GROUP)

    def act_format(self, operator: str) -> Format:
        """As ``w4a8g128``."""
        return self.base.act_format(operator)

    def kv_formats(self) -> tuple[Format, Format]:
        """As ``w4a8g128``."""
        return self.base.kv_formats()


def formats_of(candidate: Candidate) -> Formats:
    """The formats of the 4-bit model on this machine."""
    if candidate.recipe == "w4a8-in-pe":
        return InPeFormats(base=recipe_named("w4a8g128"))
    return recipe_named(candidate.recipe)


class Sized(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate in its area.

    ``exact_cols``   real-valued columns of the very area of the INT8 array
    ``residual``     area over that of the INT8 array, less one
    """

    candidate: Candidate
    cols: int
    exact_cols: float
    area_um2: float
    residual: float

    def accelerator(self, split: int = SPLIT) -> Accelerator:
        """The machine for the engine; everything but the array is that of the preset ``int8``."""
        base = array_named(REFERENCE)
        array = msgspec.structs.replace(
            base.array, pe=self.candidate.kind, rows=ROWS, cols=self.cols, lanes=lanes_for(self.cols), split=split
        )
        return msgspec.structs.replace(base, name=self.candidate.name, summary=self.candidate.summary, array=array)


def lanes_for(cols: int) -> int:
    """Fewest lanes that divide ``cols`` and keep up with groups of 128."""
    return next(lanes for lanes in range(1, cols + 1) if cols % lanes == 0 and lanes * GROUP >= ROWS * cols)


def cells_of(candidate: Candidate) -> CellCounts:
    """The PE's row."""
    return cell_counts_named(candidate.cells)


def lane_of(candidate: Candidate) -> tuple[float, float]:
    """(Area in um2, pJ a group sum) of one lane for 128 PEs."""
    return hardware().lane(candidate.lane, GROUP if candidate.accumulators else 1)


def column_area(candidate: Candidate) -> float:
    """um2 of a column: 32 PEs and their share of lanes."""
    return ROWS * (cells_of(candidate).area_um2 + lane_of(candidate)[0] / GROUP)


def fixed_area(candidate: Candidate) -> float:
    """um2 of what an array has once a row."""
    return ROWS * cell_counts_named("fp16-align").area_um2 if candidate.aligned else 0.0


def candidate_named(name: str) -> Candidate:
    """The candidate ``name``."""
    for candidate in CANDIDATES:
        if candidate.name == name:
            return candidate
    raise InputError(f"machine must be one of {', '.join(item.name for item in CANDIDATES)}, not {name!r}")


@functools.cache
def sized(name: str) -> Sized:
    """The candidate ``name`` in the area of the INT8 array."""
    reference, candidate = candidate_named(REFERENCE), candidate_named(name)
    budget = fixed_area(reference) + _REFERENCE_COLS * column_area(reference)
    exact = (budget - fixed_area(candidate)) / column_area(candidate)
    cols = round(exact)
    area = fixed_area(candidate) + cols * column_area(candidate)
    return Sized(candidate=candidate, cols=cols, exact_cols=exact, area_um2=area, residual=area / budget - 1)
