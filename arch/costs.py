"""Prices of machines, electricity and time: what a token costs, with its band.

A bought machine costs ``usd / (lifetime utilisation)`` a second that it works, and its electricity; a rented one its
price an hour, electricity included:

    bought   $/token = (usd / (years 365.25 86400 utilisation) + watts usd_per_kwh / 3.6e6) / (tokens/s)
    rented   $/token = usd_per_hour / 3600 / (tokens/s)

The band takes every number at its cheapest or dearest at once. Hosts, cooling and staff are not in it.
"""

import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

SECONDS_A_YEAR = 365.25 * 86400
JOULES_A_KWH = 3.6e6
Pick = Literal["value", "low", "high"]


class Amount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number with its band, its source and the source's date."""

    value: float
    low: float
    high: float
    source: str
    date: str

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high:
            raise ValueError(f"0 < low <= value <= high must hold, not {self.low}, {self.value}, {self.high}")
        if not self.source:
            raise ValueError("every amount must have a source")


class MachinePrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine costs to buy, or an hour of it."""

    usd: Amount | None = None
    usd_per_hour: Amount | None = None

    def __post_init__(self) -> None:
        if (self.usd is None) == (self.usd_per_hour is None):
            raise ValueError("a machine must have one of usd and usd_per_hour")

    @property
    def amount(self) -> Amount:
        """The one that is given."""
        found = self.usd or self.usd_per_hour
        assert found is not None
        return found


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of machines by name, and what all bought ones share."""

    electricity_usd_per_kwh: Amount
    lifetime_years: Amount
    utilisation: Amount
    machine: dict[str, MachinePrice]

    def __post_init__(self) -> None:
        if self.utilisation.high > 1:
            raise ValueError(f"utilisation must be at most 1, not {self.utilisation.high}")

    def price_of(self, machine: str) -> MachinePrice:
        """The price of ``machine``; none is an error."""
        if machine not in self.machine:
            known = ", ".join(self.machine)
            raise InputError(f"every machine must have a price: {machine} has none, only {known} do")
        return self.machine[machine]

    def usd_per_token(self, machine: str, tokens_per_s: float, watts: float, pick: Pick = "value") -> float:
        """Cost of a token; ``pick`` takes every amount at its value, its cheapest or its dearest."""
        price = self.price_of(machine)
        if price.usd_per_hour is not None:
            return float(getattr(price.usd_per_hour, pick)) / 3600 / tokens_per_s
        cheap: Pick = {"value": "value", "low": "high", "high": "low"}[pick]  # type: ignore[assignment]
        life = getattr(self.lifetime_years, cheap) * SECONDS_A_YEAR * getattr(self.utilisation, cheap)
        energy = watts * getattr(self.electricity_usd_per_kwh, pick) / JOULES_A_KWH
        return float((getattr(price.amount, pick) / life + energy) / tokens_per_s)


@functools.cache
def costs_of(path: str | None = None) -> Costs:
    """The costs of this package, or those of a TOML file of the same shape."""
    file = Path(path) if path else Path(__file__).with_name("costs.toml")
    return convert(read_toml(file), Costs, file.name)
