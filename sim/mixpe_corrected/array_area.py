"""Area of any output-stationary array by the rule of the study in equal area: PEs, lanes with an accumulator for each
output, and where activations are FP16 a shifter a row. Counted in osu018 cells, mapped and not placed."""

import functools

from mixflight.arch.array import Array
from mixflight.arch.cell_counts import cell_counts_named
from mixflight.sim.mixpe_corrected.hardware import hardware
from mixflight.sim.mixpe_corrected.machines import CANDIDATES, REFERENCE, Candidate, sized

_KINDS: dict[str, Candidate] = {item.kind: item for item in reversed(CANDIDATES) if item.accumulators}


@functools.lru_cache(maxsize=65536)
def array_area(array: Array) -> float | None:
    """um2 of the array, or None where our RTL of its PE or dataflow has no count.

    A lane's area is on the line through its two recorded numbers of accumulators; the second set of weight inputs of
    rows that split is not counted, as in the study.
    """
    candidate = _KINDS.get(array.pe)
    if candidate is None or array.dataflow != "output-stationary":
        return None
    pes = array.rows * array.cols
    lane, _ = hardware().lane(candidate.lane, pes // array.lanes)
    aligners = array.rows * cell_counts_named("fp16-align").area_um2 if candidate.aligned else 0.0
    return pes * cell_counts_named(candidate.cells).area_um2 + array.lanes * lane + aligners


@functools.cache
def reference_area() -> float:
    """um2 of the INT8 array of the study: 32 x 32 PEs and a lane for 128 of them."""
    return sized(REFERENCE).area_um2
