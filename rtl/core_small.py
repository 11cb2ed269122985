"""The smallest core that is still one: every unit, a memory channel, four columns; for small devices."""

from msgspec.structs import replace

from mixflight.arch.accelerator import accelerator_named
from mixflight.arch.core import CoreMachine


def small_machine() -> CoreMachine:
    """mixpe-mini with one channel, four columns, one lane, an SFU of one element a cycle and buffers of some 100 KiB.

    It is for devices of some 80,000 LUTs of four inputs, whose memories of 18 Kib are 512 words of 36 bits: the depths
    of what is 64 bytes wide take no more of them than shallower ones. A matrix is four rows, so that a lane has the
    sums of 64 outputs of each column, where those of 16 rows take 2,300 LUTs more for distributed memory alone.
    """
    machine = accelerator_named("mixpe-mini")
    assert isinstance(machine, CoreMachine)
    assert machine.array is not None
    buffers = machine.buffers
    return replace(
        machine, name="mixpe-small", array=replace(machine.array, rows=4, cols=4, lanes=1, split=4),
        memory_unit=replace(machine.memory_unit, widen_codes_per_cycle=64, lanes=1),
        hbm=replace(machine.hbm, channels_per_core=1, request_bytes=256),
        ddr=replace(machine.ddr, request_bytes=256), sfu=replace(machine.sfu, elements_per_cycle=1),
        controller=replace(machine.controller, queue_depth=4),
        buffers=replace(
            buffers, weight=replace(buffers.weight, depth=128), act=replace(buffers.act, depth=512),
            vector=replace(buffers.vector, depth=512), index=replace(buffers.index, depth=16),
            scale=replace(buffers.scale, depth=64), instruction=replace(buffers.instruction, depth=64),
        ),
    )  # fmt: skip
