"""The memory unit's expansion of packed codes to INT8: each code its own value, nothing scaled."""

import numpy as np
from numpy.typing import NDArray

from mixflight.arch.errors import InputError
from mixflight.arch.widen import CODE_BITS


def widened(words: NDArray[np.uint8], *, bits: int, signed: bool, codes: int) -> NDArray[np.uint8]:
    """The first ``codes`` codes of ``words``, packed from the lowest bit up, as bytes.

    A code is zero-extended or, ``signed``, sign-extended from its ``bits``.
    """
    if bits not in CODE_BITS:
        raise InputError(f"packed codes must have {', '.join(map(str, CODE_BITS))} bits, not {bits}")
    if codes * bits > 8 * len(words):
        raise InputError(f"{codes} codes of {bits} bits must lie in {len(words)} bytes")
    planes = np.unpackbits(words, bitorder="little")[:codes * bits].reshape(codes, bits)
    values: NDArray[np.int64] = (planes.astype(np.int64) << np.arange(bits)).sum(axis=1)
    if signed:
        values -= (values >> bits - 1) << bits
    return (values & 0xFF).astype(np.uint8)
