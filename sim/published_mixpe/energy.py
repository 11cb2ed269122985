"""Counts to energy, as the published model charges them: every PE in every cycle, SRAM a MAC operand, no reuse."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from mixflight.sim.published_mixpe.machines import DramEnergy, Machine, Published

DRAM_ACCESS_BITS = 1024
PARTS = ("static", "dram", "buffer", "core")


class EnergySplit(msgspec.Struct, frozen=True, kw_only=True):
    """Energy in nJ. ``static`` is the DRAM's background power over the run time; buffers leak nothing."""

    static: float
    dram: float
    buffer: float
    core: float

    @property
    def total(self) -> float:
        """All parts."""
        return self.static + self.dram + self.buffer + self.core

    def part(self, name: str) -> float:
        """One of ``PARTS``, or ``total``."""
        return float(getattr(self, name))


def split(counts: NDArray[np.int64], machine: Machine, given: Published) -> EnergySplit:
    """Energy of ``counts`` (order of ``tiling.COUNTS``) on ``machine``."""
    leakage, dynamic = core_nj_per_cycle(machine, given)
    price = _transfer_prices(given, given.dram)
    parts = counts * np.concatenate(([0.0, 0.0], price))
    return EnergySplit(
        static=float(counts[0]) * given.dram.static_nj_per_cycle,
        dram=float(parts[8:10].sum()),
        buffer=float(parts[2:8].sum()),
        core=float(counts[0]) * leakage + float(counts[0] - counts[1]) * dynamic,
    )


def core_nj_per_cycle(machine: Machine, given: Published) -> tuple[float, float]:
    """Leakage and dynamic energy of the whole array in a cycle."""
    power = next(item for item in given.pe if item.bits == machine.bits)
    hertz = given.memory.clock_mhz * 1e6
    pes = machine.rows * machine.cols
    return power.leakage_nw * pes / hertz, power.dynamic_nw * pes / hertz


def search_prices(machine: Machine, given: Published) -> NDArray[np.float64]:
    """The prices that break ties in the search: with SRAM leakage, and with the other DRAM constants."""
    leakage, dynamic = core_nj_per_cycle(machine, given)
    buffers = (given.weight_buffer, given.act_buffer, given.output_buffer)
    sram = sum(item.leakage_mw * item.banks for item in buffers) * 1e6 / (given.memory.clock_mhz * 1e6)
    per_cycle = leakage + sram + given.dram_in_search.static_nj_per_cycle
    return np.concatenate(([per_cycle, dynamic], _transfer_prices(given, given.dram_in_search)))


def _transfer_prices(given: Published, dram: DramEnergy) -> NDArray[np.float64]:
    buffers = (given.weight_buffer, given.act_buffer, given.output_buffer)
    accesses = [energy / item.port_bits for item in buffers for energy in (item.read_nj, item.write_nj)]
    return np.array([*accesses, dram.read_nj / DRAM_ACCESS_BITS, dram.write_nj / DRAM_ACCESS_BITS])
