"""Devices by name, and the designs from which a walk on one of them starts."""

from collections.abc import Callable

import msgspec

from mixflight.advising.footprint import RESOURCES, footprint
from mixflight.arch.accelerator import core_machines
from mixflight.arch.array import Array
from mixflight.arch.core import CoreMachine, Device
from mixflight.arch.errors import InputError

_KV260 = Device(name="KV260", dsp=1248, lut=117_120, ff=234_240, bram36=144, uram=64)
"""DS987: the K26 module."""


def _with_array(base: CoreMachine, name: str) -> CoreMachine:
    """The cores of ``base`` with a MixPE array of 16 x 64 each in place of the chains."""
    array = core_machines()["mixpe-core"]
    shape = msgspec.structs.replace(_array(array), rows=16)
    buffers = msgspec.structs.replace(base.buffers, index=array.buffers.index)
    sources = {key: value for key, value in base.sources.items() if not key.startswith(("chains", "buffers.index"))}
    sources |= {"array": "mixpe-core, rows halved", "buffers.index": "mixpe-core", "memory_unit.lanes": "the array's"}
    unit = msgspec.structs.replace(base.memory_unit, lanes=shape.lanes)
    return msgspec.structs.replace(
        base, name=name, summary=f"MixPE arrays in the cores of {base.name}", chains=None, array=shape,
        buffers=buffers, memory_unit=unit, sources=sources,
    )  # fmt: skip


def _array(machine: CoreMachine) -> Array:
    assert machine.array is not None
    return machine.array


def _hbm_device(preset: str) -> tuple[CoreMachine, ...]:
    chains = core_machines()[preset]
    return chains, _with_array(chains, f"mixpe-{chains.device.name.lower()}")


def _kv260() -> tuple[CoreMachine, ...]:
    """One core on the K26's DDR4; the published core does not fit, and the error says so."""
    base = core_machines()["mixpe-core"]
    ddr = msgspec.structs.replace(base.ddr, channels=1, channels_per_core=1, port_bytes_per_cycle=85.3, capacity_gib=4)
    shape = msgspec.structs.replace(_array(base), rows=8, cols=16, lanes=16)
    return (msgspec.structs.replace(base, name="mixpe-kv260", device=_KV260, hbm=ddr, array=shape, luts=1),)


DEVICES: dict[str, Callable[[], tuple[CoreMachine, ...]]] = {
    "u280": lambda: _hbm_device("flightllm-u280"),
    "vhk158": lambda: _hbm_device("flightllm-vhk158"),
    "kv260": _kv260,
}


def counted(machine: CoreMachine) -> CoreMachine:
    """``machine`` with the LUTs of its footprint, which must fit its device."""
    found = footprint(machine)
    for name in RESOURCES:
        have, used = getattr(machine.device, name), getattr(found, name)
        if have and used > have:
            raise InputError(f"the machine must fit its device: {used:,} {name} of {have:,} on {machine.device.name}")
    return msgspec.structs.replace(machine, luts=found.lut)


def starts(device: str, arch: CoreMachine | None = None) -> tuple[CoreMachine, ...]:
    """Designs to start from on ``device``: those of the device, or ``arch``, which must be made for it."""
    if device not in DEVICES:
        raise InputError(f"--device must be one of {', '.join(DEVICES)}, not {device!r}")
    if arch is None:
        try:
            return tuple(counted(item) for item in DEVICES[device]())
        except ValueError as error:
            raise InputError(f"{error}: no start design is known for it") from None
    if arch.device.name.lower() != device:
        raise InputError(f"--arch must be a machine of {device}, not of {arch.device.name}")
    return (counted(arch),)
