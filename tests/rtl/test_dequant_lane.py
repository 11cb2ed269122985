# amaranth: UnusedElaboratable=no
"""The dequantisation lane against NumPy's float32, with stalls at its output and standstills from
elsewhere."""

import random

import numpy as np
import pytest
from stream_bench import simulate

from mixflight.arch.errors import InputError
from mixflight.rtl.dequant_lane import DequantLane

HALF_CORNERS = np.array([0.0, -0.0, 2.0**-24, -2.0**-24, 1023 * 2.0**-24, 2.0**-14, 1.0, -1.0, 65504.0,
                         -65504.0, 1 + 2.0**-10], np.float16)


def halves(rng, *shape):
    """Finite FP16 values: any bits, a third of them corners."""
    bits = rng.integers(0, 1 << 16, shape, np.uint16)
    values = np.where((bits & 0x7C00) == 0x7C00, bits & 0x83FF, bits).astype(np.uint16).view(np.float16)
    return np.where(rng.random(shape) < 0.33, rng.choice(HALF_CORNERS, shape), values).astype(np.float16)


def operands(rng, lane, tiles, groups, zero):
    """Random elements [tiles, groups, elements] for a lane; integers up to their extremes."""
    shape = tiles, groups, lane.elements
    top = 245_760
    sums = rng.integers(-top, top + 1, shape) >> rng.integers(0, 18, shape)
    row_sums = rng.integers(-16_384, 16_257, shape)
    sums[rng.random(shape) < 0.1] = 0
    row_sums[rng.random(shape) < 0.05] = -16_384
    sums[rng.random(shape) < 0.05] = -top
    z = rng.integers(0, 16, shape) if zero == "int4" else halves(rng, *shape)
    if zero == "int4":      # as of 128 signed codes of -8..7: at most 23 from their zero point
        impossible = abs(sums - row_sums * z) > 128 * 23 * 128
        row_sums = np.where(impossible, sums // np.maximum(z, 1), row_sums).clip(-16_384, 16_256)
    return {"sum": sums, "row_sum": row_sums, "zero": z,
            "scale": halves(rng, *shape), "scale_a": halves(rng, *shape)}


def expected_outputs(data, zero):
    """The accumulators after the last group of each tile."""
    wide = {name: data[name].astype(np.float32) for name in ("scale", "scale_a")}
    total = np.zeros((len(data["sum"]), data["sum"].shape[2]), np.float32)
    for g in range(data["sum"].shape[1]):
        integer = data["sum"][:, g]
        if zero == "int4":
            integer = integer - data["zero"][:, g] * data["row_sum"][:, g]
        scale_a = wide["scale_a"][:, g]
        total = total + (wide["scale"][:, g] * scale_a) * integer.astype(np.float32)
        if zero == "f16-min":
            minimum = data["zero"][:, g].astype(np.float32) * scale_a
            total = total + minimum * data["row_sum"][:, g].astype(np.float32)
    return total


def element_payloads(data, lane, zero):
    """The payloads of one element a step, tile after tile."""
    def bits(values):
        return values.view(np.uint16) if values.dtype == np.float16 else values

    tiles, groups, elements = data["sum"].shape
    fields = ["scale_a", "scale", "sum", *([] if zero == "none" else ["zero", "row_sum"])]
    return [{"valid": 1, "first": int(g == 0), "last": int(g == groups - 1), "element": e,
             **{name: int(bits(data[name])[t, g, e]) for name in fields}}
            for t in range(tiles) for g in range(groups) for e in range(elements)]


def run(lane, payloads, *, ready=lambda: True, standstill=lambda: False):
    """Outputs, and for each the number of steps since its element was presented."""
    taken, ages, presented = [], [], []

    async def bench(ctx):
        steps, waiting = 0, list(reversed(payloads))
        idle = {**payloads[0], "valid": 0}
        while waiting or steps < presented[-1] + lane.lane_latency + 1:
            accepting = ready()
            ctx.set(lane.out.ready, accepting)
            ctx.set(lane.i, waiting[-1] if waiting else idle)
            offered = ctx.get(lane.out.valid)
            moving = (accepting or not offered) and not standstill()
            ctx.set(lane.en, moving)
            if offered and accepting:
                taken.append(ctx.get(lane.out.payload))
                ages.append(steps)
            await ctx.tick()
            if moving:
                if waiting and waiting.pop()["last"]:
                    presented.append(steps)
                steps += 1

    simulate(lane, [(bench,)])
    return np.array(taken, np.uint32), [late - early for early, late in zip(presented, ages, strict=True)]


@pytest.mark.parametrize("stalled", [False, True])
@pytest.mark.parametrize("zero", ["none", "int4", "f16-min"])
def test_equals_numpy(zero, stalled):
    lane = DequantLane(elements=16, zero=zero)
    data = operands(np.random.default_rng(11), lane, 12, 8, zero)
    chance = random.Random(2)
    got, latency = run(lane, element_payloads(data, lane, zero),
                       ready=lambda: not stalled or chance.random() < 0.5,
                       standstill=lambda: stalled and chance.random() < 0.2)
    np.testing.assert_array_equal(got, expected_outputs(data, zero).ravel().view(np.uint32))
    assert set(latency) == {lane.lane_latency}


@pytest.mark.parametrize("zero", ["none", "f16-min"])
def test_an_output_may_return_after_exactly_the_loop_latency(zero):
    elements = DequantLane(elements=1, zero=zero).loop_latency
    lane = DequantLane(elements=elements, zero=zero)
    data = operands(np.random.default_rng(4), lane, 4, 6, zero)
    got, _ = run(lane, element_payloads(data, lane, zero))
    np.testing.assert_array_equal(got, expected_outputs(data, zero).ravel().view(np.uint32))


@pytest.mark.parametrize("zero", ["none", "f16-min"])
def test_one_step_less_than_the_loop_latency_reads_a_stale_sum(zero):
    elements = DequantLane(elements=1, zero=zero).loop_latency - 1
    lane = DequantLane(elements=elements, zero=zero)
    data = operands(np.random.default_rng(4), lane, 4, 6, zero)
    got, _ = run(lane, element_payloads(data, lane, zero))
    assert (got != expected_outputs(data, zero).ravel().view(np.uint32)).any()


def test_largest_values_neither_overflow_nor_lose_a_bit():
    lane = DequantLane(elements=8, zero="none", two_pass=True, group_max=512)
    shape = 1, 6, 8
    data = {"sum": np.full(shape, 512 * 128 * 255 * -1), "scale": np.full(shape, -65504, np.float16),
            "scale_a": np.full(shape, 65504, np.float16)}
    got, _ = run(lane, element_payloads(data, lane, "none"))
    np.testing.assert_array_equal(got, expected_outputs(data, "none").ravel().view(np.uint32))


def test_refusals():
    with pytest.raises(InputError, match="zero must be one of none, int4, f16-min, not 'int8', in a lane"):
        DequantLane(elements=4, zero="int8")
    with pytest.raises(InputError, match="elements must be at least 1, not 0, in a lane"):
        DequantLane(elements=0)
    with pytest.raises(InputError, match=r"group sums must stay below 2\*\*24, not need 25 bits"):
        DequantLane(elements=4, two_pass=True, group_max=1024)
