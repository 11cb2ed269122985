# amaranth: UnusedElaboratable=no
"""Dot products of an engine: their values at the ends of every range, what they take."""

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator

from mixflight.arch.compact import K_BLOCK
from mixflight.rtl.core_dots import ChainDots, ShiftAddDots, dots_named
from mixflight.rtl.core_lane import DSP_BITS, in_halves
from mixflight.rtl.core_synthesis import synthesise_parts
from mixflight.rtl.emit import emit_verilog

COLUMNS = 2


def steps(rng):
    """(Narrow, high, weights [column][k], codes [k]) of steps; every pair of extremes meets."""
    for narrow, high in ((1, 0), (0, 0), (0, 1)):
        low, top = (-16, 15) if narrow else (-128, 127)
        for kind in range(12):
            if kind < 4:
                weights = np.full((COLUMNS, K_BLOCK), (low, top)[kind & 1])
                codes = np.full(K_BLOCK, (-128, 127)[kind >> 1])
            else:
                weights = rng.integers(low, top + 1, (COLUMNS, K_BLOCK))
                codes = rng.choice([-128, -1, 0, 1, 127], K_BLOCK) if kind < 8 else rng.integers(-128, 128, K_BLOCK)
            yield narrow, high, weights, codes


def wanted(narrow, high, weights, codes):
    """What a step adds: of a narrow code all, of a wide one its upper bits or its lower four."""
    taken = weights if narrow else weights >> 4 if high else weights & 15
    return (taken @ codes).tolist()


@pytest.mark.parametrize("own", [False, True])
def test_every_step_has_its_sums(own):
    dots = ShiftAddDots(columns=COLUMNS, own=own)
    given = list(steps(np.random.default_rng(3)))
    found = []

    async def bench(ctx):
        for narrow, high, weights, codes in given:
            ctx.set(dots.valid, 1)
            ctx.set(dots.narrow, narrow)
            ctx.set(dots.high, high)
            for k, code in enumerate(codes.tolist()):
                for column in range(COLUMNS):
                    ctx.set(dots.weights[column][k], int(weights[column, k]) & 255)
                    ctx.set(dots.codes[0][column][k] if own else dots.codes[0][k], code & 255)
            await ctx.tick()
            ctx.set(dots.valid, 0)
            for _ in range(dots.latency - 1):
                await ctx.tick()
            found.append([ctx.get(dots.sum[0][column]) for column in range(COLUMNS)])

    simulator = Simulator(dots)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == [wanted(*step) for step in given]


@pytest.mark.parametrize("own", [False, True])
def test_chains_have_every_step_s_sums(own):
    """A step a cycle with gaps, two columns, three rows: a pair and one alone."""
    rng, rows = np.random.default_rng(5), 3
    dots = dots_named("generic", columns=COLUMNS, rows=rows, own=own)
    assert type(dots) is ChainDots
    weights = rng.choice([-128, -1, 0, 127], (60, COLUMNS, K_BLOCK))
    codes = rng.choice([-128, 0, 1, 127], (60, rows, COLUMNS, K_BLOCK))
    weights[20:], codes[20:] = rng.integers(-128, 128, weights[20:].shape), rng.integers(-128, 128, codes[20:].shape)
    weights[:4], codes[:4] = -128, -128
    codes = codes if own else codes[:, :, :1].repeat(COLUMNS, axis=2)
    valid, found = rng.random(60) < 0.7, []

    def bits(numbers):
        return int.from_bytes(np.asarray(numbers, np.int8).tobytes(), "little")

    async def bench(ctx):
        for cycle in range(60 + dots.latency):
            step = min(cycle, 59)
            ctx.set(dots.valid, int(valid[step]))
            ctx.set(dots.weights.as_value(), bits(weights[step]))
            ctx.set(dots.codes.as_value(), bits(codes[step] if own else codes[step, :, 0]))
            found.append([[ctx.get(dots.sum[row][column]) for column in range(COLUMNS)] for row in range(rows)])
            await ctx.tick()

    simulator = Simulator(dots)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    sums = np.einsum("sck,srck->src", weights, codes)
    given = np.flatnonzero(valid)
    assert len(given) > 30
    assert [found[step + dots.latency] for step in given] == sums[given].tolist()


def test_a_product_is_that_of_its_halves():
    """Of 22 bits of scales with 29 of a sum, at the ends and at random."""
    m, scales, magnitude, product = Module(), Signal(22), Signal(29), Signal(51)
    m.d.comb += product.eq(in_halves(scales, magnitude))
    rng = np.random.default_rng(1)
    ends = [0, 1, 2**DSP_BITS - 1, 2**DSP_BITS, 2**22 - 1]
    pairs = [(a, b) for a in ends for b in (*ends, 2**29 - 1)]
    pairs += zip(rng.integers(0, 2**22, 200).tolist(), rng.integers(0, 2**29, 200).tolist(), strict=True)

    async def bench(ctx):
        for a, b in pairs:
            ctx.set(scales, a)
            ctx.set(magnitude, b)
            assert ctx.get(product) == a * b

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.slow
def test_no_way_between_registers_is_longer_than_eight_levels():
    found = synthesise_parts(emit_verilog(ShiftAddDots(columns=COLUMNS), "dots"), top="dots")
    assert found.counts["lut"] <= 50 * COLUMNS * K_BLOCK
    assert found.modules["dots"]["lut_levels"] <= 8
