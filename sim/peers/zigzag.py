"""ZigZag (zigzag-dse 3.9.1): AccelForge's components, plus the first tile's weights and the results' way out.

The first tile takes ``rows`` cycles to enter and no result leaves before the last MAC. The second is true of products
whose results the search keeps on chip; the search itself, which hides part of the store of large products, is not
repeated, so figures agree within a percent rather than to the cycle.
"""

from mixflight.sim.peers.accelforge import components
from mixflight.sim.peers.workload import Estimate, Gemm, Machine, slowest


def zigzag(gemm: Gemm, machine: Machine) -> Estimate:
    """The slowest component between first load and last store."""
    middle = slowest(components(gemm, machine))
    store = gemm.m * gemm.n / machine.dram_bytes_per_cycle
    return Estimate(cycles=middle.cycles + machine.rows + store, limit=middle.limit)
