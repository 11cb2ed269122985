"""The programs that coverage is measured with: mixes of instructions by turns, windows at every edge.

    programs        of a core of a machine, by their number
    cores_programs  of all cores of a machine, which meet
"""

from collections.abc import Iterator, Sequence

from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASSES
from mixflight.sim.core_values.random_cores import ALIKE, random_cores
from mixflight.sim.core_values.random_maker import PLACES
from mixflight.sim.core_values.random_program import DECODE_FAMILIES, RandomProgram, random_program

MIXES: tuple[tuple[str, ...], ...] = (
    (*DECODE_FAMILIES, "matrix", "tiles", "lengths", "moves", "meeting", "loops", "successive"),
    (*["tiles"] * 6, "matrix", "transfer"),
    ("lengths", "lengths", "moves", "transfer", "whole", "matrix"),
    (*DECODE_FAMILIES, "matrix", "meeting"),
    (*["tiles"] * 4, "matrix", "loops", "lengths", "transfer", "vector"),
)  # fmt: skip
"""What the instructions of a program are drawn from, by turns."""
PROGRAMS, COUNT = 80, 100
"""How many programs, and instructions of each."""


def programs(
    machine: CoreMachine, classes: Sequence[str] = CLASSES, numbers: Sequence[int] = range(PROGRAMS)
) -> Iterator[RandomProgram]:  # fmt: skip
    """The programs of these ``numbers`` for a core that carries out ``classes``."""
    for number in numbers:
        yield random_program(machine, number, COUNT, _families(machine, classes, number), PLACES[number % len(PLACES)])


def cores_programs(
    machine: CoreMachine, classes: Sequence[str] = CLASSES, numbers: Sequence[int] = range(PROGRAMS)
) -> Iterator[tuple[RandomProgram, ...]]:  # fmt: skip
    """A program a core of ``machine``, that meet, of these ``numbers``; they share a DDR."""
    for number in numbers:
        families = [name for name in _families(machine, classes, number) if name not in ALIKE]
        yield random_cores(machine, number, COUNT, families, windows=PLACES[number % len(PLACES)])


def _families(machine: CoreMachine, classes: Sequence[str], number: int) -> list[str]:
    mix = MIXES[number % len(MIXES)]
    families = [name for name in mix if name != "matrix" or "MM" in classes]
    return families + (["sparse"] * 3 if machine.kept and "tiles" in mix else [])
