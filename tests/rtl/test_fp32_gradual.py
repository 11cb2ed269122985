# amaranth: UnusedElaboratable=no
"""FP32 multiplication and addition with gradual underflow against NumPy, in emitted Verilog."""

import numpy as np
import pytest

from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.fp32_multiply import Fp32Multiply
from mixflight.rtl.fp32_sum import Fp32Sum
from mixflight.rtl.pe_driver import build_driver, drive

COUNT = 1 << 18


def operands(random):
    """Random words; products around 2^-126 and 2^-149; subnormal operands; sums that nearly or wholly cancel."""
    a, b = (random.integers(0, 1 << 32, COUNT, np.uint32) for _ in range(2))
    part = COUNT // 4
    exponents = random.integers(1, 254, part)
    a[:part] = exponents << 23 | random.integers(0, 1 << 23, part) | random.integers(0, 2, part) << 31
    b[:part] = (np.clip(127 - exponents + random.integers(-30, 30, part), 0, 254) << 23
                | random.integers(0, 1 << 23, part))
    a[part:2 * part] = random.integers(0, 1 << 24, part) >> random.integers(0, 24, part)
    b[part:part + part // 2] &= 0x80FFFFFF
    b[2 * part:3 * part] = (a[2 * part:3 * part] ^ np.uint32(1 << 31)) + random.integers(-3, 4, part).astype(np.uint32)
    tiny = slice(2 * part, 2 * part + part // 2)
    a[tiny] &= 0x83FFFFFF
    b[tiny] = (a[tiny] ^ np.uint32(1 << 31)) + random.integers(-3, 4, part // 2).astype(np.uint32)
    corners = np.array([0, 1, 2, 0x7FFFFF, 0x800000, 0x800001, 0xFFFFFF, 0x1000000, 0x3F800000, 0x3F7FFFFF, 0x3F800001,
                        0x34000000, 0x33800000, 0x33800001, 0x7F7FFFFF, 0x40000000, 0x3F000000, 0x3EFFFFFF], np.uint32)
    first, second = (grid.ravel() for grid in np.meshgrid(np.concatenate([corners, corners | np.uint32(1 << 31)]),
                                                          np.concatenate([corners, corners | np.uint32(1 << 31)])))
    return np.concatenate([a, first]), np.concatenate([b, second])


@pytest.mark.parametrize(("unit", "name", "output", "truth"), [
    (Fp32Multiply, "fp32-multiply", "product", np.multiply), (Fp32Sum, "fp32-sum", "sum", np.add),
])  # fmt: skip
def test_every_finite_result_equals_numpy_and_nothing_moves_without_enable(unit, name, output, truth):
    random = np.random.default_rng(7)
    a, b = operands(random)
    component = unit()
    driver = build_driver(emit_verilog(component, name), top=name.replace("-", "_"), inputs=("a", "b", "en"),
                          outputs=(output,))
    enabled = random.random(len(a) * 5 // 4) < 0.9
    taken = np.cumsum(enabled) - enabled            # how many operands were taken before this cycle
    at = np.minimum(taken, len(a) - 1)
    seen = drive(driver, {"a": a[at], "b": b[at], "en": enabled})[output]
    latency = component.LATENCY
    shown = (taken >= latency) & (taken < len(a))
    index = taken[shown] - latency
    x, y = a[index].view(np.float32), b[index].view(np.float32)
    with np.errstate(all="ignore"):
        expected = truth(x, y)
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(expected)
    assert known.sum() > 200_000
    np.testing.assert_array_equal(seen[shown][known], expected.view(np.uint32)[known])
