"""DRAM standards as tables: one channel's organisation, address map and timing rows, each with its source."""

import functools
from pathlib import Path
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError
from mixflight.arch.strict_toml import convert, read_toml


class Timing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Least distances in memory clocks, under JEDEC's names; S between bank groups, L within one.

    ``nRTW`` is the gap between the last read data and the first write data.
    """

    nCL: int
    nCWL: int
    nRCDRD: int
    nRCDWR: int
    nRP: int
    nRAS: int
    nRC: int
    nRRDS: int
    nRRDL: int
    nFAW: int
    nCCDS: int
    nCCDL: int
    nWR: int
    nRTP: int
    nWTRS: int
    nWTRL: int
    nRTW: int
    nRFC: int
    nREFI: int

    def __post_init__(self) -> None:
        for row in self.__struct_fields__:
            if getattr(self, row) < 1:
                raise ValueError(f"{row} must be at least 1, not {getattr(self, row)}")


class MapField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some consecutive address bits and what they select."""

    field: Literal["column", "group", "bank", "row"]
    bits: int

    def __post_init__(self) -> None:
        if self.bits < 1:
            raise ValueError(f"bits must be at least 1, not {self.bits}")


class DramStandard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One kind of DRAM channel, and how many of them a device has.

    ``burst_length``   transfers of ``width_bits`` a column command moves
    ``command_clocks`` commands are issued at multiples of so many memory clocks: the controller's clock
    ``path_clocks``    memory clocks a request spends outside the DRAM: controller, switch and port, there and back
    ``window``         bursts the controller looks ahead to open and close rows
    ``map``            address bits above a burst's bytes, the lowest first
    ``sources``        where each value comes from, by its key; a timing row by its name
    """

    name: str
    summary: str
    rate_mb_s: int
    width_bits: int
    burst_length: int
    channels: int
    command_clocks: int
    shared_command_bus: bool
    path_clocks: int
    window: int
    map: tuple[MapField, ...]
    timing: Timing
    sources: dict[str, str]

    def __post_init__(self) -> None:
        for key in ("rate_mb_s", "width_bits", "burst_length", "channels", "command_clocks", "window"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, not {getattr(self, key)}")
        if self.path_clocks < 0:
            raise ValueError(f"path_clocks must be at least 0, not {self.path_clocks}")
        if not self.map or self.map[-1].field != "row" or self.bits("row") != self.map[-1].bits:
            raise ValueError("map must end with the row, and have no row bits elsewhere")
        for field in ("column", "bank"):
            if not self.bits(field):
                raise ValueError(f"map must have {field} bits")
        if self.banks > 32:
            raise ValueError(f"map must have at most 5 bits of banks and groups, not {self.banks} banks")
        self._check_sources()
        self._check_timing()

    def _check_sources(self) -> None:
        given = set(self.__struct_fields__) - {"name", "summary", "timing", "sources"}
        wanted = given | set(self.timing.__struct_fields__)
        if missing := wanted - set(self.sources):
            raise ValueError(f"sources must name every value, {sorted(missing)[0]} is missing")
        if unknown := set(self.sources) - wanted:
            raise ValueError(f"sources must be of values that exist, not {sorted(unknown)[0]!r}")

    def _check_timing(self) -> None:
        t = self.timing
        if t.nRC < t.nRAS + t.nRP:
            raise ValueError(f"nRC must be at least nRAS + nRP = {t.nRAS + t.nRP}, not {t.nRC}")
        turnaround = self.burst_clocks + max(t.nCL + t.nRTW, t.nCWL + t.nWTRL)
        settled = max(t.nFAW, t.nRC, t.nRRDL, t.nCCDL, turnaround)
        if t.nRFC < settled:
            raise ValueError(f"nRFC must be at least every other distance, {settled}, not {t.nRFC}")
        if t.nREFI <= t.nRFC + t.nRC:
            raise ValueError(f"nREFI must be more than nRFC + nRC = {t.nRFC + t.nRC}, not {t.nREFI}")

    def bits(self, field: str) -> int:
        """Address bits that select the ``field``."""
        return sum(part.bits for part in self.map if part.field == field)

    @property
    def clock_ns(self) -> float:
        """A memory clock: two transfers."""
        return 2000.0 / self.rate_mb_s

    @property
    def burst_clocks(self) -> int:
        """Memory clocks a burst's data takes on the bus."""
        return -(-self.burst_length // 2)

    @property
    def burst_bytes(self) -> int:
        """Bytes a column command moves."""
        return self.burst_length * self.width_bits // 8

    @property
    def banks(self) -> int:
        """Banks of a channel, of all groups."""
        return 1 << (self.bits("bank") + self.bits("group"))

    @property
    def channel_bytes(self) -> int:
        """Capacity of a channel."""
        return self.burst_bytes << sum(part.bits for part in self.map)

    @property
    def stripe_bytes(self) -> int:
        """Bytes below the row bits: a row of every bank."""
        return self.channel_bytes >> self.bits("row")

    @property
    def peak_gb_s(self) -> float:
        """GB/s (10^9) of one channel."""
        return self.rate_mb_s * self.width_bits / 8000.0

    def clocks(self, row: str) -> int:
        """The timing row on the controller's grid: what two commands that obey it are apart at least."""
        step = self.command_clocks
        return -(-int(getattr(self.timing, row)) // step) * step


@functools.cache
def dram_standards() -> dict[str, DramStandard]:
    """The standards of ``arch/dram``, by name."""
    paths = sorted((Path(__file__).parent / "dram").glob("*.toml"))
    return {path.stem: _standard(path) for path in paths}


def dram_standard_named(name: str) -> DramStandard:
    """The standard ``name``, or that of the TOML file ``name``."""
    if name in dram_standards():
        return dram_standards()[name]
    if name.endswith(".toml"):
        return _standard(Path(name))
    raise InputError(f"DRAM standard must be a .toml file or one of {', '.join(dram_standards())}, not {name!r}")


def _standard(path: Path) -> DramStandard:
    return convert({"name": path.stem, **read_toml(path)}, DramStandard, path.name)
