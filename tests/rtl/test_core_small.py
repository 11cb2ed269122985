"""The core that is placed on a small device: programs of everything, bytes as the executor's, cycles as the engine's."""

import pytest

from mixflight.rtl.core import Core, core_shape
from mixflight.rtl.core_harness import build_core
from mixflight.rtl.core_small import small_machine
from mixflight.sim.core_values.random_program import random_program
from mixflight.verify_core import check_core, parts_of, run_program

MACHINE = small_machine()


@pytest.fixture(scope="module")
def model():
    return build_core(Core(MACHINE))


@pytest.mark.slow
@pytest.mark.parametrize("part", parts_of(core_shape(MACHINE).classes))
def test_units_and_all_together(model, part):
    found = check_core(model, MACHINE, part, seeds=range(3))
    assert found.messages == ()
    assert found.cycles_sim == pytest.approx(found.cycles_rtl, rel=0.005)


@pytest.mark.slow
def test_windows_at_the_ends_of_the_buffers(model):
    for seed in range(2):
        assert run_program(model, MACHINE, random_program(MACHINE, seed, windows="high"), stall=20).wrong == ""
