"""Cycles of LD and ST on a core's memory side, in closed form; what its RTL does to the cycle.

T is the memory's latency: cycles from an accepted address to its first beat (LD), from the last accepted beat to its
answer (ST). Memories deliver a beat a cycle, nothing else waits. From the acceptance of a lone instruction to ``done``.
"""

from mixflight.arch.compact import K_BLOCK

BEAT_BYTES = 64
PIECE_BYTES = 32
"""What a wide transfer deals to a channel at a time."""
LOAD_FIXED, STORE_FIXED = 8, 9
"""Register stages on the way; a wide ST has two less, an LD to the global buffer from HBM one more."""


def beats_of(address: int, size: int) -> int:
    """Beats that ``size`` bytes from ``address`` on touch."""
    return (address % BEAT_BYTES + size + BEAT_BYTES - 1) // BEAT_BYTES


def load_pieces(*, buffer: str, layout: str, bits: int, size: int, channels: int, lanes: int, wide: bool) -> int:
    """What an LD writes one after the other: words, lines, 16 codes of keys, a step's columns of values."""
    if buffer == "global":
        dealt = channels * -(-size // PIECE_BYTES)
        return -(-dealt // 2) if wide and channels > 1 else -(-size // BEAT_BYTES)
    if buffer != "weight":
        return -(-size // BEAT_BYTES)
    codes = {"linear": min(K_BLOCK * lanes, BEAT_BYTES if bits == 8 else K_BLOCK * lanes), "keys": K_BLOCK,
             "values": channels * lanes}[layout]  # fmt: skip
    return -(-size * 8 // (bits * codes))


def load_cycles(
    *, latency: int, buffer: str, address: int, size: int, channels: int, lanes: int, layout: str = "linear",
    bits: int = 8, wide: bool = True, ddr: bool = False,
) -> int:  # fmt: skip
    """Cycles of an LD: ``size`` bytes a channel; ``bits`` of a code, 8 where bytes stay.

    The longer of its beats and its pieces; a piece that begins within a beat and needs the next one costs a cycle.
    """
    pieces = load_pieces(
        buffer=buffer, layout=layout, bits=bits, size=size, channels=channels, lanes=lanes, wide=wide
    )  # fmt: skip
    taken = BEAT_BYTES if bits == 8 or ddr else 2 * lanes * bits
    beats = beats_of(address, size)
    split = beats > 1 and address % BEAT_BYTES + min(taken, BEAT_BYTES + 1) > BEAT_BYTES
    return latency + LOAD_FIXED + (buffer == "global" and not ddr) + max(split + pieces, beats)


def store_cycles(*, latency: int, address: int, size: int, channels: int, wide: bool) -> int:
    """Cycles of an ST: ``size`` bytes a channel; its beats, or the lines that a wide one reads."""
    if wide and channels > 1:
        return latency + STORE_FIXED - 2 + channels * -(-size // PIECE_BYTES) // 2
    return latency + STORE_FIXED + beats_of(address, size)
