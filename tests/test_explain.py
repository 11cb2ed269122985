import msgspec
import pytest

from mixflight.explain import CHANGES, CORE_CHANGES, explain
from mixflight.machines import Machine, run
from mixflight.mapping.block_mask import block_mask
from mixflight.sim.core.simulate import simulate_cores
from mixflight.sim.core.units import LIMITS
from mixflight.workload import load_workload

MACHINE = Machine.parse("mixpe-w4a8:w4a8g128")


def test_every_gain_is_the_re_simulated_one():
    base = run(MACHINE, "llama2-7b", 32, 4)
    for phase, name in zip(explain(MACHINE, "llama2-7b", 32, 4), ("prefill", "decode"), strict=True):
        assert sum(phase.limits.values()) == pytest.approx(1)
        assert {gain.change for gain in phase.gains} == set(CHANGES)
        for gain in phase.gains:
            machine = Machine(accelerator=CHANGES[gain.change](MACHINE.accelerator), recipe=MACHINE.recipe)
            changed = getattr(run(machine, "llama2-7b", 32, 4), name)
            assert gain.speedup == pytest.approx(getattr(base, name).time_ms / changed.time_ms)


def test_a_decode_bound_by_the_arrays_edge_wants_columns_not_memory():
    _, decode = explain(MACHINE, "llama2-7b", 32, 4)
    gains = {gain.change: gain.speedup for gain in decode.gains}
    assert gains["twice the columns"] > 1.9
    assert gains["twice the rows"] == pytest.approx(1, abs=0.01)
    assert gains["twice the DRAM bandwidth"] == pytest.approx(1, abs=0.01)
    assert decode.sentence.startswith("decode is bound by array edge for 100% of its time, next by dram; change first: ")


def test_no_change_makes_a_phase_slower_by_more_than_its_own_fill():
    for phase in explain(MACHINE, "llama2-7b", 128, 4):
        assert min(gain.speedup for gain in phase.gains) > 0.999


CORES = Machine.parse("flightllm-u280:w4a8g32")
MASK = block_mask(9, 256, 64, 0.4)


@pytest.mark.parametrize(("path", "masks"), [("fused", ()), ("fused", (MASK,)), ("general", ())])
def test_gains_on_cores_are_re_simulated_on_the_same_path(path, masks):
    """One decode step, so that a phase is the pass that is re-simulated."""
    base = run(CORES, "smollm2-135m", 255, 1, path=path, masks=masks)
    workload = load_workload("smollm2-135m", "w4a8g32")
    found = explain(CORES, "smollm2-135m", 255, 1, base=base, masks=masks)
    for phase, name in zip(found, ("prefill", "decode"), strict=True):
        assert {gain.change for gain in phase.gains} == set(CORE_CHANGES)
        assert set(phase.limits) | {phase.next_limit} <= set(LIMITS)
        assert sum(phase.limits.values()) == pytest.approx(1)
        for operator in getattr(base, name).operators:
            assert {operator.bound_by, operator.next_bound} <= set(LIMITS)
            assert operator.bound_by != operator.next_bound
        best = phase.gains[0]
        machine, effects = CORE_CHANGES[best.change](CORES.accelerator)
        changed = simulate_cores(machine, workload.model, workload.recipe, "w4a8g32", 255, 1, effects=effects,
                                 path=path, masks=masks)  # fmt: skip
        assert best.speedup == pytest.approx(getattr(base, name).time_ms / getattr(changed, name).time_ms)
        assert f"{best.change}, which makes it {best.speedup:.2f} times as fast (re-simulated)" in phase.sentence


def test_masked_blocks_save_time_of_the_prefill_only():
    whole = run(CORES, "smollm2-135m", 256, 1)
    masked = run(CORES, "smollm2-135m", 256, 1, masks=(MASK,))
    assert masked.prefill.time_ms < whole.prefill.time_ms
    assert masked.decode.time_ms == whole.decode.time_ms
    times = [{item.operator: item.cycles for item in found.prefill.operators} for found in (masked, whole)]
    masked_part, whole_part = (sum(item[name] for name in ("qk", "softmax", "av")) for item in times)
    assert masked_part < 0.9 * whole_part
    assert times[0]["gate"] == pytest.approx(times[1]["gate"], rel=0.01)


def test_groups_of_a_batch_are_explained_one_at_a_time():
    base = run(Machine.parse("flightllm-u280:w8a8"), "smollm2-135m", 16, 2, batch=4)
    fewer = msgspec.structs.replace(base, batch=8, groups=2)
    machine = Machine.parse("flightllm-u280:w8a8")
    assert [phase.gains for phase in explain(machine, "smollm2-135m", 16, 2, base=fewer)] == [
        phase.gains for phase in explain(machine, "smollm2-135m", 16, 2, base=base)
    ]
