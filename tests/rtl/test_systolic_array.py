# amaranth: UnusedElaboratable=no
"""The array against the golden model: values bit for bit, unstalled cycles equal to the closed form."""

import numpy as np
import pytest
from stream_bench import Span, drain, feed, hold_until_taken, never, simulate, sometimes

from mixflight.arch.errors import InputError
from mixflight.rtl.systolic_array import SystolicArray
from mixflight.sim.array_timing import array_cycles
from mixflight.sim.golden.array import array_outputs, lane_values, tile_beats


def random_operands(rng, *, rows, cols, k, group, passes, signed, zero, extreme=False):
    """Operands of one tile; FP16 values over their whole finite range, subnormals included."""
    def half(*shape):
        bits = rng.integers(0, 1 << 16, shape, np.uint16)
        return np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits).astype(np.uint16).view(np.float16)

    bits = 4 * passes
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    w = rng.integers(low, high, (cols, k))
    a = rng.integers(-128, 128, (rows, k)).astype(np.int8)
    if extreme:
        w = np.where(w < (low + high) / 2, low, high - 1)
        a[:] = -128
    z = {"none": None, "int4": rng.integers(0, 16, (cols, k // group)).astype(np.uint8),
         "f16-min": half(cols, k // group)}[zero]
    return {"a": a, "w": w, "s_a": half(rows, k // group), "d": half(cols, k // group), "z": z,
            "group": group, "zero": zero}


def run(dut, tiles, *, passes, signed, stalls=None):
    """Send the tiles through ``dut``; returns the lanes' FP32 bits and the cycles from first to last beat."""
    beats = [tile_beats(**tile, passes=passes, signed=signed) for tile in tiles]
    act = [beat._asdict() for tile in beats for beat in tile.act]
    wgt = [{"w": beat} for tile in beats for beat in tile.wgt]
    params = [{key: value for key, value in beat._asdict().items() if value}
              for tile in beats for beat in tile.params]
    outputs = [[] for _ in range(dut.lanes)]
    expected = len(tiles) * dut.rows * dut.lane_cols
    span = Span()

    def pause(number):
        return never if stalls is None else sometimes(stalls + number, (0.1, 0.5)[(stalls + number) % 2])

    outs = [dut.out[lane] for lane in range(dut.lanes)]
    benches = [
        (feed, dut.act, act, pause(0)),
        (feed, dut.wgt, wgt, pause(1)),
        (feed, dut.params, params, pause(2)),
        *((drain, out, expected, outputs[lane], pause(3 + lane)) for lane, out in enumerate(outs)),
    ]
    watchers = [(span.watch, dut.act, outs), *((hold_until_taken, out) for out in outs)]
    simulate(dut, benches, watchers)
    return np.array(outputs, np.uint32), span.cycles


def expected_bits(tiles, lanes):
    """What the lanes must emit, by the golden model."""
    values = [lane_values(array_outputs(**tile), lanes=lanes) for tile in tiles]
    return np.concatenate(values, axis=1).view(np.uint32)


# rows, cols, lanes, pe, zero, two_pass, signed, group, groups, tiles
CASES = [
    (4, 4, 1, "shift-add", "none", False, True, 16, 3, 2),
    (4, 4, 2, "shift-add", "int4", False, False, 16, 2, 2),
    (4, 4, 4, "shift-add", "f16-min", False, False, 16, 2, 2),
    (4, 4, 4, "multiply", "none", False, True, 1, 7, 3),         # the accumulators' loop sets the period
    (4, 4, 1, "multiply", "f16-min", True, True, 4, 3, 2),       # the lane's 16 elements set the period
    (4, 8, 2, "multiply", "int4", True, True, 16, 2, 2),
    (8, 8, 2, "shift-add", "int4", False, False, 32, 2, 2),
    (8, 8, 2, "shift-add", "f16-min", True, False, 16, 2, 2),    # passes * group equals the lane's elements
    (3, 5, 1, "shift-add", "int4", True, True, 16, 2, 2),
    (3, 5, 5, "shift-add", "f16-min", False, True, 2, 4, 3),
    (1, 8, 8, "shift-add", "none", False, False, 8, 3, 3),
    (8, 1, 1, "multiply", "int4", False, True, 8, 2, 2),
    (1, 1, 1, "multiply", "f16-min", False, False, 5, 2, 2),
]


@pytest.mark.parametrize("stalls", [None, 7])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_values_and_cycles(case, stalls):
    rows, cols, lanes, pe, zero, two_pass, signed, group, groups, tile_count = case
    passes = 1 + two_pass
    rng = np.random.default_rng(1)
    k = group * groups
    tiles = [random_operands(rng, rows=rows, cols=cols, k=k, group=group, passes=passes, signed=signed,
                             zero=zero) for _ in range(tile_count)]
    dut = SystolicArray(rows=rows, cols=cols, lanes=lanes, pe=pe, zero=zero, two_pass=two_pass, group_max=32)
    got, cycles = run(dut, tiles, passes=passes, signed=signed, stalls=stalls)
    np.testing.assert_array_equal(got, expected_bits(tiles, lanes))
    if stalls is None:
        assert cycles == array_cycles(rows=rows, cols=cols, lanes=lanes, k=k, group=group, passes=passes,
                                      tiles=tile_count, zero=zero)
