"""Compiled passes of a small model on FlightLLM cores."""

import subprocess
import sys

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import core_machines
from mixflight.arch.isa import CLASSES
from mixflight.arch.prices import machine_prices
from mixflight.sim.core.scenario import Cores, Effects, limits, total
from mixflight.sim.core.simulate import simulate_cores
from mixflight.sim.core.units import LIMIT, LIMITS
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named
from mixflight.workloads.trace import decode_traces, prefill_trace

U280 = core_machines()["flightllm-u280"]
MODEL, RECIPE = model_named("smollm2-135m"), recipe_named("w8a8")


def cores(**options):
    return Cores(U280, MODEL, RECIPE, max_context=256, **options)


def test_contexts_of_a_block_take_the_same_time():
    machine = cores()
    times = {context: machine.step(context).cycles for context in range(31, 36)}
    assert len({times[context] for context in range(33, 36)}) == 1
    assert times[32] < times[33]
    assert machine.step(48).cycles == times[33] < machine.step(49).cycles
    done = machine.decode(30, 5)
    assert done.cycles == pytest.approx(sum(times.values()))


def test_repetition_of_layers_is_exact_in_a_compiled_pass():
    machine = cores()
    for trace in (prefill_trace(MODEL, RECIPE, 40), next(iter(decode_traces(MODEL, RECIPE, 199, 1)))):
        program = machine.program(trace)
        short, full = machine.execute(program), machine.execute(program, repeat=False)
        assert short.total == full.total
        np.testing.assert_allclose(short.spent, full.spent)
        sliced = machine.execute(program, with_slices=True)
        assert max(rows[:, 4].max() for rows in sliced.slices) == full.total
        assert sum(len(rows) for rows in sliced.slices) <= full.instructions


@pytest.mark.parametrize("context", [40, 700, 2000])
def test_equal_tiles_with_the_addresses_of_the_first_take_the_time_of_their_own(context):
    machine = Cores(U280, MODEL, RECIPE, max_context=2048)
    traces = [next(iter(decode_traces(MODEL, RECIPE, context - 1, 1)))]
    for trace in [*traces, prefill_trace(MODEL, RECIPE, context)][: 1 + (context < 700)]:
        once, each = (machine.compiler.compile(trace, repeat=repeat) for repeat in (True, False))
        assert sum(len(piece) for item in once.streams for piece in item.pieces) < 0.4 * sum(map(len, each.streams))
        for one, other in zip(once.streams, each.streams, strict=True):
            assert [one.count(kind) for kind in CLASSES] == [other.count(kind) for kind in CLASSES]
            assert one.total("LD", "bytes") == other.total("LD", "bytes")
        short, full = machine.execute(once), machine.execute(each, repeat=False)
        assert short.instructions == full.instructions
        assert short.total == pytest.approx(full.total, rel=0.003)


def test_a_long_prefill_takes_less_than_a_gigabyte():
    """All of it: interpreter, libraries, compiler, program, engine and counts of 33 million instructions; the loops are
    compiled before, in a process of their own, which takes LLVM more memory. The peak is the process's own: getrusage
    would have that of the tests' process, from which it came."""
    script = """
import sys
from pathlib import Path
from mixflight.arch.accelerator import core_machines
from mixflight.sim.core.scenario import Cores
from mixflight.workloads.model import model_named
from mixflight.workloads.recipe import recipe_named

cores = Cores(core_machines()["flightllm-u280"], model_named("llama2-7b"), recipe_named("flightllm"), max_context=2048)
instructions = cores.prefill(int(sys.argv[1])).instructions
print(instructions, Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""
    for tokens in (256, 2048):
        command = [sys.executable, "-c", script, str(tokens)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    instructions, kilobytes = map(int, done.stdout.split())
    assert instructions > 30e6
    assert kilobytes * 1024 < 1e9


def test_the_time_owned_is_the_time_taken():
    run = cores().step(128)
    assert run.spent.sum() == pytest.approx(run.cycles, rel=0.01)
    assert limits(run.load)[0] == "dram"
    assert all(0 <= share <= 1.0001 for share in run.busy.values())


def test_counts_are_those_of_the_trace():
    trace = next(iter(decode_traces(MODEL, RECIPE, 127, 1)))
    run = cores().step(128)
    assert run.counts["pe.dsp48e2", "mac"].sum() == trace.macs
    read = run.counts["hbm", "read_bit"].sum() / 8
    assert read == pytest.approx(trace.weight_bytes + trace.kv_bytes, rel=0.1)


@pytest.mark.parametrize("effect", ["rows", "refresh", "fill", "exchange", "ports"])
def test_no_effect_makes_a_pass_shorter(effect):
    whole, without = cores().step(128).cycles, cores(effects=Effects(**{effect: False})).step(128).cycles
    assert without <= whole
    assert (without < whole) or effect == "ports"


def test_activations_that_leave_the_chip_cost_time_and_bytes():
    inside, outside = cores().step(128), cores(effects=Effects(on_chip=False)).step(128)
    assert outside.cycles > inside.cycles
    moved = [run.counts["hbm", "read_bit"].sum() + run.counts["hbm", "write_bit"].sum() for run in (inside, outside)]
    assert moved[0] < moved[1]


def test_a_scenario_has_energy_by_component_and_static_power_by_time():
    found = simulate_cores(U280, MODEL, RECIPE, "w8a8", 16, 3)
    for phase in (found.prefill, found.decode):
        assert sum(item.pj for item in phase.components.values()) == pytest.approx(phase.energy.pj)
        static = machine_prices(U280.technology, U280.memories).of("static", "u280_ns")
        assert phase.components["static"].pj == pytest.approx(static.value_pj * phase.time_ms * 1e6)
        assert phase.energy.low_pj < phase.energy.pj < phase.energy.high_pj
        assert phase.bound_by in LIMITS
        assert phase.next_bound in LIMITS
        assert phase.next_bound != phase.bound_by
        assert sum(item.cycles for item in phase.operators) == pytest.approx(phase.time_ms * 225e3)
        assert all(item.utilisation <= 1.0001 for item in phase.operators)
    assert found.decode.tokens == 3


def test_passes_add_up():
    one = cores().step(20)
    both = total([(one, 2), (one, 1)])
    assert both.cycles == 3 * one.cycles
    assert both.spent[:, LIMIT["dram"]].sum() == pytest.approx(3 * one.spent[:, LIMIT["dram"]].sum())
    assert both.busy == pytest.approx(one.busy)


@pytest.mark.parametrize("tokens", [None, 32])
def test_an_array_in_a_core_runs_a_pass(tokens):
    machine = core_machines()["mixpe-core"]
    if tokens:
        changed = {"dataflow": "weight-stationary", "tokens": tokens, "split": 1}
        machine = msgspec.structs.replace(machine, array=msgspec.structs.replace(machine.array, **changed))
    found = simulate_cores(machine, MODEL, recipe_named("w4a8g32"), "w4a8g32", 16, 2)
    assert found.decode.time_ms > 0
    assert found.prefill.macs / found.prefill.time_ms * 1e3 < machine.peak_macs_per_s
