# amaranth: UnusedElaboratable=no
"""Parts of the special-function unit against NumPy: divisions, roundings, maxima, sums, rotations; its queue of lines.
"""

from collections import deque

import numpy as np
import pytest
from stream_bench import simulate

from mixflight.arch.control_constants import phase_steps
from mixflight.arch.sfu_pipeline import DIVIDE_STAGES, fold_cycles, rotation_cycles
from mixflight.rtl.emit import emit_verilog
from mixflight.rtl.fp16_convert import Fp16Round, Fp16Widen
from mixflight.rtl.fp32_balanced import BalancedRound
from mixflight.rtl.head_fifo import HeadFifo
from mixflight.rtl.lint import lint
from mixflight.rtl.pe_driver import build_driver, drive
from mixflight.rtl.sfu_beats import SfuBeats
from mixflight.rtl.sfu_codes import CodeRound
from mixflight.rtl.sfu_divide import Divide
from mixflight.rtl.sfu_maximum import Maximum
from mixflight.rtl.sfu_reduce import Reduce
from mixflight.rtl.sfu_results import SfuResults
from mixflight.rtl.sfu_rotation import Rotation
from mixflight.rtl.sfu_walk import SfuWalk
from mixflight.sim.golden.reduce import reduce_sum
from mixflight.sim.golden.rope import rotation


def check_divisions(significands, levels):
    """levels / x and x / levels of numbers with random exponents, in turns."""
    random = np.random.default_rng(3)
    driver = build_driver(emit_verilog(Divide(), "divide"), top="divide", inputs=("valid", "tag", "a", "b"),
                          outputs=("done", "done_tag", "quotient"))
    x = (random.integers(70, 160, len(significands)).astype(np.uint32) << 23 | significands).view(np.float32)
    most = np.full(len(x), levels, np.float32)
    a, b = (np.stack(pair, axis=1).reshape(-1) for pair in ((most, x), (x, most)))
    rest = np.zeros(DIVIDE_STAGES, np.uint32)
    seen = drive(driver, {"valid": np.arange(len(a) + len(rest)) < len(a), "tag": np.arange(len(a) + len(rest)) % 64,
                          "a": np.append(a.view(np.uint32), rest), "b": np.append(b.view(np.uint32), rest)})
    np.testing.assert_array_equal(seen["done"], np.arange(len(a) + len(rest)) >= DIVIDE_STAGES)
    np.testing.assert_array_equal(seen["quotient"][DIVIDE_STAGES:], (a / b).view(np.uint32))
    np.testing.assert_array_equal(seen["done_tag"][DIVIDE_STAGES:], np.arange(len(a)) % 64)


def test_divisions_of_a_sample_are_correctly_rounded():
    edges = np.array([0, 1, 2, 0x7FFFFF, 0x7FFFFE, 0x7E0000, 0x7DFFFF, 0x7E0001, 0x400000], np.uint32)
    sample = np.random.default_rng(0).integers(0, 1 << 23, 1 << 17, np.uint32)
    check_divisions(np.concatenate([edges, sample]), 127)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [127, 7])
def test_divisions_of_every_significand_are_correctly_rounded(levels):
    for part in np.split(np.arange(1 << 23, dtype=np.uint32), 8):
        check_divisions(part, levels)


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
    return seen[latency:]


@pytest.mark.parametrize("lift", [0, 12])
def test_every_kind_of_fp16_is_widened_and_lifted(lift):
    random = np.random.default_rng(1)
    halves = np.concatenate([random.integers(0, 0x7C00, 1500), np.arange(1100), [0x7BFF, 0x8000, 0x8001, 0x83FF]])
    dut = Fp16Widen()
    got = pipe(dut, [{"half": int(half), "lift": lift} for half in halves], dut.value, Fp16Widen.LATENCY)
    truth = halves.astype(np.uint16).view(np.float16).astype(np.float32) * np.float32(2.0**lift)
    np.testing.assert_array_equal(np.array(got, np.uint32), truth.view(np.uint32))


