"""Which classes of a program work at the same time, by the engine's times of every instruction."""

import itertools
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.isa import CLASSES
from mixflight.sim.core_coverage.model import Sample

_UNITS = tuple(kind for kind in CLASSES if kind != "SYS")


def overlaps(times: Mapping[str, NDArray[np.float64]]) -> Iterator[Sample]:
    """Of every pair of classes that work side by side; ``times`` [instructions, 2] of a class: begin and end."""
    for one, other in itertools.combinations(_UNITS, 2):
        a, b = times.get(one, np.zeros((0, 2))), times.get(other, np.zeros((0, 2)))
        if ((a[:, None, 0] < b[None, :, 1]) & (b[None, :, 0] < a[:, None, 1])).any():
            yield Sample("overlap", {"pair": f"{one} + {other}"})
