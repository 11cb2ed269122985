"""Coverage of a core by programs: functional bins, fields of instructions, classes side by side.

    ProgramCoverage   takes programs one by one; ``functional`` and ``fields`` say what was reached
"""

from collections.abc import Iterable, Mapping, Sequence

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
from mixflight.sim.core_coverage.meetings import meetings
from mixflight.sim.core_coverage.model import Bins, Counter, Exclusion, Group, functional_model
from mixflight.sim.core_coverage.overlap import overlaps
from mixflight.sim.core_values.order import received_by
from mixflight.sim.core_values.random_program import RandomProgram
from mixflight.sim.core_values.state import shape_of


class ProgramCoverage:
    """What programs of the cores of ``machine``, which carry out ``classes``, have exercised."""

    def __init__(self, machine: CoreMachine, classes: Sequence[str] = CLASSES) -> None:
        self._machine, self._shape = machine, shape_of(machine)
        self._units = Units(machine)
        self._counter = Counter(functional_model(), _machine_exclusions(machine, classes))
        self._fields = FieldCounter(machine, classes)

    def add(self, *made: RandomProgram) -> None:
        """Count a program, on several cores one of each."""
        times, programs = self._times(made), [item.instructions for item in made]
        for number, item in enumerate(made):
            steps = list(executed(item.text, item.registers, item.words.tolist()))
            self._fields.add(steps)
            self._counter.add(control_samples(steps))
            self._counter.add(samples(item.instructions, self._machine, len(item.hbm[0])))
            self._counter.add(hazards(item.instructions, self._shape, received_by(number, programs)))
            self._counter.add(overlaps(times[number]))
        if len(made) > 1:
            ends = [{kind: rows[:, 1] for kind, rows in mine.items()} for mine in times]
            self._counter.add(meetings(programs, ends, self._shape))

    def functional(self) -> list[Bins]:
        """Of every point and cross of the model."""
        return self._counter.bins()

    def fields(self) -> list[Bins]:
        """Of every field of every class."""
        return self._fields.bins()

    def _times(self, made: Sequence[RandomProgram]) -> list[dict[str, NDArray[np.float64]]]:
        """The engine's begins and ends of every instruction that does something, by core and class."""
        machine, pieces = self._machine, []
        for item in made:
            sequencer = Sequencer(item.text, np.zeros(len(item.text), np.int64), item.words, slot_bytes(machine),
                                  machine.hbm.channels_per_core)  # fmt: skip
            pieces.append(sequencer.expand(item.registers, repeat=False))
        streams = compile_streams(self._units, pieces, range(len(pieces)))
        size = INSTRUCTION_BYTES * max(len(item.text) for item in made)
        run = execute(self._units, streams, text_bytes=size, repeat=False, with_slices=True)
        found = []
        for item, rows in zip(made, run.slices, strict=True):
            mine = dict[str, NDArray[np.float64]]()
            for index, kind in enumerate(CLASSES):
                works = [not one.empty for one in item.instructions if one.kind == kind]
                mine[kind] = rows[rows[:, 0] == index][works][:, [2, 4]]
            found.append(mine)
        return found


def _machine_exclusions(machine: CoreMachine, classes: Sequence[str]) -> dict[str, list[Exclusion]]:
    """What a machine cannot do that the model asks for."""
    groups = {group.name: group for group in functional_model().group}
    found: dict[str, list[Exclusion]] = {name: [] for name in groups}
    if machine.cores == 1:
        _alone(groups, found)
    else:
        found["token"].append(Exclusion(where={"class": ["SYS"], "work": ["none"]}, reason="cores meet at all of them"))
    if "MM" not in classes:
        reason = "the core carries out no MM"
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


def _alone(groups: Mapping[str, Group], found: Mapping[str, list[Exclusion]]) -> None:
    """What no core has but one of several."""
    reason = "the core is the only one"
    found["token"].append(Exclusion(where={"class": ["SYS"], "work": ["some"]}, reason=reason))
    found["control"].append(Exclusion(where={"operation": ["exchange"]}, reason=reason))
    names = [item for item in groups["hazard"].points["meeting"] if "SYS" in item]
    found["hazard"].append(Exclusion(where={"meeting": names}, reason=reason))
    for name, bins in groups["exchange"].points.items():
        found["exchange"].append(Exclusion(where={name: bins}, reason=reason))


def share(bins: Iterable[Bins]) -> float:
    """Reached bins over those that can be reached."""
    held = list(bins)
    return sum(item.covered for item in held) / sum(item.reachable for item in held)
