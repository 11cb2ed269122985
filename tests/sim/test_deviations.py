"""The sizes that sim/DEVIATIONS.md states."""

import re
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named, accelerators
from mixflight.arch.array_pipeline import sum_bits
from mixflight.arch.prices import price_table
from mixflight.mapping.block_mask import block_mask
from mixflight.sim.simulate import Engine, simulate
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

TEXT = (Path(__file__).resolve().parents[2] / "sim" / "DEVIATIONS.md").read_text()
CASES = {"llama2-7b": "w4a8g128", "smollm2-135m": "w4a8g32"}


def _timed(arch, name, phase):
    engine = Engine(accelerator_named(arch))
    model, recipe = model_named(name), recipe_named(CASES[name])
    trace = prefill_trace(model, recipe, 128) if phase == "prefill" else next(decode_traces(model, recipe, 255, 1))
    return [(engine.time(op), len(op.layers)) for op in trace.operators]


def _overlap_gain(arch, name, phase):
    timed = _timed(arch, name, phase)
    total = sum(layers * item.activity.cycles for item, layers in timed)
    busy = [
        sum(layers * getattr(item, unit) for item, layers in timed)
        for unit in ("array_cycles", "dram_cycles", "sfu_cycles")
    ]
    return total / max(busy) - 1


@pytest.mark.parametrize(
    ("name", "phase", "least", "most"),
    [("llama2-7b", "decode", 0.002, 0.005), ("smollm2-135m", "decode", 0.014, 0.065),
     ("llama2-7b", "prefill", 0.0224, 0.0889), ("smollm2-135m", "prefill", 0.1623, 0.6073)],
)  # fmt: skip
def test_d1_operators_one_after_the_other(name, phase, least, most):
    gains = [_overlap_gain(arch, name, phase) for arch in accelerators() if arch != "mixpe-w4a8-split"]
    assert min(gains) == pytest.approx(least, abs=0.002)
    assert max(gains) == pytest.approx(most, abs=0.002)


@pytest.mark.parametrize(
    ("name", "decode", "prefill"), [("llama2-7b", 0.039, 0.090), ("smollm2-135m", 0.322, 0.669)]
)
def test_d1_of_split_rows(name, decode, prefill):
    assert _overlap_gain("mixpe-w4a8-split", name, "decode") == pytest.approx(decode, abs=0.002)
    assert _overlap_gain("mixpe-w4a8-split", name, "prefill") == pytest.approx(prefill, abs=0.002)


def test_d2_a_dram_bound_operator_pays_the_efficiency():
    assert 1 / accelerator_named("int8").dram.stream_efficiency - 1 == pytest.approx(0.087, abs=0.001)


def test_d3_bytes_at_the_arrays_edge():
    array = accelerator_named("mixpe-w4a8").array
    assert array.rows * array.element.act_bits // 8 + array.cols * array.element.weight_bits // 8 == 64
    split = accelerator_named("mixpe-w4a8-split").array
    assert split.rows * split.element.act_bits // 8 + split.tile(split.split)[1] * split.element.weight_bits // 8 == 160


def test_d4_accumulator_bits():
    def bits(terms, passes):
        return sum_bits(group_max=terms, w_bits=4, a_bits=8, passes=passes)

    assert (bits(128, 1), bits(128, 2)) == (19, 23)
    assert bits(11008, 2) - bits(128, 2) == 7


def _linears(arch, name):
    return [(item, layers) for item, layers in _timed(arch, name, "decode") if item.kind == "linear"]


def _cycles(parts):
    return sum(layers * item.activity.cycles for item, layers in parts)


def test_d7_one_row_of_a_decode():
    linears = [item for item, _ in _linears("mixpe-w4a8", "llama2-7b") if item.operator != "head"]
    assert all(0.028 < item.utilisation <= 1 / 32 for item in linears)
    assert {item.bound_by for item in linears} == {"array edge"}


def test_d7_split_rows():
    linears = _linears("mixpe-w4a8-split", "llama2-7b")
    used = sum(layers * item.activity.cycles * item.utilisation for item, layers in linears) / _cycles(linears)
    assert used == pytest.approx(0.107, abs=0.001)
    for name, share in (("llama2-7b", 0.29), ("smollm2-135m", 0.40)):
        split = _timed("mixpe-w4a8-split", name, "decode")
        assert _cycles(split) / _cycles(_timed("mixpe-w4a8", name, "decode")) == pytest.approx(share, abs=0.005)
        assert all(item.bound_by == "dram" for item, _ in split if item.kind == "linear")
    timed = {item.operator: item.array_cycles for item, _ in split}       # SmolLM2, K = 576 and a context of 256
    assert timed["k"] == timed["v"] == 576
    whole = {item.operator: item.array_cycles for item, _ in _timed("mixpe-w4a8", "smollm2-135m", "decode")}
    assert timed["k"] == whole["k"] / 3
    assert timed["av"] == whole["av"]


