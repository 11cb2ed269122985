"""In which cycles the streams of a job stall: reproducible, so that what a bench did can be computed without it."""

from collections.abc import Iterable, Mapping

import numpy as np

_BLOCK = 4096
_FIRST_OUTPUT = 1000
"""Outputs are numbered from here, so that a further input changes no output's pattern."""


class StallPattern:
    """A reproducible sequence of booleans that are true with a given probability."""

    def __init__(self, probability: float, seed: list[int]) -> None:
        self._probability = probability
        self._random = np.random.default_rng(seed)
        self._block: list[bool] = []

    def __call__(self) -> bool:
        """The next one."""
        if not self._probability:
            return False
        if not self._block:
            self._block = (self._random.random(_BLOCK) < self._probability).tolist()
        return self._block.pop()


def job_stalls(inputs: Iterable[str], outputs: Iterable[str], probability: Mapping[str, float],
               seed: int) -> dict[str, StallPattern]:
    """A pattern for each stream of a job, from the job's seed.

    The bench asks an input's before each cycle in which it could begin to offer a beat, an output's before every cycle.
    """
    numbered = [*enumerate(inputs), *enumerate(outputs, _FIRST_OUTPUT)]
    return {name: StallPattern(probability.get(name, 0.0), [seed, index]) for index, name in numbered}
