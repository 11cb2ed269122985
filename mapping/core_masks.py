"""Block masks as constants of a prefill: what the sequencer fetches to leave out masked blocks of keys and values.

A row block of the matrix engine is one or two parts of ``unit`` rows (64 where the engine has as many); keys and values
come in blocks of ``unit`` tokens. In the order in which a program asks, for every row block and query head:

    for both parts, the first alone, the second alone (one part: once): how many blocks in front of the row block, and
        the number of each
    whether the second part needs the first block of the diagonal, whether there is a second part (two parts only)
    what leads back to the first word, modulo 2^32
    scores of a row of each part

and behind the last head of the last row block what leads back to the first one: to its own list a layer, or onwards.
"""

from collections.abc import Sequence

import numpy as np

from mixflight.arch.compact import CONSTANTS
from mixflight.arch.core import CoreMachine
from mixflight.arch.errors import InputError
from mixflight.arch.isa import Ints
from mixflight.mapping.block_mask import MASK_BLOCK, Mask, block_mask, in_units, is_dense
from mixflight.mapping.core_network import Network
from mixflight.mapping.core_shares import Share

_WORD = 1 << 32


def mask_unit(machine: CoreMachine) -> int:
    """Rows of a part: at most two make a row block."""
    rows = machine.mm_rows
    return rows if rows <= MASK_BLOCK else rows // 2


def masks_of(network: Network, machine: CoreMachine, given: Sequence[Mask]) -> tuple[Mask, ...]:
    """The masks of a prefill in units, one for all layers or one a layer: ``given``, or drawn for the trace's density.

    Empty if nothing is masked.
    """
    heads, tokens = network.kv_heads * network.queries, network.tokens
    if given:
        masks = tuple(given)
        if len(masks) not in (1, len(network.layers)):
            raise InputError(f"attention masks must be one or one for each of {len(network.layers)} layers, "
                             f"not {len(masks)}")  # fmt: skip
        if any(len(mask) != heads for mask in masks):
            raise InputError(f"an attention mask must have {heads} heads, not {len(masks[0])}, for {network.model}")
    else:
        density = {value: block_mask(heads, tokens, MASK_BLOCK, value) for value in set(network.density)}
        masks = tuple(density[value] for value in network.density)
    if len({mask.tobytes() for mask in masks}) == 1:
        masks = masks[:1]
    found = tuple(in_units(mask, tokens, mask_unit(machine)) for mask in masks)
    return () if all(is_dense(mask) for mask in found) else found


def mask_words(masks: Sequence[Mask], network: Network, machine: CoreMachine, share: Share) -> Ints:
    """The words of one core's heads, for all layers and sequences; more than the constants hold are an InputError."""
    unit, parts = mask_unit(machine), machine.mm_rows // mask_unit(machine)
    first, number = share.heads
    words: list[int] = []
    for mask in masks:
        mine = mask[first * network.queries : (first + number) * network.queries]
        once: list[int] = []
        for row in range(0, mask.shape[1], parts):
            for head in mine:
                once += _row_words(head[row : row + parts], row, unit, parts)
        if len(masks) == 1:
            return np.array([*once, -len(once) % _WORD], np.int64)
        words += [*once, 1] * network.batch
    return np.array(words, np.int64)


def check_words(words: int, model: str) -> None:
    """Constants and masks must fit the memory of constants."""
    if words > CONSTANTS:
        raise InputError(
            f"masks of {model} must fit the {CONSTANTS} constants of a core, not {words} words, in operator 'qk'"
        )


def _row_words(rows: Mask, row: int, unit: int, parts: int) -> list[int]:
    """The list of one head and row block: ``rows`` of the mask, the first of which is ``row``."""
    second = len(rows) == 2
    top = rows[0, :row]
    bottom = rows[1, :row] if second else np.zeros(row, bool)
    groups = (top,) if parts == 1 else (top & bottom, top & ~bottom, bottom & ~top)
    found: list[int] = []
    for group in groups:
        found += [int(group.sum()), *np.flatnonzero(group).tolist()]
    joint = second and bool(rows[1, row])
    if parts == 2:
        found += [int(joint), int(second)]
    found.append(-len(found) % _WORD)
    found.append(unit * (int(top.sum()) + 1))
    if parts == 2:
        found.append(unit * (int(bottom.sum()) + joint + 1) if second else 0)
    return found