def test_fp32_is_rounded_to_fp16_with_gradual_underflow():
    random = np.random.default_rng(2)
    words = random.integers(64, 142, 4000) << 23 | random.integers(0, 1 << 23, 4000)
    ties = random.integers(100, 142, 1000) << 23 | random.integers(0, 1 << 12, 1000) << 11
    around = np.array([113 << 23, (113 << 23) - 1, 102 << 23, (102 << 23) + 1, 101 << 23, 0, 1, 0x7FFFFF])
    words = np.concatenate([words, ties, ties + 1, ties - 1, around]).astype(np.uint32)
    dut = Fp16Round()
    got = pipe(dut, [{"value": int(word)} for word in words], dut.half, Fp16Round.LATENCY)
    truth = words.view(np.float32).astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(np.array(got, np.uint16), truth)


@pytest.mark.parametrize("levels", [127, 7])
def test_codes_are_rounded_to_even_and_clamped(levels):
    random = np.random.default_rng(levels)
    near = np.arange(-256, 257) / 2
    values = np.concatenate([random.uniform(-130, 130, 2000), near, near + 2.0**-17, near - 2.0**-17, [2.0**-140, 0]])
    values = values.astype(np.float32)
    values = np.concatenate([values, -values, random.integers(0, 1 << 23, 50, np.uint32).view(np.float32)])
    dut = CodeRound()
    got = pipe(dut, [{"value": data, "levels": levels} for data in _fields(values)], dut.code, CodeRound.LATENCY)
    np.testing.assert_array_equal(got, np.clip(np.rint(values), -levels, levels))


def _fields(values):
    words = values.view(np.uint32)
    return [{"fraction": int(w & 0x7FFFFF), "exponent": int(w >> 23 & 0xFF), "sign": int(w >> 31)} for w in words]


def _words(random, count):
    return (random.integers(100, 150, count) << 23 | random.integers(0, 1 << 23, count)
            | random.integers(0, 2, count) << 31).astype(np.uint32)


