"""What each layer of one pass takes: time, how busy each unit is, and energy by component.

layer_costs   a pass on an array, layer by layer
"""

from collections import defaultdict

import msgspec

from mixflight.arch.accelerator import Accelerator
from mixflight.arch.prices import machine_prices
from mixflight.sim.activity import Activity
from mixflight.sim.cost import Energy, energy_by_component
from mixflight.sim.engine import Timed
from mixflight.sim.simulate import Engine, with_leakage
from mixflight.workloads.trace import Trace

OUTSIDE = -1
"""The layer of operators outside the blocks: embedding, last norm, LM head."""


class LayerCost(msgspec.Struct, frozen=True, kw_only=True):
    """One layer, or all operators ``OUTSIDE`` the layers. Units work at the same time, so that ``busy_us`` may add up
    to more than ``time_us``."""

    layer: int
    time_us: float
    busy_us: dict[str, float]
    components: dict[str, Energy]


def layer_costs(accelerator: Accelerator, trace: Trace) -> tuple[LayerCost, ...]:
    """The layers of ``trace`` in order, what is outside them last; together they are the whole pass."""
    engine = Engine(accelerator)
    found: dict[int, list[tuple[Timed, float]]] = defaultdict(list)
    for operator in trace.operators:
        for layer in operator.layers:
            found[max(layer, OUTSIDE)].append((engine.time(operator), operator.probability))
    return tuple(_cost(layer, found[layer], accelerator) for layer in sorted(found, key=lambda item: (item < 0, item)))


def _cost(layer: int, parts: list[tuple[Timed, float]], accelerator: Accelerator) -> LayerCost:
    prices = machine_prices(accelerator.technology, accelerator.memories)
    activity = Activity.total([timed.activity.scaled(times) for timed, times in parts])
    microseconds = 1 / accelerator.clock_mhz
    return LayerCost(
        layer=layer, time_us=activity.cycles * microseconds,
        busy_us={
            unit: microseconds * sum(times * float(getattr(timed, f"{unit}_cycles")) for timed, times in parts)
            for unit in ("array", "dram", "sfu")
        },
        components=energy_by_component(with_leakage(activity, accelerator, prices), prices),
    )  # fmt: skip
