"""What one action costs, per technology, each price with its source and its band."""

import functools
from pathlib import Path

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of one ``action`` of one ``component`` in pJ.

    ``low_pj`` and ``high_pj`` are the band that other sources or the stated derivation span; ``basis`` says whether the
    value is quoted from the source or derived from it by the stated formula.
    """

    component: str
    action: str
    value_pj: float
    low_pj: float
    high_pj: float
    basis: str
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.low_pj <= self.value_pj <= self.high_pj:
            raise ValueError(
                f"0 <= low_pj <= value_pj <= high_pj must hold, not {self.low_pj}, {self.value_pj}, {self.high_pj}"
            )
        if self.basis not in ("quoted", "derived"):
            raise ValueError(f"basis must be 'quoted' or 'derived', not {self.basis!r}")
        if not self.source:
            raise ValueError(f"the price of {self.component} {self.action} must have a source")


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The prices of one technology. An action without a price is an error, never a default."""

    name: str
    summary: str
    price: tuple[Price, ...]

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


@functools.cache
def price_table(name: str) -> PriceTable:
    """The preset technology ``name``, or the price table of the TOML file ``name``."""
    folder = Path(__file__).with_name("technology")
    known = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    path = known.get(name, Path(name))
    if name not in known and not name.endswith(".toml"):
        raise InputError(f"technology must be a .toml file or one of {', '.join(known)}, not {name!r}")
    return convert({"name": path.stem, **read_toml(path)}, PriceTable, path.name)
