"""What each core computes: whole KV heads with their queries, and runs of columns of every other linear."""

import math

import msgspec

from mixflight.arch.compact import LINE_BYTES
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.mapping.core_network import Linear, Network
from mixflight.mapping.core_tiles import Tiling, column_step, tiling_of


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One core's part: (first, number) of KV heads, and of columns of the hidden width, the FFN and the vocabulary."""

    heads: tuple[int, int]
    hidden: tuple[int, int]
    ffn: tuple[int, int]
    vocab: tuple[int, int]


def split(total: int, parts: int, unit: int) -> list[tuple[int, int]]:
    """``total`` in ``parts`` runs (first, number) of whole units, as even as they go; the last one takes a cut unit."""
    units = -(-total // unit)
    whole, more = divmod(units, parts)
    found, first = [], 0
    for part in range(parts):
        number = min((whole + (part < more)) * unit, total - first)
        found.append((first, number))
        first += number
    return found


def shares_of(network: Network, machine: CoreMachine) -> list[Share]:
    """The shares of all cores: columns in steps of the engine; of the FFN also in groups in which the next linear's
    input is quantised, so that a core quantises what it has computed, and in lines of codes, which cores exchange."""
    step, cores = column_step(machine), machine.cores
    ffn_unit = math.lcm(step, network.layers[0]["down"].act.group or 1, LINE_BYTES if cores > 1 else 1)
    parts = zip(
        split(network.kv_heads, cores, 1), split(network.hidden, cores, step), split(network.ffn, cores, ffn_unit),
        split(network.head.n, cores, step), strict=True,
    )  # fmt: skip
    found = [Share(heads=heads, hidden=hidden, ffn=ffn, vocab=vocab) for heads, hidden, ffn, vocab in parts]
    if not (found[-1].hidden[1] and found[-1].ffn[1]):
        raise InputError(
            f"every core must have columns of each linear: {network.hidden} and {network.ffn} in steps of {step} and "
            f"{ffn_unit} are too few for {cores} cores of {machine.name}"
        )
    return found


def tilings(network: Network, machine: CoreMachine, share: Share, layer: dict[str, Linear]) -> dict[str, Tiling]:
    """The tilings of a core's part of one layer."""
    head = network.head_dim
    queries = head * network.queries
    first, number = share.heads
    ranges = {
        "k": (first * head, number * head, head), "v": (first * head, number * head, head),
        "q": (first * queries, number * queries, head), "o": (*share.hidden, 1), "down": (*share.hidden, 1),
        "gate": (*share.ffn, 1), "up": (*share.ffn, 1),
    }  # fmt: skip
    found = {}
    for name, linear in layer.items():
        at, columns, unit = ranges[name]
        if columns:
            found[name] = tiling_of(linear, at, columns, machine, unit)
    return found
