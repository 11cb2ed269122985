"""What the engine says of a machine: a quick look at one decode step for the search, a whole scenario for the check."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from mixflight.advising.footprint import RESOURCES, Footprint, footprint
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.machines import check_rows
from mixflight.sim.core.scenario import Cores
from mixflight.sim.core.simulate import is_plain, phase_of, simulate_cores
from mixflight.sim.simulate import Phase
from mixflight.sweeping.comparison import Comparison
from mixflight.sweeping.quantities import ESTIMATED, phase_quantities
from mixflight.sweeping.space import Lengths
from mixflight.workload import Workload
from mixflight.workloads.recipe import Recipe
from mixflight.workloads.trace import decode_traces, prefill_trace

QUANTITIES = (*ESTIMATED, *RESOURCES)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A machine in a scenario, with its quantities, its blocks, and the phases that they come from."""

    scenario: "Scenario"
    machine: CoreMachine
    values: dict[str, float]
    footprint: Footprint
    prefill: Phase
    decode: Phase


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What runs on every machine of a walk."""

    workload: Workload
    lengths: Lengths

    @functools.cached_property
    def plain(self) -> bool:
        """Whether one step in the middle can be run by itself: a plain decode of one sequence."""
        lengths, workload = self.lengths, self.workload
        first = prefill_trace(workload.model, workload.recipe, lengths.prefill, lengths.batch, lengths.decode)
        traces = decode_traces(workload.model, workload.recipe, lengths.prefill, lengths.decode, lengths.batch)
        return lengths.batch == 1 and is_plain(first, list(traces), lengths.prefill)

    def with_recipe(self, recipe: Recipe) -> "Scenario":
        """The same under another recipe."""
        return Scenario(workload=msgspec.structs.replace(self.workload, recipe=recipe), lengths=self.lengths)

    def quick(self, machine: CoreMachine) -> Look:
        """The prefill and the decode step in the middle of the decode, which stands for all of them; of decodes that
        are not plain, and of batches, the first step."""
        lengths, workload = self.lengths, self.workload
        if not self.plain:
            return self.whole(machine, decode=1)
        cores = Cores(
            machine, workload.model, workload.recipe, max_context=lengths.prefill + lengths.decode, batch=lengths.batch
        )
        first = phase_of(machine, cores.prefill(lengths.prefill, lengths.decode), lengths.batch * lengths.prefill, 0)
        step = phase_of(machine, cores.step(lengths.prefill + (lengths.decode + 1) // 2), lengths.batch, 0)
        return self._look(machine, first, step)

    def whole(self, machine: CoreMachine, decode: int | None = None) -> Look:
        """All steps, or the first ``decode``, as ``mixflight simulate`` runs them."""
        lengths, workload = self.lengths, self.workload
        check_rows(machine, lengths.batch, workload.recipe)
        found = simulate_cores(
            machine, workload.model, workload.recipe, workload.recipe.name, lengths.prefill,
            decode or lengths.decode, lengths.batch,
        )  # fmt: skip
        return self._look(machine, found.prefill, found.decode)

    def _look(self, machine: CoreMachine, prefill: Phase, decode: Phase) -> Look:
        blocks = footprint(machine)
        values = phase_quantities(prefill, decode) | {name: float(getattr(blocks, name)) for name in RESOURCES}
        # A step stands for a decode of its length.
        values["decode_time_ms"] = values["decode_time_ms"] * self.lengths.decode * self.lengths.batch / decode.tokens
        return Look(scenario=self, machine=machine, values=values, footprint=blocks, prefill=prefill, decode=decode)


class Goals(msgspec.Struct, frozen=True, kw_only=True):
    """What the design must do, and what it must not exceed."""

    targets: tuple[Comparison, ...]
    limits: tuple[Comparison, ...]

    @staticmethod
    def parse(targets: list[str], limits: list[str]) -> "Goals":
        """Comparisons of quantities; one whose sides can be equal only, or an unknown name, is an InputError."""
        found = Goals(
            targets=tuple(Comparison.parse(text) for text in targets),
            limits=tuple(Comparison.parse(text) for text in limits),
        )
        for item in (*found.targets, *found.limits):
            unknown = sorted(item.symbols() - set(QUANTITIES))
            if unknown:
                known = ", ".join(QUANTITIES)
                raise InputError(f"a quantity must be one of {known}, not {unknown[0]!r}, in {item.text!r}")
            if item.sign == "==" or not item.symbols():
                raise InputError(f"a goal must bound a quantity with <=, >=, < or >, not be {item.text!r}")
        return found

    @property
    def all(self) -> tuple[Comparison, ...]:
        """Targets, then limits."""
        return *self.targets, *self.limits

    def shortfall(self, values: Mapping[str, float]) -> float:
        """How far all goals together are missed: the sum of their relative gaps, 0 where all hold."""
        return sum(gap(item, values) for item in self.all)

    def missed(self, values: Mapping[str, float]) -> list[Comparison]:
        """The goals that do not hold, the most missed first."""
        return sorted((item for item in self.all if not item.holds(values)), key=lambda item: -gap(item, values))

    @property
    def quantity(self) -> str:
        """The quantity whose growth is the gain of a step: the first one of the first target."""
        return min(self.targets[0].symbols(), key=self.targets[0].text.index)


def gap(item: Comparison, values: Mapping[str, float]) -> float:
    """Relative distance to where ``item`` holds, 0 where it does."""
    if item.holds(values):
        return 0.0
    left, right = float(item.left.value(values)), float(item.right.value(values))
    return max(abs(left - right) / max(abs(left), abs(right), 1e-300), 1e-12)
