"""AccelForge (accelforge 1.0.467): the best mapping of a weight-stationary array, as long as its slowest component.

Components are the PEs (K along the rows, N along the columns), DRAM with each operand moved once, and the edge through
which weights enter: one row of the array, ``cols`` bytes, a cycle, double-buffered. There is no fill and no drain. Runs
of the tool on other arrays agree within 1 % where K and N are multiples of the array; a product of 37 x 300 x 100 on
16x8, where they are not, was 6 % faster in the tool.

Its figures were recorded on Python 3.13: on 3.11 the tool is a syntax error and its ``hwcomponents`` has no release.
"""

from mixflight.sim.peers.workload import Estimate, Gemm, Machine, ceil_div, slowest


def components(gemm: Gemm, machine: Machine) -> dict[str, float]:
    """Cycles of each component."""
    tiles = ceil_div(gemm.k, machine.rows) * ceil_div(gemm.n, machine.cols)
    return {
        "MACs": tiles * gemm.m,
        "array edge": gemm.k * gemm.n / machine.cols,
        "DRAM": gemm.bytes_moved / machine.dram_bytes_per_cycle,
    }


def accelforge(gemm: Gemm, machine: Machine) -> Estimate:
    """The slowest component."""
    return slowest(components(gemm, machine))
