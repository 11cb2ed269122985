"""Equal rows of a table found once: what depends on a row alone need be computed for the distinct ones only."""

from typing import Any

import numpy as np
from numba import njit

from mixflight.arch.isa import Ints

_loop = njit(cache=True, _nrt=False)  # nothing is allocated, and counting references takes time


def distinct(columns: tuple[Ints, ...]) -> tuple[Ints, Ints]:
    """(Where each distinct row occurs first, the number among those of every row); in the order of occurrence."""
    rows = len(columns[0])
    hashes = np.zeros(rows, np.int64)
    for column in columns:
        _mix(hashes, column)
    first, inverse = np.empty(rows, np.int64), np.empty(rows, np.int64)
    places = np.full(1 << int(2 * rows + 1).bit_length(), -1, np.int32)
    first = first[: _number(hashes, first, inverse, places)]
    if not all(_agrees(column, first, inverse) for column in columns):  # two rows of one hash
        _, first, inverse = np.unique(np.stack(columns, axis=1), axis=0, return_index=True, return_inverse=True)
    return first, inverse


@_loop
def _mix(hashes: Any, column: Any) -> None:
    for row in range(len(column)):
        mixed = (hashes[row] ^ column[row]) * np.int64(-7046029254386353131)
        hashes[row] = mixed ^ (mixed >> 29)


@_loop
def _number(hashes: Any, first: Any, inverse: Any, places: Any) -> int:
    """Number the hashes in an open table, ``places``, a power of two more than twice as many."""
    count = 0
    for row in range(len(hashes)):
        place = hashes[row] & (len(places) - 1)
        while places[place] >= 0 and hashes[first[places[place]]] != hashes[row]:
            place = (place + 1) & (len(places) - 1)
        if places[place] < 0:
            places[place] = count
            first[count] = row
            count += 1
        inverse[row] = places[place]
    return count


@_loop
def _agrees(column: Any, first: Any, inverse: Any) -> bool:
    same = True
    for row in range(len(column)):
        same &= column[row] == column[first[inverse[row]]]
    return same
