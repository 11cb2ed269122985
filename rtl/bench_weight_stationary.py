"""Tiles of operands as stream beats of a weight-stationary array, and the span of what it did."""

from collections.abc import Mapping, Sequence
from typing import Any

from mixflight.rtl.bench_systolic_array import output_names, packer
from mixflight.rtl.harness import Job, Result

STATIONARY_INPUTS = ("wgt", "act", "params")


def stationary_job(array, tiles: Sequence[Any], *, tokens: int, stall: Mapping[str, float] | None = None,
                   seed: int = 0) -> Job:
    """The job that sends ``tiles`` of ``tokens`` tokens each back to back.

    Each tile has ``wgt``, ``act`` and ``params``, a sequence of beats each with the payload's fields as attributes.
    ``stall`` has a probability for each of these and for ``out`` (every lane).
    """
    pack = {name: packer(getattr(array, name).payload.shape()) for name in STATIONARY_INPUTS}
    beats = {name: [pack[name](beat._asdict()) for tile in tiles for beat in getattr(tile, name)]
             for name in STATIONARY_INPUTS}
    outputs = output_names(array)
    wanted = dict(stall or {})
    probabilities = {name: wanted[name] for name in STATIONARY_INPUTS if name in wanted}
    probabilities |= {name: wanted["out"] for name in outputs if "out" in wanted}
    each = len(tiles) * tokens * array.cols // array.lanes
    return Job(beats=beats, counts=dict.fromkeys(outputs, each), stall=probabilities, seed=seed)


def stationary_span(array, result: Result) -> int:
    """Cycles from the first beat of weights taken to the last output taken, both included."""
    return result.span("wgt", output_names(array))
