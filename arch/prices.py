"""What one action costs, per technology, each price with its sources and the band they span.

A table of ``arch/technology`` prices actions on the chip; ``arch/dram_energy.toml`` prices the bits of each DRAM
standard. ``machine_prices`` joins the two for one machine. An action without a price is an error, never a default, and
nothing is charged for time unless a source has a price a nanosecond (``leak_ns``, ``leak_kib_ns``, ``idle_ns``,
``ns``).
"""

import functools
from collections.abc import Mapping
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml

BASES = ("quoted", "derived", "assumed")


class Quote(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one source says: pJ an action, and its date (year, or year-month).

    ``basis``: quoted from the source, derived from it by the stated formula, or assumed.
    """

    value_pj: float
    basis: str
    source: str
    date: str

    def __post_init__(self) -> None:
        if self.value_pj < 0:
            raise ValueError(f"value_pj must be at least 0, not {self.value_pj}")
        if self.basis not in BASES:
            raise ValueError(f"basis must be one of {', '.join(BASES)}, not {self.basis!r}")
        if not self.source:
            raise ValueError("a price must have a source")
        if len(self.date) < 4 or not self.date[:4].isdigit():
            raise ValueError(f"date must begin with a year of four digits, not {self.date!r}")


class Price(Quote, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy in pJ of one ``action`` of one ``component``, and what ``others`` say: the spread is the band.

    The unit is pJ an action; actions ``*_bit`` are single bits, ``*_ns`` nanoseconds (so that 1 pJ is 1 mW),
    ``leak_kib_ns`` a nanosecond of a KiB.
    """

    component: str
    action: str
    others: tuple[Quote, ...] = ()

    @property
    def low_pj(self) -> float:
        """The least that any source says."""
        return min(item.value_pj for item in (self, *self.others))

    @property
    def high_pj(self) -> float:
        """The most that any source says."""
        return max(item.value_pj for item in (self, *self.others))


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of one technology, with those of ``base`` that it has none of its own for."""

    name: str
    summary: str
    price: tuple[Price, ...]
    base: str | None = None

    def __post_init__(self) -> None:
        seen = [(item.component, item.action) for item in self.price]
        for key in seen:
            if seen.count(key) > 1:
                raise ValueError(f"one price per component and action must be given, not two of {key[0]} {key[1]}")

    def of(self, component: str, action: str) -> Price:
        """The price of ``action`` on ``component``."""
        for item in self.price:
            if item.component == component and item.action == action:
                return item
        raise InputError(f"every action must have a price: {component} {action} has none in technology {self.name!r}")

    def has(self, component: str, action: str) -> bool:
        """Whether ``action`` on ``component`` has a price: what is charged for time alone needs none."""
        return any(item.component == component and item.action == action for item in self.price)

    def with_prices(self, changed: tuple[Price, ...]) -> "PriceTable":
        """This table, with ``changed`` in place of its own prices of the same actions."""
        keys = {(item.component, item.action) for item in changed}
        kept = tuple(item for item in self.price if (item.component, item.action) not in keys)
        return msgspec.structs.replace(self, price=(*kept, *changed))


def technologies() -> dict[str, Path]:
    """The files of the preset technologies, by name."""
    return {path.stem: path for path in sorted(Path(__file__).with_name("technology").glob("*.toml"))}


@functools.cache
def price_table(name: str) -> PriceTable:
    """The preset technology ``name``, or the price table of the TOML file ``name``; it has no price of DRAM."""
    known = technologies()
    path = known.get(name, Path(name))
    if name not in known and not name.endswith(".toml"):
        raise InputError(f"technology must be a .toml file or one of {', '.join(known)}, not {name!r}")
    table = convert({"name": path.stem, **read_toml(path)}, PriceTable, path.name)
    if table.base is None:
        return table
    if table.base not in known or table.base == name:
        raise InputError(f"base must be another of {', '.join(known)}, not {table.base!r}, in {path.name}")
    merged = price_table(table.base).with_prices(table.price)
    return msgspec.structs.replace(merged, name=table.name, summary=table.summary, base=table.base)


class _DramFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    standard: tuple[PriceTable, ...]


@functools.cache
def dram_energies() -> dict[str, PriceTable]:
    """Prices of ``read_bit`` and ``write_bit`` (and ``idle_ns`` where a source has it), by DRAM standard."""
    path = Path(__file__).with_name("dram_energy.toml")
    return {table.name: table for table in convert(read_toml(path), _DramFile, path.name).standard}


def dram_energy(standard: str) -> PriceTable:
    """Prices of one standard; a name of ``arch/dram`` stands for its family (``hbm2e-3200`` is HBM2E)."""
    family = standard.upper().split("-")[0]
    if family not in dram_energies():
        raise InputError(f"DRAM standard must be one of {', '.join(dram_energies())}, not {standard!r}")
    return dram_energies()[family]


@functools.cache
def _joined(technology: str, memories: tuple[tuple[str, str], ...]) -> PriceTable:
    table = price_table(technology)
    memory = tuple(
        msgspec.structs.replace(item, component=component)
        for component, standard in memories
        for item in dram_energy(standard).price
    )
    return msgspec.structs.replace(table, price=memory).with_prices(table.price)


def machine_prices(technology: str, memories: Mapping[str, str]) -> PriceTable:
    """Prices of ``technology`` and of its memories: component (``dram``, ``hbm``, ``ddr``) -> DRAM standard.

    A price of a memory's bit in the technology's own table goes before that of the standard.
    """
    return _joined(technology, tuple(sorted(memories.items())))
