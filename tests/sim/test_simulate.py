import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.prices import price_table
from mixflight.mapping.compile import compile_trace
from mixflight.sim.activity import Activity
from mixflight.sim.cost import energy_by_component, total_energy
from mixflight.sim.engine import time_command
from mixflight.sim.simulate import simulate
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace


def run(arch, model="llama2-7b", recipe="w4a8g128", prefill=128, decode=8, batch=1):
    return simulate(accelerator_named(arch), model_named(model), recipe_named(recipe), recipe, prefill, decode, batch)


def test_timing_each_distinct_operator_once_equals_running_every_command():
    machine, model, recipe = accelerator_named("mixpe-w4a8"), model_named("smollm2-135m"), recipe_named("w4a8g32")
    result = run("mixpe-w4a8", "smollm2-135m", "w4a8g32", 16, 3)
    for phase, traces in (
        (result.prefill, [prefill_trace(model, recipe, 16)]), (result.decode, list(decode_traces(model, recipe, 16, 3)))
    ):  # fmt: skip
        cycles = sum(
            time_command(command, machine).activity.cycles
            for trace in traces for command in compile_trace(trace, machine).commands for _ in command.layers
        )  # fmt: skip
        assert phase.time_ms == pytest.approx(cycles / 500e3)


@pytest.mark.parametrize("arch", ["mixpe-w4a8", "mul4x8", "int8", "fp16"])
def test_decode_is_bounded_by_bytes_and_macs(arch):
    machine = accelerator_named(arch)
    result = run(arch)
    trace = next(decode_traces(model_named("llama2-7b"), recipe_named("w4a8g128"), 128, 1))
    per_token_s = result.decode.time_ms / 8 * 1e-3
    assert per_token_s >= trace.weight_bytes / (machine.dram.peak_gb_s * 1e9)
    assert per_token_s >= trace.macs / machine.peak_macs_per_s
    assert result.decode.dram_bytes / 8 >= trace.weight_bytes + trace.kv_bytes


def test_prefill_of_llama2_7b_comes_close_to_the_mac_bound():
    result = run("mixpe-w4a8")
    bound_ms = result.prefill.macs / accelerator_named("mixpe-w4a8").peak_macs_per_s * 1e3
    assert 1 < result.prefill.time_ms / bound_ms < 1.2


def test_energy_is_the_sum_of_its_components_and_its_band_holds_it():
    phase = run("mixpe-w4a8").decode
    assert sum(item.pj for item in phase.components.values()) == pytest.approx(phase.energy.pj)
    assert sum(item.energy.pj for item in phase.operators) == pytest.approx(phase.energy.pj)
    assert phase.energy.low_pj < phase.energy.pj < phase.energy.high_pj


def test_dram_energy_is_bytes_times_price():
    phase = run("int8").decode
    assert phase.components["dram"].pj == pytest.approx(phase.dram_bytes * 8 * 3.9)


def test_macs_are_priced_at_each_pass():
    phase = run("mixpe-w4a8", recipe="w8a8").decode  # 8-bit weights: two nibble passes for every MAC
    assert phase.components["pe.shift-add-4x8"].pj == pytest.approx(2 * phase.macs * 0.203)


def test_fp16_operands_are_three_digits_on_a_pe_of_four_bit_weights():
    """Linears one visit, FP16 keys, values and head three; every activation is aligned as it enters."""
    phase = run("mixpe-w4a16", recipe="w4a16g128").decode
    traces = decode_traces(model_named("llama2-7b"), recipe_named("w4a16g128"), 128, 8)
    operators = [op for trace in traces for op in trace.operators if op.weight]
    narrow = sum(op.macs * len(op.layers) for op in operators if op.weight.bits == 4)
    macs = phase.components["pe.shift-add-4x16-aligned"].pj / 0.274
    assert macs == pytest.approx(narrow + 3 * (phase.macs - narrow))
    assert phase.components["align"].pj > 0
    float_sums = run("fp16", recipe="w4a16g128").decode
    assert "align" not in float_sums.components


def test_a_larger_batch_uses_the_idle_rows():
    one, many = run("mixpe-w4a8"), run("mixpe-w4a8", batch=16)
    assert many.decode.time_ms < 1.5 * one.decode.time_ms
    assert many.decode.tokens == 16 * one.decode.tokens


def test_activities_add_and_scale():
    first, second = Activity(2, {("a", "x"): 1.0}), Activity(3, {("a", "x"): 2.0, ("b", "y"): 1.0})
    total = Activity.total([first, second.scaled(2)])
    assert total == Activity(8, {("a", "x"): 5.0, ("b", "y"): 2.0})


def test_leakage_stands_apart():
    activity = Activity(1, {("pe.multiply-8x8", "leak_ns"): 1000.0, ("pe.multiply-8x8", "mac"): 10.0})
    parts = energy_by_component(activity, price_table("45nm-literature"))
    assert parts["pe.multiply-8x8 leakage"].pj == pytest.approx(23.0)  # 23 uW for 1 us = 23 pJ
    assert parts["pe.multiply-8x8"].pj == pytest.approx(2.98)
    assert total_energy(activity, price_table("45nm-literature")).pj == pytest.approx(25.98)
