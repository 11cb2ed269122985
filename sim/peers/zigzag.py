"""ZigZag (zigzag-dse 3.9.1): AccelForge's components, plus the first tile's weights and the results' way out.

The first tile takes ``rows`` cycles to enter. Where K needs several tiles, partial sums stay on chip and no result
leaves before the last MAC; else the last tile's results come after it. The tool's search over loop orders, which hides
part of this, is not repeated. In runs of the tool on other shapes and arrays, from 16x64 to 128x128, large products
agree within 1 %; those whose transfers last about as long as their MACs are off by 3 to 21 %, in both directions.
"""

from mixflight.sim.peers.accelforge import components
from mixflight.sim.peers.workload import Estimate, Gemm, Machine, ceil_div, slowest


def zigzag(gemm: Gemm, machine: Machine) -> Estimate:
    """The slowest component between first load and last store."""
    tiles = ceil_div(gemm.k, machine.rows) * ceil_div(gemm.n, machine.cols)  # the last ones narrower
    middle = slowest({**components(gemm, machine), "MACs": tiles * gemm.m})
    last = gemm.n if gemm.k > machine.rows else min(gemm.n, machine.cols)
    store = gemm.m * last / machine.dram_bytes_per_cycle
    return Estimate(cycles=middle.cycles + machine.rows + store, limit=middle.limit)
