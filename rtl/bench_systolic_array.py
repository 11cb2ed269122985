"""Tiles of operands as stream beats of a systolic array, and its output words as values.

Field positions come from the component's own port signature, so a bench cannot disagree with the hardware
about them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from amaranth.lib import data

from mixflight.rtl.harness import Job, Result

INPUTS = ("act", "wgt", "params")


def below_names(array) -> tuple[str, ...]:
    """The weight streams of the blocks below the first, of an array that can split its rows."""
    return tuple(f"wgt_below__{i}" for i in range(array.split - 1))


def output_names(array) -> tuple[str, ...]:
    """The array's output streams, lane by lane."""
    return tuple(f"out__{lane}" for lane in range(array.lanes))


def array_job(array, tiles: Sequence[Any], *, stall: Mapping[str, float] | None = None, seed: int = 0) -> Job:
    """The job that sends ``tiles`` back to back.

    Each tile has ``act``, ``wgt`` and ``params``: a sequence of beats each. A beat of ``act`` or ``params``
    has the payload's fields as attributes (``split`` is the tile's own), one of ``wgt`` is the columns' codes.
    ``wgt_below`` has such sequences for the other blocks of a split tile. ``stall`` has a probability for each
    of ``act``, ``wgt`` (every feed), ``params`` and ``out`` (every lane).
    """
    layouts = {name: getattr(array, name).payload.shape() for name in INPUTS}
    act, params = packer(layouts["act"]), packer(layouts["params"])
    wgt = packer(layouts["wgt"])
    below = below_names(array)
    beats: dict[str, list[int]] = {name: [] for name in (*INPUTS, *below)}
    for tile in tiles:
        split = {"split": int(tile.split)}
        beats["act"] += [act(beat._asdict() | split) for beat in tile.act]
        beats["wgt"] += [wgt({"w": codes}) for codes in tile.wgt]
        beats["params"] += [params(beat._asdict()) for beat in tile.params]
        for name, feed in zip(below, tile.wgt_below, strict=bool(tile.split)):
            beats[name] += [wgt({"w": codes}) for codes in feed]
    outputs = output_names(array)
    wanted = dict(stall or {})
    probabilities = {name: wanted[name] for name in INPUTS if name in wanted}
    probabilities.update({name: wanted["out"] for name in outputs if "out" in wanted})
    probabilities.update({name: wanted["wgt"] for name in below if "wgt" in wanted})
    each = len(tiles) * array.rows * array.cols // array.lanes
    return Job(beats=beats, counts=dict.fromkeys(outputs, each), stall=probabilities, seed=seed)


def packer(layout: data.StructLayout) -> Callable[[Mapping[str, Any]], int]:
    """Return what turns a payload's field values (integers, or sequences of them) into one unsigned word."""
    places = []
    for name, member in layout:
        shape = member.shape
        if isinstance(shape, data.ArrayLayout):
            step = member.width // shape.length
            places.append((name, [(member.offset + index * step, (1 << step) - 1)
                                  for index in range(shape.length)]))
        else:
            places.append((name, [(member.offset, (1 << member.width) - 1)]))

    def pack(values: Mapping[str, Any]) -> int:
        word = 0
        for name, slots in places:
            value = values[name]
            parts = value if len(slots) > 1 or isinstance(value, list | tuple) else (value,)
            if len(parts) != len(slots):
                raise ValueError(f"{name} must have {len(slots)} values, not {len(parts)}")
            for (offset, mask), part in zip(slots, parts, strict=True):
                word |= (part & mask) << offset
        return word

    return pack


def array_values(array, result: Result, *, tiles: int) -> np.ndarray:
    """FP32 outputs as [tiles, lanes, rows * cols / lanes], in the order in which each lane emitted them.

    Outputs that never came are NaN.
    """
    each = array.rows * array.cols // array.lanes
    words = np.full((array.lanes, tiles * each), 0x7FC00000, np.uint32)
    for lane, name in enumerate(output_names(array)):
        came = np.array(result.outputs[name], np.uint32)
        words[lane, :len(came)] = came
    return words.view(np.float32).reshape(array.lanes, tiles, each).transpose(1, 0, 2)


def array_span(array, result: Result) -> int:
    """Cycles from the first ``act`` beat taken to the last output taken, both included."""
    return result.span("act", output_names(array))