def _energies(arch):
    """Prefill of 128 tokens and 16 steps of decode of LLaMA2-7B, pJ."""
    found = simulate(accelerator_named(arch), model_named("llama2-7b"), recipe_named("w4a8g128"), "w4a8g128", 128, 16)
    return found.prefill.energy.pj, found.decode.energy.pj


def test_d8_prices_of_our_own_switching():
    literature, ours = (price_table(name) for name in ("45nm-literature", "osu018-scaled"))
    for pe, times in (("pe.shift-add-4x8", 4.9), ("pe.multiply-8x8", 7.9)):
        assert ours.of(pe, "mac").value_pj / literature.of(pe, "mac").value_pj == pytest.approx(times, abs=0.06)
    pairs = zip(_energies("mixpe-w4a8@osu018-scaled"), _energies("mixpe-w4a8"), strict=True)
    assert [scaled / published for scaled, published in pairs] == pytest.approx([1.89, 1.04], abs=0.01)


@pytest.mark.parametrize(("arch", "prefill", "decode"), [("mixpe-w4a8", 2.1, 2.51), ("mixpe-w4a8-split", 2.1, 1.46)])
def test_d8_leakage_of_buffers(arch, prefill, decode):
    machine, pairs = accelerator_named(arch), zip(_energies(f"{arch}@45nm-sram-leakage"), _energies(arch), strict=True)
    assert [leaking / still for leaking, still in pairs] == pytest.approx([prefill, decode], abs=0.05)
    watts = sum(machine.buffers.kib.values()) * price_table("45nm-sram-leakage").of("sram.act", "leak_kib_ns").value_pj / 1e3
    assert watts == pytest.approx(0.90, abs=0.005)


