"""LD and ST: bytes between memories and buffers; packed codes widened on their way to the weight buffer."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mixflight.arch.compact import K_BLOCK, LINE_BYTES
from mixflight.arch.errors import InputError
from mixflight.sim.core_values.state import BUFFERS, LAYOUTS, CoreState, Octets

PIECE = 32
"""Bytes of a vector that lie together in one channel."""


def load(state: CoreState, fields: dict[str, int]) -> None:
    """Carry out an LD."""
    buffer, size = BUFFERS[fields["buffer"]], fields["bytes"]
    channels = range(state.shape.channels) if fields["wide"] else range(fields["channel"], fields["channel"] + 1)
    parts = [_memory(state, fields, channel) for channel in channels]
    if buffer == "weight":
        for channel, part in zip(channels, parts, strict=True):
            _widen(state, fields, channel, part)
        state.layouts[fields["slot"]] = LAYOUTS[fields["layout"]]
    elif buffer in ("scale", "index"):
        banks = state.scale if buffer == "scale" else state.index
        at = fields["line"] * LINE_BYTES
        _inside(at + size, banks.shape[2], f"a slot of the {buffer} buffer", "bytes of a bank")
        for channel, part in zip(channels, parts, strict=True):
            banks[fields["slot"], channel, at : at + size] = part
    else:
        flat = _flat(state, buffer)
        at = _line_of(state, buffer, fields) * LINE_BYTES
        places = _places(size, len(parts))
        for part, place in zip(parts, places, strict=True):
            _inside(at + int(place.max(initial=-1)) + 1, flat.size, f"the {buffer} buffer", "bytes")
            flat[at + place] = part
        if buffer == "act" and size:
            state.act_scales[at // LINE_BYTES : -(-(at + size * len(parts)) // LINE_BYTES)] = 0


def store(state: CoreState, fields: dict[str, int]) -> None:
    """Carry out an ST."""
    buffer, size = BUFFERS[fields["buffer"]], fields["bytes"]
    if buffer not in ("global", "act"):
        raise InputError(f"ST must be from the global or act buffer, not the {buffer} buffer")
    flat = _flat(state, buffer)
    channels = range(state.shape.channels) if fields["wide"] else range(fields["channel"], fields["channel"] + 1)
    at = _line_of(state, buffer, fields) * LINE_BYTES
    for channel, place in zip(channels, _places(size, len(channels)), strict=True):
        _inside(at + int(place.max(initial=-1)) + 1, flat.size, f"the {buffer} buffer", "bytes")
        _memory(state, fields, channel)[:] = flat[at + place]


def _flat(state: CoreState, buffer: str) -> Octets:
    return (state.vector if buffer == "global" else state.act).reshape(-1)


def _line_of(state: CoreState, buffer: str, fields: dict[str, int]) -> int:
    if fields["slotted"]:
        raise InputError(f"slots must be of the weight, scale or index buffer, not of the {buffer} buffer")
    return fields["line"]


def _memory(state: CoreState, fields: dict[str, int], channel: int) -> Octets:
    memory, at = state.memory(fields["ddr"], channel), fields["address"]
    _inside(at + fields["bytes"], memory.size, f"channel {channel} of the {'DDR' if fields['ddr'] else 'HBM'}", "bytes")
    return memory[at : at + fields["bytes"]]


def _inside(end: int, size: int, what: str, unit: str) -> None:
    if end > size:
        raise InputError(f"a transfer must end inside {what} of {size:,} {unit}, not at {end:,}")


def _places(size: int, channels: int) -> list[NDArray[np.int64]]:
    """Where the bytes of each channel lie in the buffer: pieces of 32 bytes are dealt over the channels."""
    at = np.arange(size)
    return [(at // PIECE * channels + channel) * PIECE + at % PIECE for channel in range(channels)]


def _widen(state: CoreState, fields: dict[str, int], channel: int, packed: Octets) -> None:
    """The codes of one channel to its bank of a slot."""
    bits, layout = fields["code_bits"] or 8, LAYOUTS[fields["layout"]]
    count = packed.size * 8 // bits
    found = np.empty(count, np.int8)
    _unpack(packed, bits, bool(fields["signed"]), found)
    weight, shape = state.weight[fields["slot"]], state.shape
    if layout == "linear":
        bank = weight[channel].reshape(-1)
        at = fields["line"] * LINE_BYTES
        _inside(at + count, bank.size, "a bank of a slot of the weight buffer", "codes")
        bank[at : at + count] = found
        return
    head = state.constants.head_elements
    tokens = count // head
    rows = found[: tokens * head].reshape(tokens, head)
    t = np.arange(tokens)
    if layout == "keys":
        blocks = head // K_BLOCK
        _inside(-(-tokens // shape.lanes) * blocks, shape.words, "a bank of a slot of the weight buffer", "words")
        weight[channel, (t // shape.lanes)[:, None] * blocks + np.arange(blocks), (t % shape.lanes)[:, None]] = (
            rows.reshape(tokens, blocks, K_BLOCK)
        )
        return
    t, d = t * shape.channels + channel, np.arange(head)
    steps = -(-head // shape.step)
    _inside(-(-tokens * shape.channels // K_BLOCK) * steps, shape.words, "a bank of a slot of the weight buffer",
            "words")  # fmt: skip
    word = (t // K_BLOCK)[:, None] * steps + d // shape.step
    weight[d % shape.step // shape.lanes, word, d % shape.lanes, (t % K_BLOCK)[:, None]] = rows


@njit(cache=True)
def _unpack(packed: Any, bits: int, signed: bool, found: Any) -> None:
    """Codes of ``bits`` packed from the lowest bit up, as bytes."""
    mask, top = (1 << bits) - 1, 1 << (bits - 1)
    held, have, at = np.int64(0), 0, 0
    for i in range(len(found)):
        while have < bits:
            held = held | np.int64(packed[at]) << have
            have += 8
            at += 1
        code = held & mask
        held = held >> bits
        have -= bits
        if signed and code & top:
            code = code - (1 << bits)
        found[i] = code
