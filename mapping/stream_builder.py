"""Builds instruction streams from whole columns: each call adds many instructions of one class with their places."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mixflight.arch.isa import CLASS_INDEX, CLASSES, Ints, Stream, stream_of, token_mask

FLOAT_NOTES = ("ratio", "density")

_DEFAULTS: dict[str, dict[str, float]] = {
    "LD": {"memory": 1, "loop_1": 1, "loop_2": 1, "loop_3": 1},
    "ST": {"memory": 1, "loop": 1},
}
_NOTES: dict[str, dict[str, float]] = {
    "LD": {"channels": 1, "cross": 0, "ratio": 1.0},
    "ST": {"channels": 1, "cross": 0},
    "MM": {"density": 1.0},
    "MV": {"density": 1.0},
}


class Emitted(msgspec.Struct, frozen=True, kw_only=True):
    """A stream, and per instruction what timing needs and the encoding has no field for.

    ``channels`` a transfer uses at once, whether it goes ``cross`` channels, the ``ratio`` of INT8 bytes delivered to
    bytes read, the ``density`` of the weights multiplied.
    """

    name: str
    stream: Stream
    notes: Mapping[str, Mapping[str, NDArray[np.float64]]]


class StreamBuilder:
    """Collects columns of instructions; their places order them at the end."""

    def __init__(self) -> None:
        self._parts: dict[str, list[dict[str, NDArray[Any]]]] = {kind: [] for kind in CLASSES}

    def add(self, kind: str, place: ArrayLike, **columns: ArrayLike) -> None:
        """Instructions of ``kind`` at ``place`` in the program; columns are fields or notes, broadcast to ``place``."""
        places = np.asarray(place, dtype=np.int64)
        values = {"place": places.ravel()}
        for name, column in columns.items():
            given = np.asarray(column)
            if given.ndim == 0:
                values[name] = np.full(places.size, given)
            else:
                values[name] = np.broadcast_to(given, places.shape).ravel()
        self._parts[kind].append(values)

    def finish(self, name: str, barrier: bool, last: bool) -> Emitted:
        """The layer: its first LD waits for the barrier before it if there is one; it ends with its own barrier."""
        end = np.array([np.iinfo(np.int64).max])
        release = 0 if last else token_mask("SYS", ["LD"])
        self.add("SYS", end, wait=token_mask("SYS", ["ST"]), release=release)
        tables, notes, places, kinds = {}, {}, [], []
        for kind in CLASSES:
            columns = self._columns(kind)
            order = np.argsort(columns.pop("place"), kind="stable")
            places.append(self._places(kind)[order])
            kinds.append(np.full(len(order), CLASS_INDEX[kind], np.uint8))
            kept = _NOTES.get(kind, {})
            notes[kind] = {key: columns.pop(key)[order].astype(np.float64, copy=False) for key in kept}
            tables[kind] = {key: column[order].astype(np.int64, copy=False) for key, column in columns.items()}
        if barrier:
            tables["LD"]["wait"][0] |= token_mask("LD", ["SYS"])
        tables["ST"]["release"][-1] |= token_mask("ST", ["SYS"])
        order = np.argsort(np.concatenate(places), kind="stable")
        return Emitted(name=name, stream=stream_of(np.concatenate(kinds)[order], tables), notes=notes)

    def _places(self, kind: str) -> Ints:
        return np.concatenate([part["place"] for part in self._parts[kind]] or [np.zeros(0, np.int64)])

    def _columns(self, kind: str) -> dict[str, NDArray[Any]]:
        """Every column that any part names, with defaults where a part leaves it out."""
        parts = self._parts[kind]
        defaults = {"wait": 0, "release": 0, **_DEFAULTS.get(kind, {}), **_NOTES.get(kind, {})}
        names = {"place": None, **dict.fromkeys(defaults)} | {name: None for part in parts for name in part}
        if not parts:
            return {name: np.zeros(0, np.int64) for name in names}
        found = {}
        for name in names:
            columns = [part[name] if name in part else np.full(len(part["place"]), defaults.get(name, 0))
                       for part in parts]  # fmt: skip
            found[name] = columns[0] if len(columns) == 1 else np.concatenate(columns)
        return found


def tokens(kind: str, **given: ArrayLike) -> Any:
    """The mask of an instruction of ``kind`` that names each class wherever its condition holds."""
    total: Any = 0
    for other, condition in given.items():
        total = total + np.asarray(condition, dtype=np.int64) * token_mask(kind, [other])
    return total