async def _offer(ctx, dut, word, width, **flags):
    """A segment, one beat a step; the rest of its last beat is large and must not count."""
    beats = -(-len(word) // width)
    for beat in range(beats):
        part = word[beat * width:(beat + 1) * width]
        ctx.set(dut.valid, 1)
        ctx.set(dut.first, beat == 0)
        ctx.set(dut.last, beat == beats - 1)
        ctx.set(dut.mask, (1 << len(part)) - 1)
        for lane in range(width):
            ctx.set(dut.values[lane], int(part[lane]) if lane < len(part) else 0x7E000000)
        for name, value in flags.items():
            ctx.set(getattr(dut, name), value)
        await ctx.tick()
    ctx.set(dut.valid, 0)
    waited = 1
    while not ctx.get(dut.done):
        await ctx.tick()
        waited += 1
    return waited


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
def test_sums_are_those_of_128_partial_sums(width):
    """Long segments behind short ones and short ones behind long ones."""
    random, dut = np.random.default_rng(width), Reduce(width)

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for count in (300, 3, 64, 64, 128, 17, 1, 129, 127):
            word = _words(random, count)
            assert await _offer(ctx, dut, word, width) == fold_cycles(width)
            assert ctx.get(dut.total) == reduce_sum(word.view(np.float32)).view(np.uint32)

    simulate(dut, [(bench,)], limit=40_000)


@pytest.mark.parametrize("width", [1, 4, 16])
def test_maxima_with_and_without_sign(width):
    random, dut = np.random.default_rng(width), Maximum(width)

    async def bench(ctx):
        ctx.set(dut.en, 1)
        for count in (1, 3, 17, 64, 65):
            for absolute in (0, 1):
                for sign in (0, 1 << 31):
                    word = _words(random, count) | np.uint32(sign)
                    values = np.abs(word.view(np.float32)) if absolute else word.view(np.float32)
                    assert await _offer(ctx, dut, word, width, absolute=absolute) == dut.latency
                    assert ctx.get(dut.largest) == values.max().view(np.uint32)

    simulate(dut, [(bench,)], limit=40_000)


@pytest.mark.parametrize(("width", "rows"), [(1, 1), (2, 4), (16, 2)])
def test_rotations_of_a_new_position_and_those_behind_it(width, rows):
    """A position that comes while those behind the one before are made waits for what is on its way."""
    head, base = 32, 10000.0
    dut = Rotation(width=width, head_max=64, rows=rows)

    async def ready(ctx, needed):
        ctx.set(dut.needed, needed)
        await ctx.tick()
        waited = 1
        while not ctx.get(dut.ready):
            await ctx.tick()
            waited += 1
        return waited

    async def bench(ctx):
        ctx.set(dut.head_elements, head)
        ctx.set(dut.en, 1)
        for index, step in enumerate(phase_steps(base, head)):
            ctx.set(dut.table.valid, 1)
            ctx.set(dut.table.index, index)
            ctx.set(dut.table.value, step)
            await ctx.tick()
        ctx.set(dut.table.valid, 0)
        await ready(ctx, rows)
        for position, last in ((1, rows), (131_071, rows), (0, 1), (262_143 - rows, rows)):
            idle = ctx.get(dut.ready) and ctx.get(dut.needed) == rows
            ctx.set(dut.position, position)
            waited = await ready(ctx, 1)
            assert waited == rotation_cycles(head) if idle else waited > rotation_cycles(head)
            assert (await ready(ctx, last)) == (head * (rows - 1) if last > 1 else 1)
            cosines, sines = (values.repeat(2, axis=1) for values in rotation(base, head, position + np.arange(last)))
            sines = sines * np.tile(np.array([-1, 1], np.float32), head // 2)
            for row, turn in np.ndindex(last, head // width):
                ctx.set(dut.row, row)
                ctx.set(dut.turn, turn)
                await ctx.tick().repeat(2)
                for lane in range(width):
                    at = turn * width + lane
                    assert ctx.get(dut.cosines[lane]) == cosines[row, at].view(np.uint32)
                    assert ctx.get(dut.sines[lane]) == sines[row, at].view(np.uint32)

    simulate(dut, [(bench,)], limit=40_000)


@pytest.mark.parametrize(("part", "parameters"), [
    (SfuWalk, {"channels": 2}), (SfuBeats, {"width": 4, "channels": 2}), (SfuResults, {"width": 4}),
    (BalancedRound, {"magnitude_bits": 25}), (BalancedRound, {"magnitude_bits": 43}),
])  # fmt: skip
def test_no_signal_is_without_bits_and_no_width_decides_a_comparison(part, parameters):
    found = lint(emit_verilog(part(**parameters), "part"), top="part")
    assert not [finding for finding in found if finding.rule in ("ASCRANGE", "CMPCONST")]


def test_a_queue_whose_head_is_a_register_keeps_the_order_and_shows_a_word_in_the_next_cycle():
    """Fills that overtake, keep up with and fall behind what is taken; one word more than its depth fits."""
    random, dut, most = np.random.default_rng(5), HeadFifo(shape=8, depth=4), 0

    async def bench(ctx):
        nonlocal most
        held = deque()
        for fill, take in ((0.9, 0.2), (0.3, 0.9), (0.6, 0.6), (1, 1)):
            for _ in range(100):
                assert ctx.get(dut.some) == bool(held) and ctx.get(dut.room) >= (len(held) < 5)
                if held:
                    assert ctx.get(dut.head) == held[0]
                word = int(random.integers(256))
                push, pop = random.random() < fill and ctx.get(dut.room), random.random() < take and bool(held)
                ctx.set(dut.push, push)
                ctx.set(dut.word, word)
                ctx.set(dut.pop, pop)
                await ctx.tick()
                if pop:
                    held.popleft()
                if push:
                    held.append(word)
                most = max(most, len(held))

    simulate(dut, [(bench,)], limit=1000)
    assert most == 5
