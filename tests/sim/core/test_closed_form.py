"""The closed form of decoders on cores against the engine: the same counts, and times that err to one side."""

import msgspec
import pytest
from tiny_llama import KINDS, TinyLlama

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.sim.core.closed_form import ClosedForm, decoder_of, estimate_cores
from mixflight.sim.core.scenario import Cores
from mixflight.sim.core.simulate import simulate_cores
from mixflight.sweeping.design import load_workload_of as load_workload
from mixflight.workloads.recipe import recipe_named


def machine_of(cores=3, **changes):
    return msgspec.structs.replace(accelerator_named("flightllm-u280"), cores=cores, **changes)


def estimate(machine, workload, batch, prefill, decode):
    def decoder_with(sequences):
        return decoder_of(workload.model, workload.recipe, prefill, decode, sequences)

    return estimate_cores(machine, decoder_with, batch, prefill, decode)


@pytest.mark.parametrize(
    ("recipe", "cores", "batch", "prefill"),
    [("w4a8g32", 1, 1, 40), ("w4a8g32", 3, 2, 200), ("w4-8of16", 2, 1, 128), ("w8a8", 2, 1, 300)],
)
def test_times_err_to_one_side_and_moved_bytes_are_the_engines(recipe, cores, batch, prefill):
    workload, machine = load_workload("smollm2-135m", recipe), machine_of(cores)
    found = simulate_cores(machine, workload.model, workload.recipe, recipe, prefill, 8, batch)
    phases = estimate(machine, workload, batch, prefill, 8)
    for form, engine in zip(phases, (found.prefill, found.decode), strict=True):
        assert -0.005 < engine.time_ms / form.time_ms - 1 < 0.5
        assert form.tokens == engine.tokens
        assert form.dram_bytes == pytest.approx(engine.dram_bytes, rel=0.03)


def test_counts_of_a_step_are_those_of_its_program():
    workload, machine = load_workload("smollm2-135m", "w4-8of16"), machine_of(2)
    decoder = decoder_of(workload.model, workload.recipe, 128, 16, 1)
    steps = tuple((msgspec.structs.replace(network, context=144), 0.5) for network, _ in decoder.decode)
    form = ClosedForm(machine, msgspec.structs.replace(decoder, decode=steps))
    cores = Cores(machine, workload.model, workload.recipe, max_context=144)
    second = form.run(steps)
    first = form.run(((decoder.prefill, 1.0),))
    for ours, run in ((first, cores.prefill(128, 16)), (second, cores.step(144))):
        for key, values in run.counts.items():
            if key != ("controller", "instruction"):
                assert ours.counts.get(key, 0.0) == pytest.approx(float(values.sum()), rel=0.005, abs=1e-6), key


@pytest.mark.parametrize("kind", ["gpt2", "everything"])
def test_decoders_of_other_families(kind):
    """Plain FFN, LayerNorm with biases, learned positions, soft caps, norms behind the residual."""
    shape = {"layers": 4, "hidden": 768, "heads": 12, "kv_heads": 12, "head_dim": 64, "ffn": 3072, "vocab": 4000}
    model, recipe, machine = TinyLlama.model_of(**KINDS[kind] | shape), recipe_named("w4a8g32"), machine_of(3)
    found = simulate_cores(machine, model, recipe, "w4a8g32", 200, 8, 2)
    assert found.path == "fused"
    phases = estimate_cores(machine, lambda sequences: decoder_of(model, recipe, 200, 8, sequences), 2, 200, 8)
    for form, engine in zip(phases, (found.prefill, found.decode), strict=True):
        assert -0.005 < engine.time_ms / form.time_ms - 1 < 0.5
        assert form.dram_bytes == pytest.approx(engine.dram_bytes, rel=0.001)


def test_what_only_the_engine_knows_has_no_closed_form():
    workload = load_workload("llama2-7b", "flightllm")  # its prefill leaves blocks out
    assert decoder_of(workload.model, workload.recipe, 512, 8, 1) is None
    small = load_workload("smollm2-135m", "w4a8g32")
    assert estimate(machine_of(units="rtl"), small, 1, 32, 4) is None


def test_what_does_not_fit_is_refused_as_the_engine_refuses_it():
    workload, machine = load_workload("llama2-7b", "w8a8"), machine_of(1)
    with pytest.raises(InputError) as engine:
        simulate_cores(machine, workload.model, workload.recipe, "w8a8", 32, 4)
    with pytest.raises(InputError) as form:
        estimate(machine, workload, 1, 32, 4)
    assert str(form.value) == str(engine.value)
