"""The beats that make a weight-stationary array compute a tile. Its outputs are those of ``sim.golden.array``."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mixflight.arch.formats import Zero
from mixflight.sim.golden.array import bits_of, group_count

Array = npt.NDArray[Any]


class StationaryActBeat(NamedTuple):
    """One beat of stream ``act``: one token on the rows of a weight tile; ``s_a`` FP16 bits."""

    a: list[int]
    s_a: int
    last_token: int
    last_in_group: int
    last_in_tile: int
    high: int
    signed: int


class StationaryWeightBeat(NamedTuple):
    """One beat of stream ``wgt``: one row."""

    w: list[int]
    last_row: int


class StationaryParamsBeat(NamedTuple):
    """One beat of stream ``params``; FP16 values as their bits, ``z`` empty without zero points."""

    d: list[int]
    z: list[int]


class StationaryBeats(NamedTuple):
    """The beats of one tile of outputs."""

    act: list[StationaryActBeat]
    wgt: list[StationaryWeightBeat]
    params: list[StationaryParamsBeat]


def weight_tiles(*, group: int, rows: int, passes: int) -> Iterator[tuple[int, slice, bool]]:
    """The weight tiles of a group in order: pass, codes within the group, and whether it is the group's last."""
    for high in range(passes):
        for first in range(0, group, rows):
            yield high, slice(first, min(first + rows, group)), high == passes - 1 and first + rows >= group


def stationary_beats(
    *,
    a: Array,
    w: Array,
    s_a: Array,
    d: Array,
    z: Array | None,
    group: int,
    zero: Zero,
    passes: int,
    signed: bool,
    rows: int,
    w_bits: int = 4,
) -> StationaryBeats:
    """The beats of a tile of M tokens and N = columns channels on an array of ``rows`` rows.

    Operands as for ``array_outputs``. ``signed``: weight codes are two's complement. With two passes a group's low
    digits of ``w_bits`` bits (unsigned) come first, then the high ones with the activations repeated.
    """
    groups = group_count(a, w, s_a, d, z, group, zero)
    beats = StationaryBeats([], [], [])
    for g in range(groups):
        for high, codes, last in weight_tiles(group=group, rows=rows, passes=passes):
            inputs = slice(g * group + codes.start, g * group + codes.stop)
            digits = (w[:, inputs].astype(np.int64) >> (w_bits * high)) & ((1 << w_bits) - 1)
            used = digits.shape[1]
            beats.wgt.extend(StationaryWeightBeat(digits[:, r].tolist(), int(r == used - 1)) for r in range(used))
            for token, activations in enumerate(a[:, inputs].tolist()):
                final = token == len(a) - 1
                beats.act.append(
                    StationaryActBeat(
                        a=activations + [0] * (rows - used),
                        s_a=bits_of(s_a[token : token + 1, g])[0],
                        last_token=int(final),
                        last_in_group=int(last),
                        last_in_tile=int(last and g == groups - 1),
                        high=high,
                        signed=int(signed and high == passes - 1),
                    )
                )
        beats.params.append(
            StationaryParamsBeat(
                d=bits_of(np.ascontiguousarray(d[:, g])), z=[] if z is None else bits_of(np.ascontiguousarray(z[:, g]))
            )
        )
    return beats
