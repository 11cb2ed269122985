"""Activity times prices: energy by component, each with its band and source."""

import msgspec

from mixflight.arch.prices import PriceTable
from mixflight.sim.activity import Activity


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Energy in pJ with the band that the prices' bands span."""

    pj: float
    low_pj: float
    high_pj: float

    def __add__(self, other: "Energy") -> "Energy":
        return Energy(
            pj=self.pj + other.pj, low_pj=self.low_pj + other.low_pj, high_pj=self.high_pj + other.high_pj
        )


LEAKS = ("leak_ns", "leak_kib_ns")
NONE = Energy(pj=0.0, low_pj=0.0, high_pj=0.0)


def energy_by_action(activity: Activity, prices: PriceTable) -> dict[tuple[str, str], Energy]:
    """Energy of each action that happened; one without a price is an InputError."""
    found = {}
    for (component, action), count in activity.counts.items():
        if count:
            price = prices.of(component, action)
            found[component, action] = Energy(
                pj=count * price.value_pj, low_pj=count * price.low_pj, high_pj=count * price.high_pj
            )
    return found


def energy_by_component(activity: Activity, prices: PriceTable) -> dict[str, Energy]:
    """The same, summed over the actions of a component; leakage stands as ``<component> leakage``."""
    found: dict[str, Energy] = {}
    for (component, action), energy in energy_by_action(activity, prices).items():
        name = f"{component} leakage" if action in LEAKS else component
        found[name] = found.get(name, NONE) + energy
    return found


def total_energy(activity: Activity, prices: PriceTable) -> Energy:
    """Energy of the whole activity."""
    return sum(energy_by_component(activity, prices).values(), NONE)
