"""Cycles of LD and ST on a core's memory side, in closed form; what its RTL does to the cycle.

T is the memory's latency: cycles from an accepted address to its first beat (LD), from the last accepted beat to its
answer (ST). Memories deliver a beat a cycle, nothing else waits. From the acceptance of a lone instruction to ``done``.
"""

from mixflight.arch.compact import K_BLOCK

BEAT_BYTES = 64
READ_LATENCY = 2
"""Cycles from the acceptance of a buffer's read to its data."""
PIECE_BYTES = 32
"""What a wide transfer deals to a channel at a time."""
LOAD_FIXED, STORE_FIXED = 8, 9
"""Register stages on the way; of an ST those around its beats, which follow one another."""
LOAD_GLOBAL = 1
"""More stages of an LD to the global buffer from HBM."""
STORE_TURN = 7
"""Cycles between the last beat of an ST and the first of the next one."""
STORE_WIDE_LESS = 2
"""Fewer stages of a wide ST."""


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


def load_busy(
    *, buffer: str, address: int, size: int, channels: int, lanes: int, layout: str = "linear", bits: int = 8,
    wide: bool = True, ddr: bool = False,
) -> int:  # fmt: skip
    """Cycles by which an LD behind another one of its channels ends later: ``size`` bytes a channel; ``bits`` of a
    code, 8 where bytes stay.

    The longer of its beats and its pieces; a piece that begins within a beat and needs the next one costs a cycle.
    """
    pieces = load_pieces(
        buffer=buffer, layout=layout, bits=bits, size=size, channels=channels, lanes=lanes, wide=wide
    )  # fmt: skip
    taken = BEAT_BYTES if bits == 8 or ddr else 2 * lanes * bits
    beats = beats_of(address, size)
    split = beats > 1 and address % BEAT_BYTES + min(taken, BEAT_BYTES + 1) > BEAT_BYTES
    return max(split + pieces, beats)


def load_cycles(
    *, latency: int, buffer: str, address: int, size: int, channels: int, lanes: int, layout: str = "linear",
    bits: int = 8, wide: bool = True, ddr: bool = False,
) -> int:  # fmt: skip
    """Cycles of an LD: the memory's, the stages, and ``load_busy``."""
    busy = load_busy(buffer=buffer, address=address, size=size, channels=channels, lanes=lanes, layout=layout,
                     bits=bits, wide=wide, ddr=ddr)  # fmt: skip
    return latency + LOAD_FIXED + (LOAD_GLOBAL if buffer == "global" and not ddr else 0) + busy


def store_busy(*, address: int, size: int, channels: int, wide: bool) -> int:
    """Cycles in which an ST moves: ``size`` bytes a channel; its beats, or the lines that a wide one reads."""
    if wide and channels > 1:
        return channels * -(-size // PIECE_BYTES) // 2
    return beats_of(address, size)


def store_cycles(*, latency: int, address: int, size: int, channels: int, wide: bool) -> int:
    """Cycles of an ST: the memory's, the stages, and ``store_busy``."""
    stages = STORE_FIXED - (STORE_WIDE_LESS if wide and channels > 1 else 0)
    return latency + stages + store_busy(address=address, size=size, channels=channels, wide=wide)
