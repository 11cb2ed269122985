"""Energy of a step on a core's RTL: the price table's at the engine's actions, and at what the RTL was seen to do.

Both by the same prices, so that they differ by activity alone: recorded bytes are whole beats and have the fetch of the
text, the first step's; weights, keys and values are written as they were loaded, to the end of a block. What goes by
time goes by the core's cycles in both. No price here knows an operand's value, or a unit's cycles.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from mixflight.arch.prices import machine_prices
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.activity import Activity
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.recorded import Seen, recorded_counts
from mixflight.sim.core_values.decode import MachineModel, Step
from mixflight.sim.cost import NONE, Energy, energy_by_component

Key = TypeVar("Key")
Number = TypeVar("Number", int, float)


class ComponentEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """J of a component: of recorded activity, with the band of its prices, and of the engine's actions."""

    recorded_j: float
    low_j: float
    high_j: float
    estimated_j: float


class RecordedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step as it was seen, by class of instruction or memory, and its energy by component; of all cores together.

    ``busy_cycles``  cycles in which a unit had an instruction, by the core's own counters; ``ended``: how many it ended
    ``executed``     instructions of the sequencer
    ``read_bytes``   of the ports of ``hbm`` and ``ddr``, and of that which fetches the ``text``; so ``written_bytes``
    ``products``     of the matrix engine; ``sfu_elements`` of the special-function unit, each vector once
    """

    busy_cycles: dict[str, int]
    ended: dict[str, int]
    executed: int
    read_bytes: dict[str, int]
    written_bytes: dict[str, int]
    products: int
    sfu_elements: int
    components: dict[str, ComponentEnergy]

    @property
    def energy_j(self) -> float:
        """Of all components."""
        return sum(item.recorded_j for item in self.components.values())

    @property
    def low_j(self) -> float:
        """With all prices at their lowest."""
        return sum(item.low_j for item in self.components.values())

    @property
    def high_j(self) -> float:
        """With all prices at their highest."""
        return sum(item.high_j for item in self.components.values())

    @property
    def estimated_j(self) -> float:
        """Of the engine's actions."""
        return sum(item.estimated_j for item in self.components.values())


class SeenCore(msgspec.Struct, frozen=True, kw_only=True):
    """A core in a step: its ``instructions`` in program order, how many of each class its units ``ended``, and what its
    own counters say: ``executed``, ``busy`` by class."""

    instructions: Sequence[Primitive]
    ended: Mapping[str, int]
    executed: int
    busy: Mapping[str, int]


def recorded_step(
    made: MachineModel, steps: Sequence[Step], cores: Sequence[SeenCore], counted: Mapping[str, Any]
) -> RecordedStep:  # fmt: skip
    """The ``steps`` of all ``cores`` as a run ``counted`` them (``rtl.core_harness``): cycles, bytes of the ports."""
    machine, cycles = made.machine, counted["cycles"]
    moved = [_by_memory(machine.cores, counted[name]) for name in ("read_bytes", "written_bytes")]
    found = [
        recorded_counts(machine, core.instructions, Seen(
            cycles=0 if number else cycles, executed=core.executed, ended=core.ended, read_bytes=read,
            written_bytes=written, text_bytes=read["text"]))  # what goes by time is the machine's, so it counts once
        for number, (core, read, written) in enumerate(zip(cores, *moved, strict=True))
    ]  # fmt: skip
    recorded = _priced(made, cycles, _sum(item.counts for item in found))
    estimated = _estimate(made, steps, cycles)
    components = {}
    for name in sorted(recorded | estimated):
        priced = recorded.get(name, NONE)
        components[name] = ComponentEnergy(
            recorded_j=priced.pj * 1e-12, low_j=priced.low_pj * 1e-12, high_j=priced.high_pj * 1e-12,
            estimated_j=estimated.get(name, NONE).pj * 1e-12,
        )  # fmt: skip
    return RecordedStep(
        busy_cycles=_sum(core.busy for core in cores), ended=_sum(core.ended for core in cores),
        executed=sum(core.executed for core in cores), read_bytes=_sum(moved[0]), written_bytes=_sum(moved[1]),
        products=sum(item.products for item in found), sfu_elements=sum(item.elements for item in found),
        components=components,
    )  # fmt: skip


def _sum(parts: Iterable[Mapping[Key, Number]]) -> dict[Key, Number]:
    """Numbers of the same name together."""
    found: dict[Key, Number] = {}
    for part in parts:
        for name, value in part.items():
            found[name] = found.get(name, 0) + value
    return found


def _by_memory(cores: int, ports: Sequence[int]) -> list[dict[str, int]]:
    """Bytes of each core's ports (``memories`` of ``rtl.core.Core`` and ``rtl.core_cluster.CoreCluster``): HBM's, core
    after core, then of each DDR's for LD and ST, and of each the text's."""
    channels = len(ports) // cores - 2
    ddr, text = (ports[cores * (channels + more) :] for more in (0, 1))
    return [{"hbm": sum(ports[core * channels : (core + 1) * channels]), "ddr": ddr[core], "text": text[core]}
            for core in range(cores)]  # fmt: skip


def _priced(made: MachineModel, cycles: int, counts: dict[tuple[str, str], float]) -> dict[str, Energy]:
    prices = machine_prices(made.machine.technology, made.machine.memories)
    return energy_by_component(Activity(float(cycles), counts), prices)


def _estimate(made: MachineModel, steps: Sequence[Step], cycles: int) -> dict[str, Energy]:
    """By the price table: what the engine counts in ``steps``, and what goes by time in ``cycles``."""
    pieces = [step.text.sequencer.expand(step.numbered, repeat=False) for step in steps]
    operators = max(len(step.text.text.names) for step in steps)
    counts = program_counts(made.machine, pieces, range(len(pieces)), operators, shared=True)
    whole = {key: float(values.sum()) for key, values in counts.items()} | counts_over_time(made.machine, cycles)
    return _priced(made, cycles, whole)
