"""Coverage of a core by programs: functional bins, fields of instructions, classes side by side.

    ProgramCoverage   takes programs one by one; ``functional`` and ``fields`` say what was reached
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.compact import INSTRUCTION_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.isa import CLASSES
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_coverage.executed import executed
from mixflight.sim.core_coverage.features import control_samples, hazards, samples
from mixflight.sim.core_coverage.fields import FieldCounter
from mixflight.sim.core_coverage.model import Bins, Counter, Exclusion, functional_model
from mixflight.sim.core_coverage.overlap import overlaps
from mixflight.sim.core_values.random_program import RandomProgram
from mixflight.sim.core_values.state import shape_of


class ProgramCoverage:
    """What programs of a core of ``machine``, which carries out ``classes``, have exercised."""

    def __init__(self, machine: CoreMachine, classes: Sequence[str] = CLASSES) -> None:
        self._machine, self._shape = machine, shape_of(machine)
        self._units = Units(machine)
        self._counter = Counter(functional_model(), _machine_exclusions(machine, classes))
        self._fields = FieldCounter(machine, classes)

    def add(self, made: RandomProgram) -> None:
        """Count a program."""
        steps = list(executed(made.text, made.registers, made.words.tolist()))
        self._fields.add(steps)
        self._counter.add(control_samples(steps))
        self._counter.add(samples(made.instructions, self._machine, len(made.hbm[0])))
        self._counter.add(hazards(made.instructions, self._shape))
        self._counter.add(overlaps(self._times(made)))

    def functional(self) -> list[Bins]:
        """Of every point and cross of the model."""
        return self._counter.bins()

    def fields(self) -> list[Bins]:
        """Of every field of every class."""
        return self._fields.bins()

    def _times(self, made: RandomProgram) -> dict[str, NDArray[np.float64]]:
        """The engine's begins and ends of every instruction that does something, by class."""
        machine, count = self._machine, len(made.text)
        sequencer = Sequencer(made.text, np.zeros(count, np.int64), made.words, slot_bytes(machine),
                              machine.hbm.channels_per_core)  # fmt: skip
        streams = compile_streams(self._units, [sequencer.expand(made.registers, repeat=False)], [0])
        run = execute(self._units, streams, text_bytes=INSTRUCTION_BYTES * count, repeat=False, with_slices=True)
        rows, found = run.slices[0], dict[str, NDArray[np.float64]]()
        for index, kind in enumerate(CLASSES):
            works = [not item.empty for item in made.instructions if item.kind == kind]
            found[kind] = rows[rows[:, 0] == index][works][:, [2, 4]]
        return found


def _machine_exclusions(machine: CoreMachine, classes: Sequence[str]) -> dict[str, list[Exclusion]]:
    """What a machine cannot do that the model asks for."""
    found: dict[str, list[Exclusion]] = {"product": [], "transfer": [], "token": [], "overlap": [], "hazard": []}
    if "MM" not in classes:
        reason, groups = "the core carries out no MM", {group.name: group for group in functional_model().group}
        found["product"].append(Exclusion(where={"queue": ["MM"]}, reason=reason))
        found["token"].append(Exclusion(where={"class": ["MM"]}, reason=reason))
        for name, point in (("overlap", "pair"), ("hazard", "meeting")):
            names = [item for item in groups[name].points[point] if "MM" in item]
            found[name].append(Exclusion(where={point: names}, reason=reason))
    if absent := [f"{keep} of 16" for keep in (2, 4, 8) if keep not in machine.kept]:
        found["product"].append(Exclusion(where={"keep": absent}, reason="the machine keeps no such part of weights"))
    if not machine.kept:
        reason = "the machine's products are of dense weights"
        found["transfer"].append(Exclusion(where={"buffer": ["index"]}, reason=reason))
        [points] = [group.points for group in functional_model().group if group.name == "hazard"]
        names = [item for item in points["meeting"] if item.endswith("index")]
        found["hazard"].append(Exclusion(where={"meeting": names}, reason=reason))
    channels = machine.hbm.channels_per_core
    found["transfer"].append(Exclusion(where={"channel": [str(number) for number in range(channels, 8)]},
                                       reason=f"the core has {channels} channels"))  # fmt: skip
    return found


def share(bins: Iterable[Bins]) -> float:
    """Reached bins over those that can be reached."""
    held = list(bins)
    return sum(item.covered for item in held) / sum(item.reachable for item in held)
