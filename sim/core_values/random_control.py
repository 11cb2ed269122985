"""What the sequencer does for a random program: registers that operands need, loops, bodies that are skipped.

    Registers   their values as the text goes on, and instructions that set them
"""

from collections.abc import Mapping

import numpy as np

from mixflight.arch.compact import LOOP_DEPTH, REGISTERS, SLOTS, codes

_OPERATION = codes("SYS", "operation")
_WORDS = 64
_LIMITS = 1 << 24
"""ROTATE's limits are below this."""

Row = dict[str, int]


def control(operation: str, **fields: int) -> Row:
    """An instruction of the sequencer."""
    return {"operation": _OPERATION[operation], **fields}


class Registers:
    """Values of the registers where the text has come to; ``words`` is what FETCH has been asked for."""

    def __init__(self, rng: np.random.Generator, values: Mapping[int, int]) -> None:
        self._rng = rng
        self.values = [values.get(number, 0) for number in range(REGISTERS)]
        self.words = rng.integers(0, 1 << 32, _WORDS).tolist()

    def set_to(self, number: int, value: int) -> list[Row]:
        """What gives register ``number`` a value of 32 bits: SET of any sum, FETCH, or a turn of a ring."""
        way = int(self._rng.integers(3))
        found = self._fetch(number, value) if way == 0 else self._rotate(number, value) if way == 1 else []
        found = found or [self._sum(number, value)]
        self.values[number] = value
        return found

    def _sum(self, number: int, value: int) -> Row:
        source, other = (int(self._rng.integers(REGISTERS)) if self._rng.random() < 0.5 else 0 for _ in range(2))
        rest = value - self.values[source] - self.values[other]
        return control("set", destination=number, source=source, other=other, value=rest & 0xFFFFFFFF)

    def _fetch(self, number: int, value: int) -> list[Row]:
        place = len(self.words)
        self.words.append(value)
        small = [register for register, held in enumerate(self.values) if 0 < held <= place]
        source = int(self._rng.choice(small)) if small and self._rng.random() < 0.5 else 0
        return [control("fetch", destination=number, source=source, value=place - self.values[source])]

    def _rotate(self, number: int, value: int) -> list[Row]:
        """From what the register holds, on or round; nothing where no ring does it."""
        held = self.values[number]
        if max(held, value) >= _LIMITS - 1:
            return []
        if held <= value and self._rng.random() < 0.5:
            limit = _LIMITS - 1 if self._rng.random() < 0.5 else int(self._rng.integers(value + 1, _LIMITS))
            return [control("rotate", destination=number, value=value - held, limit=limit)]
        limit = int(self._rng.integers(max(held, value) + 1, _LIMITS))
        return [control("rotate", destination=number, value=value + limit - held, limit=limit)]

    def free(self, used: set[int]) -> int:
        """A register that can be written and is not among the ``used``."""
        return int(self._rng.choice([number for number in range(SLOTS, REGISTERS) if number not in used]))

    def loops_around(self, rows: list[tuple[str, Row]], iterations: int = 1) -> list[tuple[str, Row]]:
        """``rows``, none of them a LOOP, in loops, up to as deep as they go, of which the innermost has
        ``iterations``."""
        depth = int(self._rng.choice([1, 2, LOOP_DEPTH]))
        found = rows
        for level in range(depth):
            count = iterations if level == 0 else 1
            fitting = [number for number, held in enumerate(self.values) if 0 < held <= count]
            source = int(self._rng.choice(fitting)) if fitting and self._rng.random() < 0.5 else 0
            begin = control("loop", source=source, value=count - self.values[source], limit=len(found) + 1)
            found = [("SYS", begin), *found, ("SYS", control("end"))]
        return found

    def skipped(self, rows: list[tuple[str, Row]]) -> list[tuple[str, Row]]:
        """``rows`` behind a LOOP of no iterations."""
        return [("SYS", control("loop", limit=len(rows) + 1)), *rows, ("SYS", control("end"))]
