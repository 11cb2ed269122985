"""Random LD and ST of vectors between memories and the windows of the buffers."""

from mixflight.sim.core_values.random_maker import ACT_WINDOW, GLOBAL_WINDOW, Maker
from mixflight.sim.core_values.random_memory import CODES, END, OUT, VECTORS


def load(maker: Maker) -> None:
    """A load of FP32, or of what an ST has written."""
    line, wide = maker.vector_line(), maker.chance(0.7)
    size = maker.whole(32, 1024, 32)
    if maker.chance(0.15) and maker.stored:
        address, size = maker.stored[int(maker.rng.integers(len(maker.stored)))]
        maker.try_("LD", maker.ld("global", address, size, line=line))
    elif wide:
        maker.try_("LD", maker.ld("global", maker.whole(VECTORS, CODES - 2048, 32), size, line=line))
    else:
        maker.try_("LD", maker.ld("global", maker.whole(VECTORS, CODES - 2048, 64), size, line=line, wide=0,
                                  channel=maker.whole(0, maker.shape.channels - 1)))  # fmt: skip


def store(maker: Maker) -> None:
    """A store of some lines of either buffer, to all channels or to one."""
    of_vector = maker.chance(0.6)
    buffer, lines = ("global", GLOBAL_WINDOW) if of_vector else ("act", ACT_WINDOW)
    first = maker.windows.vector if of_vector else maker.windows.act
    line, address = first + maker.whole(0, lines - 1), maker.whole(OUT, END - 0x14000, 64)
    if maker.chance(0.5):
        size = maker.whole(32, 512, 32)
        if maker.try_("ST", maker.move(buffer, address, size, line=line)) and buffer == "global":
            maker.stored.append((address, size))
    else:
        size, address = (
            (maker.whole(4, 60, 4), address + maker.whole(0, 60, 4)) if maker.chance(0.5)
            else (maker.whole(64, 256, 64), address)
        )  # fmt: skip
        maker.try_("ST", maker.move(buffer, address, size, line=line, wide=0,
                                    channel=maker.whole(0, maker.shape.channels - 1)))  # fmt: skip