def test_every_deviation_is_numbered_once_and_in_order():
    numbers = [int(number) for number in re.findall(r"^\*\*D(\d+)\.", TEXT, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_d9_floats_as_int8_take_the_time_of_int8_and_the_bytes_of_fp16():
    machine, model = accelerator_named("mixpe-w4a8"), model_named("smollm2-135m")
    floats, integers = (
        simulate(machine, model, recipe_named(name), name, 128, 4, float_operands="int8") for name in ("fp16", "w8a8")
    )
    assert integers.int8_operands == ()
    assert {"q", "down", "qk", "av", "head"} <= set(floats.int8_operands)
    for phase in ("prefill", "decode"):
        assert getattr(floats, phase).time_ms == pytest.approx(getattr(integers, phase).time_ms, rel=0.005)
    ratio = floats.decode.dram_bytes / integers.decode.dram_bytes
    assert ratio == pytest.approx(1.99, abs=0.01)
    assert "1.99 times" in TEXT
    assert "within 0.5 %" in TEXT


def test_d10_a_stream_of_loads_takes_what_the_whole_stream_takes():
    from mixflight.arch.accelerator import core_machines
    from mixflight.sim.core.memory import ChannelTiming
    from mixflight.sim.dram import stream_time

    machine = core_machines()["flightllm-u280"]
    timing = ChannelTiming(channels=machine.hbm, clock_mhz=machine.clock_mhz)
    for size in (4096, 65536, 1 << 20):
        count = (8 << 20) // size
        apart = timing.occupancy(np.full(count, size), np.arange(count) * size, write=False).sum()
        whole = stream_time(machine.hbm.dram, bytes=count * size, request_bytes=512, outstanding=16)
        assert apart + timing.latency_cycles == pytest.approx(whole * machine.clock_mhz / 1e3, rel=0.002)
    assert "within 0.2 %" in TEXT


@pytest.fixture(scope="module")
def u280_times():
    """Cycles of (a prefill of 128 tokens, a decode step at a context of 640) of LLaMA2-7B on a changed U280."""
    from mixflight.arch.accelerator import core_machines
    from mixflight.mapping.core_program import BUFFERS
    from mixflight.sim.core.scenario import Cores, Effects
    from mixflight.workload import load_workload

    workload = load_workload("llama2-7b", "flightllm")

    def times(door: int = 0, tables: dict[str, dict[str, int]] | None = None, **effects: bool) -> np.ndarray:
        machine = core_machines()["flightllm-u280"]
        changes = {name: msgspec.structs.replace(getattr(machine, name), **fields)
                   for name, fields in (tables or {}).items()}  # fmt: skip
        machine = msgspec.structs.replace(machine, **changes)
        cores = Cores(machine, workload.model, workload.recipe, max_context=1024, effects=Effects(**effects))
        if door:
            cores.units.port_bytes[BUFFERS.index("weight")] = door
        return np.array([cores.prefill(128).cycles, cores.step(640).cycles])

    return times, times()


def test_d11_widening_at_the_door_and_ports(u280_times):
    times, base = u280_times
    np.testing.assert_allclose(times(door=512) / base, 1, atol=1e-6)
    three_bits = times(door=384) / base - 1
    assert 0 <= three_bits[0] < 0.001
    assert three_bits[1] == pytest.approx(0.011, abs=0.001)
    ports = 1 - times(ports=False) / base
    assert 0.0003 < ports[0] < 0.001
    assert 0 <= ports[1] < 0.0003


def test_d12_the_exchange_and_the_sequencer(u280_times):
    times, base = u280_times
    width = 64
    assert 1 - times(exchange=False)[0] / base[0] == pytest.approx(0.039, abs=0.001)
    for factor, prefill in ((2, -0.02), (0.5, 0.04)):
        changed = times(tables={"exchange": {"bytes_per_cycle": int(width * factor)}}) / base - 1
        assert changed[0] == pytest.approx(prefill, abs=0.002)
        assert abs(changed[1]) < 0.001
    free = times(tables={"controller": {"loop_cycles": 0, "issue_cycles": 0}})
    np.testing.assert_allclose(free / base, 1, atol=1e-4)
    assert "3.9 % less" in TEXT


def test_d12_and_d13_effects_of_the_corrected_u280():
    from mixflight.arch.accelerator import core_machines
    from mixflight.sim.core.scenario import Cores, Effects
    from mixflight.workload import load_workload

    workload = load_workload("llama2-7b", "flightllm")

    def rate(**effects: bool) -> float:
        machine = core_machines()["flightllm-u280"]
        cores = Cores(machine, workload.model, workload.recipe, max_context=2048, effects=Effects(**effects))
        return machine.clock_mhz * 1e6 / cores.step(640).cycles

    base = rate()
    assert base == pytest.approx(93, abs=1)
    assert base / rate(rows=False) == pytest.approx(1 - 0.08, abs=0.01)
    assert rate(on_chip=False) / base == pytest.approx(1 - 0.04, abs=0.005)
    for effect in ("fill", "ports", "exchange"):
        assert rate(**{effect: False}) / base == pytest.approx(1, abs=0.001)
    assert "93 token/s" in TEXT


def _by_rows(operator, block=64):
    """The rows of blocks of a mask that is drawn for the density, as dense products of their own widths."""
    mask = block_mask(operator.count, operator.m // operator.causal_step, block, operator.density)
    wide, most = ("n", operator.n) if operator.kind == "qk" else ("k", operator.k)
    for width, count in Counter((mask.sum(axis=2) * block).reshape(-1).tolist()).items():
        yield msgspec.structs.replace(
            operator, density=1.0, causal_step=0, count=count, m=block * operator.causal_step,
            **{wide: min(width, most)},
        )


@pytest.mark.parametrize(("tokens", "products", "together"), [
    (512, (-0.112, 0.103), (-0.108, 0.034)), (2048, (-0.025, 0.013), (-0.006, 0.013)),
])  # fmt: skip
def test_d14_rows_of_blocks_take_their_mean_width(tokens, products, together):
    each, both = [], []
    trace = prefill_trace(model_named("llama2-7b"), recipe_named("flightllm"), tokens)
    sparse = [  # on chip, so that only the array's time differs
        msgspec.structs.replace(operator, kv_read_bytes=0) for operator in trace.operators if operator.kind in ("qk", "av")
    ]  # fmt: skip
    assert [round(operator.density, 2) for operator in sparse] == ([0.8, 0.8] if tokens == 512 else [0.3, 0.3])
    for name in accelerators():
        engine = Engine(accelerator_named(name))
        ours = [engine.time(operator).array_cycles for operator in sparse]
        rows = [sum(engine.time(row).array_cycles for row in _by_rows(operator)) for operator in sparse]
        each += [mean / exact - 1 for mean, exact in zip(ours, rows, strict=True)]
        both.append(sum(ours) / sum(rows) - 1)
    assert (min(each), max(each)) == pytest.approx(products, abs=0.002)
    assert (min(both), max(both)) == pytest.approx(together, abs=0.002)
