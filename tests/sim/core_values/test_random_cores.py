"""Random programs of several cores: what they exchange, tokens that suffice."""

import msgspec
import numpy as np
import pytest

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.errors import InputError
from mixflight.mapping.core_sequencer import Sequencer
from mixflight.mapping.core_tiles import slot_bytes
from mixflight.sim.core.execution import compile_streams, execute
from mixflight.sim.core.units import Units
from mixflight.sim.core_values.execute import execute_together
from mixflight.sim.core_values.order import races, received_by
from mixflight.sim.core_values.random_cores import random_cores
from mixflight.sim.core_values.state import new_state, shape_of

DUO = accelerator_named("mixpe-duo")
TRIO = msgspec.structs.replace(
    DUO, cores=3, hbm=msgspec.structs.replace(DUO.hbm, channels=12, capacity_gib=3),
    exchange=msgspec.structs.replace(DUO.exchange, latency_cycles=19),
)  # fmt: skip


@pytest.mark.parametrize("machine", [DUO, TRIO])
@pytest.mark.parametrize("seed", range(3))
def test_cores_together_leave_what_each_was_made_with(machine, seed):
    made = random_cores(machine, seed, count=40)
    states = [new_state(shape_of(machine), item.constants, [data.copy() for data in item.hbm],
                        [item.ddr[0].copy()]) for item in made]  # fmt: skip
    execute_together(states, [item.instructions for item in made])
    programs = [item.instructions for item in made]
    for number, (item, state) in enumerate(zip(made, states, strict=True)):
        for name in ("vector", "act", "act_scales", "weight"):
            assert np.array_equal(getattr(state, name), getattr(item.after, name)), name
        assert all(np.array_equal(*pair) for pair in zip(state.hbm, item.after.hbm, strict=True))
        assert races(item.instructions, shape_of(machine), received=received_by(number, programs)) == []
        alone = new_state(shape_of(machine), item.constants, [data.copy() for data in item.hbm], [item.ddr[0]])
        execute_together([alone], [item.instructions])
        assert any(not np.array_equal(*pair) for pair in zip(alone.hbm, item.after.hbm, strict=True))


def test_the_engine_runs_them():
    made = random_cores(DUO, 5)
    units, pieces = Units(DUO), []
    for item in made:
        count = len(item.text)
        sequencer = Sequencer(item.text, np.zeros(count, np.int64), np.zeros(0, np.int64), slot_bytes(DUO), 4)
        pieces.append(sequencer.expand(item.registers, repeat=False))
    assert execute(units, compile_streams(units, pieces, range(2))).total > 0
    with pytest.raises(InputError, match="all cores must meet at every barrier and exchange"):
        compile_streams(units, [pieces[0], pieces[0].__class__(pieces=(), order=np.zeros(0, np.int64))], range(2))


def test_one_core_meets_no_one():
    with pytest.raises(InputError, match="cores that meet must be 2 at least"):
        random_cores(accelerator_named("mixpe-mini"), 0)
