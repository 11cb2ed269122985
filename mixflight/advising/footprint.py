"""What a machine of cores takes of its device: as its core was synthesised, or estimated.

An estimate has the engine by closed forms of our own synthesis, the rest as published.

A core outside its matrix engine (control, memory path, buffers' logic, SFU of 16 elements a cycle, widening of 1,024
codes a cycle) takes a third of FlightLLM's utilisation table on a U280 (arXiv 2401.03868) less its matrix engines:
128,000 LUTs, 194,333 registers and 145 BRAM36 beside the buffers. What is wider or narrower than that is charged or
credited by our own synthesis. Multipliers in LUTs; mapped, not placed.
"""

import functools
import math
from typing import Any

import msgspec

from mixflight.arch.accelerator import core_machines
from mixflight.arch.array_resources import array_resources
from mixflight.arch.core import Chains, CoreMachine
from mixflight.arch.core_counts import CorePart, core_counts
from mixflight.arch.strict_toml import read_toml
from mixflight.arch.synthesis_counts import COUNTS, counts_named

REST_LUT = (574_000 - 190_000) // 3
REST_FF = (943_000 - 360_000) // 3
REST_BRAM36 = (408 + 24 + 4) // 3
SFU_ELEMENTS, SFU_DSP = 16, 67
WIDENED = 1024
RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")

_CHAIN = "dsp48e2 lutram dense,2:16,4:16,8:16,2:4,4:8"
_SFU_UNITS = ("sfu-exp", "sfu-reciprocal", "sfu-rsqrt")
_FABRIC_CHAIN, _FABRIC_DEPTH = "mixpe-w4a8-dot16-lut", 16


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks of the machine; ``lut_error`` is that of the closed form of arrays, 0 where there is none or a count."""

    lut: int
    ff: int
    dsp: int
    bram36: int
    uram: int
    lut_error: float

    def share(self, machine: CoreMachine) -> dict[str, float]:
        """Of the device, by resource; one that no source gives for the device is left out."""
        return {name: getattr(self, name) / have for name in RESOURCES if (have := getattr(machine.device, name))}


@functools.cache
def _rows(name: str) -> dict[str, dict[str, Any]]:
    table = read_toml(COUNTS.with_name(name))
    return {row["name"]: row for row in table["rows"]}


def _engine(machine: CoreMachine, unit: str) -> float:
    """LUTs or registers of the matrix engine of one core."""
    engine = machine.mpe
    if not isinstance(engine, Chains):
        return float(getattr(array_resources(engine), unit))
    chain = _rows("csd_chain.toml")[_CHAIN]
    own = engine.mpus * engine.chains_per_mpu * engine.chain * chain[unit] / chain["dsp"]
    fabric = counts_named(_FABRIC_CHAIN)
    chains = engine.mpus * engine.fabric_chains_per_mpu * -(-engine.chain // _FABRIC_DEPTH)
    return float(own + chains * getattr(fabric, unit))


def _rest(machine: CoreMachine, unit: str) -> float:
    """The same of all else."""
    element = sum(_rows("sfu.toml")[name][unit] for name in _SFU_UNITS)
    widen = counts_named("widen-lut")
    code = getattr(widen, unit) / int(widen.parameters["lanes"])
    base = REST_LUT if unit == "lut" else REST_FF
    more = machine.memory_unit.widen_codes_per_cycle - WIDENED
    return float(base + (machine.sfu.elements_per_cycle - SFU_ELEMENTS) * element + more * code)


def _synthesised(machine: CoreMachine) -> CorePart | None:
    """The recorded counts of the whole core, where ``machine`` is a preset that has them, unchanged."""
    parts = core_counts().get(machine.name)
    return parts["whole"] if parts and core_machines().get(machine.name) == machine else None


def footprint(machine: CoreMachine) -> Footprint:
    """What ``machine`` takes."""
    whole = _synthesised(machine)
    if whole is not None:
        return Footprint(lut=whole.lut, ff=whole.ff, dsp=whole.dsp, bram36=math.ceil(whole.bram), uram=whole.uram,
                         lut_error=0.0)
    cores, engine = machine.cores, machine.mpe
    error = 0.0 if isinstance(engine, Chains) else array_resources(engine).lut_error
    lut, ff = (round(cores * (_engine(machine, unit) + _rest(machine, unit))) for unit in ("lut", "ff"))
    return Footprint(
        lut=lut, ff=ff, dsp=machine.dsp, bram36=machine.bram36 + cores * REST_BRAM36, uram=machine.uram,
        lut_error=error,
    )  # fmt: skip


def sfu_dsp(elements_per_cycle: int) -> int:
    """DSP blocks of an SFU of so many elements a cycle: in proportion to the published one."""
    return -(-SFU_DSP * elements_per_cycle // SFU_ELEMENTS)
