"""The model that LD and ST of the RTL are held to, against the executor of whole programs."""

import numpy as np
import pytest
from core_memory_model import BUFFERS, Model, Shape, random_phases

from mixflight.arch.compact import SLOTS
from mixflight.arch.control_constants import ControlConstants
from mixflight.sim.core_values import state as core_state
from mixflight.sim.core_values.transfers import load, store


@pytest.mark.parametrize(("shape", "head"), [
    (Shape(channels=2, lanes=8), 64), (Shape(channels=1, lanes=4), 32), (Shape(channels=8, lanes=4), 64),
    (Shape(channels=8, lanes=8, weight_depth=128), 128)])
def test_both_leave_the_same_bytes(shape, head):
    random = np.random.default_rng(head)
    model = Model(shape, head, random)
    sizes = core_state.Shape(
        channels=shape.channels, step=shape.step, global_lines=shape.vector_depth, act_lines=shape.act_depth,
        words=shape.weight_depth // SLOTS, scale_bytes=4 * shape.lanes * shape.scale_depth // SLOTS,
        index_bytes=2 * shape.lanes * shape.index_depth // SLOTS)
    constants = ControlConstants(**dict.fromkeys(ControlConstants.__struct_fields__, 0) | {"head_elements": head})
    other = core_state.new_state(sizes, constants, [octets.copy() for octets in model.hbm], [model.ddr.copy()])
    other.vector[:] = model.vector
    other.act[:] = model.act[:, :, :16].reshape(shape.act_depth, -1)
    seen = set()
    for phase in random_phases(model, random, 12, 8):
        for f in phase["load"]:
            load(other, f)
            seen.add((f["buffer"], f["layout"], f["wide"], f["ddr"]))
        for f in phase["store"]:
            store(other, f)
    for mine, theirs in zip([*model.hbm, model.vector], [*other.hbm, other.vector], strict=True):
        assert np.array_equal(mine, theirs)
    weight = other.weight.view(np.uint8).transpose(0, 2, 1, 3, 4).reshape(model.weight.shape)
    assert np.array_equal(model.weight, weight)
    for mine, banks in ((model.scale, other.scale), (model.index, other.index)):
        assert np.array_equal(mine, banks.transpose(1, 0, 2).reshape(mine.shape))
    assert {kind for kind, *_ in seen} == {BUFFERS[name] for name in ("weight", "scale", "index", "global")}
    assert {layout for _, layout, *_ in seen} == {0, 1, 2}
