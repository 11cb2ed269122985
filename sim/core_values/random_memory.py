"""What lies in the memories of a random program: numbers that every operation can take, by region.

VECTORS, CODES, SCALES, CELLS, OUT   first bytes of the regions of every channel
memories                             channels of HBM and one of DDR
"""

import numpy as np

from mixflight.mapping.core_image import Octets

VECTORS, CODES, SCALES, CELLS, OUT = 0x0, 0x10000, 0x20000, 0x28000, 0x38000
"""First bytes of the regions of every channel: FP32, codes of weights, FP16 scales, scales of the cache, results."""
END = 0x80000
EMBEDDINGS = 16
EMBEDDING_BYTES, EMBEDDING_CODES = 1024, 512
"""Bytes of a row of the embedding; its codes come first."""


def memories(rng: np.random.Generator, channels: int) -> tuple[list[Octets], list[Octets]]:
    """Bytes of each of ``channels``, and of DDR, where the rows of an embedding lie."""
    hbm = []
    for _ in range(channels):
        data = rng.integers(0, 256, END).astype(np.uint8)
        data[VECTORS:CODES].view(np.float32)[:] = _numbers(rng, (CODES - VECTORS) // 4)
        for first, end in ((SCALES, CELLS), (CELLS, OUT)):
            data[first:end].view(np.float16)[:] = 10.0 ** rng.uniform(-4.5, -2, (end - first) // 2)
        hbm.append(data)
    rows = np.zeros((EMBEDDINGS, EMBEDDING_BYTES), np.uint8)
    codes, scales = (EMBEDDINGS, EMBEDDING_CODES), (EMBEDDINGS, (EMBEDDING_BYTES - EMBEDDING_CODES) // 2)
    rows[:, :EMBEDDING_CODES] = rng.integers(-127, 128, codes).astype(np.int8).view(np.uint8)
    rows[:, EMBEDDING_CODES:] = rng.uniform(1e-3, 0.1, scales).astype(np.float16).view(np.uint8)
    return hbm, [rows.reshape(-1)]


def _numbers(rng: np.random.Generator, count: int) -> np.ndarray:
    """FP32 of many magnitudes, zeros among them."""
    found = rng.standard_normal(count) * 10.0 ** rng.uniform(-3, 1.5, count)
    found[rng.random(count) < 0.02] = 0
    return found.astype(np.float32)
