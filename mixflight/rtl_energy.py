"""Energy of a step on a core's RTL: the price table's at the engine's actions, and at what the RTL was seen to do.

Both by the same prices, so that they differ by activity alone: recorded bytes are whole beats and have the fetch of the
text, the first step's; weights, keys and values are written as they were loaded, to the end of a block. What goes by
time goes by the core's cycles in both. No price here knows an operand's value, or a unit's cycles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from mixflight.arch.prices import machine_prices
from mixflight.mapping.core_primitives import Primitive
from mixflight.sim.activity import Activity
from mixflight.sim.core.activity import program_counts
from mixflight.sim.core.over_time import counts_over_time
from mixflight.sim.core.recorded import Seen, recorded_counts
from mixflight.sim.core_values.decode import CoreModel, Step
from mixflight.sim.cost import NONE, Energy, energy_by_component


class ComponentEnergy(msgspec.Struct, frozen=True, kw_only=True):
    """J of a component: of recorded activity, with the band of its prices, and of the engine's actions."""

    recorded_j: float
    low_j: float
    high_j: float
    estimated_j: float


class RecordedStep(msgspec.Struct, frozen=True, kw_only=True):
    """A step as it was seen, by class of instruction or memory, and its energy by component.

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


def recorded_step(
    made: CoreModel, step: Step, instructions: Sequence[Primitive], counted: Mapping[str, Any], ended: Mapping[str, int]
) -> RecordedStep:
    """``step`` of ``instructions`` as a run ``counted`` it (``rtl.core_harness``), whose units ``ended`` so many."""
    channels = made.machine.hbm.channels_per_core
    read, written = (_by_memory(channels, counted[name]) for name in ("read_bytes", "written_bytes"))
    seen = Seen(cycles=counted["cycles"], executed=counted["executed"], ended=ended, read_bytes=read,
                written_bytes=written, text_bytes=read["text"])  # fmt: skip
    found = recorded_counts(made.machine, instructions, seen)
    recorded, estimated = _priced(made, seen.cycles, found.counts), _estimate(made, step, seen.cycles)
    components = {}
    for name in sorted(recorded | estimated):
        priced = recorded.get(name, NONE)
        components[name] = ComponentEnergy(
            recorded_j=priced.pj * 1e-12, low_j=priced.low_pj * 1e-12, high_j=priced.high_pj * 1e-12,
            estimated_j=estimated.get(name, NONE).pj * 1e-12,
        )  # fmt: skip
    return RecordedStep(
        busy_cycles=dict(counted["busy"]), ended=dict(ended), executed=seen.executed, read_bytes=read,
        written_bytes=written, products=found.products, sfu_elements=found.elements, components=components,
    )  # fmt: skip


def _by_memory(channels: int, ports: Sequence[int]) -> dict[str, int]:
    """Bytes of a core's ports (``rtl.core.Core.memories``): HBM's ``channels``, DDR's for LD and ST, the text's."""
    hbm, (ddr, text) = ports[:channels], ports[channels:]
    return {"hbm": sum(hbm), "ddr": ddr, "text": text}


def _priced(made: CoreModel, cycles: int, counts: dict[tuple[str, str], float]) -> dict[str, Energy]:
    prices = machine_prices(made.machine.technology, made.machine.memories)
    return energy_by_component(Activity(float(cycles), counts), prices)


def _estimate(made: CoreModel, step: Step, cycles: int) -> dict[str, Energy]:
    """By the price table: what the engine counts in ``step``, and what goes by time in ``cycles``."""
    pieces = step.text.sequencer.expand(step.numbered, repeat=False)
    counts = program_counts(made.machine, [pieces], [0], len(step.text.text.names), shared=True)
    whole = {key: float(values.sum()) for key, values in counts.items()} | counts_over_time(made.machine, cycles)
    return _priced(made, cycles, whole)
