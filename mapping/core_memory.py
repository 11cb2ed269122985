"""Where things lie: lines of the on-chip buffers, and the map of a core's memory channels."""

import msgspec

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_tiles import BURST_BYTES, ceil_div, round_up, scale_bits

REGION_BYTES = 4096
"""Regions of memory start at multiples of this."""
PARAMETER_SLOTS = 4
"""Parameters (norms, biases, scales of values) in flight at once."""


class Arena:
    """Hands out lines of one buffer; what does not fit is an InputError.

    Stages that never hold their data at the same time lie in the same place: between ``stages`` and ``together``,
    ``stage`` goes back to where the first one began.
    """

    def __init__(self, name: str, size_bytes: int) -> None:
        self.name, self.size_bytes, self.used = name, size_bytes, 0
        self._start, self._end = 0, 0

    def stages(self) -> None:
        """The first of several stages begins."""
        self._start = self._end = self.used

    def stage(self) -> None:
        """The next one begins, in the same place."""
        self._end = max(self._end, self.used)
        self.used = self._start

    def together(self) -> None:
        """What follows lies behind all of them."""
        self.used = max(self._end, self.used)

    def take(self, size_bytes: int, operator: str) -> int:
        """The first line of ``size_bytes`` more bytes, for ``operator``."""
        at = self.used
        self.used += round_up(size_bytes, LINE_BYTES)
        if self.used > self.size_bytes:
            raise InputError(
                f"the {self.name} buffer must hold {self.used:,} of {self.size_bytes:,} bytes, "
                f"{size_bytes:,} of them for operator {operator!r}"
            )
        return at // LINE_BYTES


class Cache(msgspec.Struct, frozen=True, kw_only=True):
    """The region of one KV head of one sequence and layer in every channel: keys, values, scales of both.

    Token t lies in channel t mod ``channels``, row t // ``channels``; ``rows`` rows are reserved.
    """

    channels: int
    rows: int
    key_bytes: int
    value_bytes: int
    scale_bytes: int

    @property
    def value_at(self) -> int:
        """First byte of the values."""
        return round_up(self.rows * self.key_bytes, LINE_BYTES)

    @property
    def scale_at(self) -> int:
        """First byte of the scales."""
        return self.value_at + round_up(self.rows * self.value_bytes, LINE_BYTES)

    @property
    def stride(self) -> int:
        """Bytes of a head in each channel."""
        return self.scale_at + round_up(self.rows * self.scale_bytes, LINE_BYTES)


def cache_of(network: Network, machine: CoreMachine, max_context: int) -> Cache:
    """The cache of contexts up to ``max_context``, whole blocks of 16 rows a channel."""
    head, channels = network.head_dim, machine.hbm.channels_per_core
    for name, item in (("keys", network.key), ("values", network.value)):
        if item.kind != "int" or item.bits * head % 8:
            raise InputError(f"cached {name} must be integers in whole bytes a head, not {item.name}")
    return Cache(
        channels=channels, rows=ceil_div(round_up(max_context, 16 * channels), channels),
        key_bytes=network.key.bits * head // 8, value_bytes=network.value.bits * head // 8,
        scale_bytes=ceil_div(scale_bits(network.key, head) + scale_bits(network.value, head), 8),
    )  # fmt: skip


class MemoryMap(msgspec.Struct, frozen=True, kw_only=True):
    """First byte and size of every region in each channel of a core; ``embedding_bytes`` are in DDR."""

    weights: tuple[int, int]
    scales: tuple[int, int]
    indices: tuple[int, int]
    parameters: tuple[int, int]
    cache: tuple[int, int]
    results: tuple[int, int]
    embedding_bytes: int


def map_memory(
    sizes: dict[str, int], embedding_bytes: int, machine: CoreMachine, model: str
) -> MemoryMap:  # fmt: skip
    """Regions one after the other; a model that does not fit is an InputError."""
    at, found = 0, {}
    for name in ("weights", "scales", "indices", "parameters", "cache", "results"):
        size = round_up(sizes[name], REGION_BYTES)
        found[name] = (at, size)
        at += size
    room = machine.hbm.capacity_bytes // machine.hbm.channels
    if at > room:
        raise InputError(
            f"{model} must fit the memory of {machine.name}: {at:,} of {room:,} bytes in each of the "
            f"{machine.hbm.channels_per_core} channels of a core"
        )
    if embedding_bytes > machine.ddr.capacity_bytes:
        raise InputError(
            f"the embedding of {model} must fit the DDR of {machine.name}: {embedding_bytes:,} of "
            f"{machine.ddr.capacity_bytes:,} bytes"
        )
    return MemoryMap(embedding_bytes=embedding_bytes, **found)


def channel_share(size_bytes: int, channels: int) -> int:
    """Bytes of each channel that hold ``size_bytes``."""
    return round_up(ceil_div(size_bytes, channels), BURST_BYTES)
