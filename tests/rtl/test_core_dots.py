# amaranth: UnusedElaboratable=no
"""Dot products by shift and add: their values at the ends of every range, what they take."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from mixflight.arch.compact import K_BLOCK
from mixflight.rtl.core_dots import ShiftAddDots
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


@pytest.mark.slow
def test_no_way_between_registers_is_longer_than_eight_levels():
    found = synthesise_parts(emit_verilog(ShiftAddDots(columns=COLUMNS), "dots"), top="dots")
    assert found.counts["lut"] <= 50 * COLUMNS * K_BLOCK
    assert found.modules["dots"]["lut_levels"] <= 8
