import pytest

from mixflight.explain import CHANGES, explain
from mixflight.machines import Machine, run

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
