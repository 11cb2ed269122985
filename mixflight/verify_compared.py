"""What runs of a model on RTL are compared in, as it grows: bytes, and cycles beside the engine's."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixflight.verify_outcome import StreamOutcome

MESSAGES = 20


class Compared:
    """What was compared so far. ``found`` has a line for each thing that was wrong; ``tolerance``: of cycles, as a
    fraction of the RTL's."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.begun = tolerance, time.perf_counter()
        self.found: list[str] = []
        self.runs = self.values = self.cycles_rtl = self.cycles_sim = 0

    def ran(self, name: str, cycles: int, computed: int | None) -> None:
        """A run that took ``cycles``; ``computed``: by the engine, None of a run with stalls."""
        self.runs += 1
        if computed is None:
            return
        self.cycles_rtl, self.cycles_sim = self.cycles_rtl + cycles, self.cycles_sim + computed
        if abs(computed / cycles - 1) > self.tolerance:
            self.found.append(f"{name}: {cycles} cycles, computed {computed}")

    def same(self, mine: NDArray[Any], golden: NDArray[Any], name: str) -> None:
        """Both to the bit."""
        one, other = (np.ascontiguousarray(item).reshape(-1).view(np.uint8) for item in (mine, golden))
        self.values += len(one)
        wrong = np.flatnonzero(one != other)
        if len(wrong):
            self.found.append(f"{name}: {len(wrong)} of {len(one)} bytes differ, the first at {int(wrong[0]):#x}")

    def outcome(self) -> StreamOutcome:
        """All of it, timed from when this was made."""
        return StreamOutcome(tests=self.runs, failures=len(self.found), messages=tuple(self.found[:MESSAGES]),
                             cycles_rtl=self.cycles_rtl, cycles_sim=self.cycles_sim, values=self.values,
                             run_s=time.perf_counter() - self.begun)  # fmt: skip
