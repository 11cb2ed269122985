# amaranth: UnusedElaboratable=no
"""FP32 pieces against NumPy: random values of every exponent distance, and the corners of rounding."""

import numpy as np
import pytest
from amaranth import Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from stream_bench import simulate

from mixflight.rtl.core_lane import rounded_integer
from mixflight.rtl.fp32 import Fp32Add, Fp32Round
from mixflight.rtl.fp32_balanced import BalancedAdd, BalancedRound


def pipe(dut, inputs, output, latency):
    """Outputs for a list of input dicts, one a cycle."""
    seen = []

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for each in [*inputs, *[inputs[-1]] * latency]:
            for name, to in each.items():
                ctx.set(getattr(dut, name), to)
            seen.append(ctx.get(output))
            await ctx.tick()

    simulate(dut, [(bench,)], limit=40_000)
    return np.array(seen[latency:], np.uint32)


def float_bits(rng, count, low=80, high=230):
    """Random FP32 bit patterns with biased exponents in [low, high)."""
    bits = rng.integers(low, high, count, np.uint32) << 23 | rng.integers(0, 1 << 23, count, np.uint32)
    return bits | rng.integers(0, 2, count, np.uint32) << 31


def add_operands():
    rng = np.random.default_rng(0)
    a = float_bits(rng, 3000)
    near = float_bits(rng, 5000, 120, 150)
    b_near = near ^ rng.integers(0, 2, 5000, np.uint32) << 31
    b_near = (b_near & ~np.uint32(0xFF << 23)) | (
        (near >> 23 & 0xFF) + rng.integers(-27, 28, 5000).astype(np.uint32)) << 23
    close = float_bits(rng, 2000, 120, 150)
    b_close = (close ^ 0x80000000) + rng.integers(-3, 4, 2000).astype(np.uint32)   # deep cancellation
    values = np.array([0.0, -0.0, 1.0, -1.0, 2.0**24, -2.0**24, 1 + 2.0**-23, 1.5, 2 - 2.0**-23, 3 * 2.0**-24,
                       2.0**-24, -2.0**-24, 2.0**-25, -2.0**-25, 2.0**-25 * (1 + 2.0**-20), 16777215.0],
                      np.float32).view(np.uint32)
    first, second = (grid.ravel() for grid in np.meshgrid(values, values))
    return (np.concatenate([a, near, close, first]),
            np.concatenate([float_bits(rng, 3000), b_near, b_close, second]))


@pytest.mark.parametrize("adder", [Fp32Add, BalancedAdd])
def test_addition_equals_numpy(adder):
    a, b = add_operands()
    dut = adder()
    got = pipe(dut, [{"a": int(x), "b": int(y)} for x, y in zip(a, b, strict=True)], dut.sum, Fp32Add.LATENCY)
    np.testing.assert_array_equal(got, (a.view(np.float32) + b.view(np.float32)).view(np.uint32))


@pytest.mark.parametrize(("rounding", "bits"), [
    *((Fp32Round, bits) for bits in (12, 24, 25, 26, 41)), *((BalancedRound, bits) for bits in (12, 28, 43, 51)),
])  # fmt: skip
def test_rounding_an_integer_equals_numpy(rounding, bits):
    rng = np.random.default_rng(bits)
    lengths = rng.integers(0, bits + 1, 1500)
    magnitudes = [int(rng.integers(0, 1 << int(n))) for n in lengths]
    magnitudes += [(1 << bits) - 1, 0, 1, 1 << bits - 1]
    if bits > 25:   # ties and their neighbours, with even and odd significands, and the carry out of all ones
        for significand in (1 << 23, (1 << 23) + 1, (1 << 24) - 1):
            magnitudes += [(significand << 2) + tail for tail in range(4)]
    signs = rng.integers(0, 2, len(magnitudes))
    origin = bits // 2
    dut = rounding(magnitude_bits=bits, origin=origin)
    got = pipe(dut, [{"magnitude": value, "sign": int(sign), "exponent": 127 + origin}
                     for value, sign in zip(magnitudes, signs, strict=True)], dut.value, Fp32Round.LATENCY)
    expected = np.array(magnitudes, np.int64).astype(np.float32)
    expected = np.where(signs, -expected, expected)
    np.testing.assert_array_equal(got, expected.view(np.uint32))


class Rounded(wiring.Component):
    """A sum of 30 bits as FP32 has it."""

    value: In(signed(30))
    rounded: Out(signed(30))

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.rounded.eq(rounded_integer(m, self.value, "sum"))
        return m


def test_long_integers_are_rounded_as_numpy_does():
    rng = np.random.default_rng(30)
    values = [int(rng.integers(0, 1 << int(bits))) for bits in rng.integers(20, 30, 1500)]
    values += [(significand << shift) + tail for shift in range(1, 6) for tail in range(1 << shift)
               for significand in (1 << 23, (1 << 23) + 1, (1 << 24) - 1) if (significand << shift) + tail < (1 << 29) - 32]
    values = [sign * value for value in values for sign in (1, -1)]
    dut = Rounded()
    got = []

    async def bench(ctx):
        for value in values:
            ctx.set(dut.value, value)
            got.append(ctx.get(dut.rounded))

    simulator = Simulator(dut)
    simulator.add_testbench(bench)
    simulator.run()
    np.testing.assert_array_equal(got, np.array(values, np.int64).astype(np.float32).astype(np.int64))
