"""The smallest core that is still one: every unit, two memory channels, 16 columns; for small devices."""

from msgspec.structs import replace

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine


def small_machine() -> CoreMachine:
    """mixpe-mini with two channels, one lane, an SFU of one element a cycle and the buffers of a toy.

    It is for devices of some 80,000 LUTs of four inputs, not to run a model.
    """
    machine = accelerator_named("mixpe-mini")
    assert isinstance(machine, CoreMachine)
    buffers = machine.buffers
    return replace(
        machine, name="mixpe-small", memory_unit=replace(machine.memory_unit, lanes=1),
        hbm=replace(machine.hbm, channels_per_core=2), sfu=replace(machine.sfu, elements_per_cycle=1),
        buffers=replace(
            buffers, weight=replace(buffers.weight, depth=64), act=replace(buffers.act, depth=64),
            vector=replace(buffers.vector, depth=256), index=replace(buffers.index, depth=16),
            scale=replace(buffers.scale, depth=64), instruction=replace(buffers.instruction, depth=64),
        ),
        controller=replace(machine.controller, queue_depth=4),
    )  # fmt: skip
