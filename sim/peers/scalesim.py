"""SCALE-Sim (scalesim 3.0.0) as a closed form: tiles one after the other, each filled, streamed and drained.

Weight-stationary, a tile of R inner elements by C outputs takes R cycles to load, M to stream and R + C - 2 to drain;
output-stationary, a tile of R tokens by C outputs takes K and R + C - 2. Nothing overlaps and DRAM is free, as in the
tool's default mode. The forms equal the tool in every run that finishes, at any shape (a slow test repeats some).
"""

from mixflight.sim.peers.workload import Estimate, Gemm, Machine, array_limit, ceil_div


def weight_stationary(gemm: Gemm, machine: Machine) -> Estimate:
    """Cycles with weights held in the array."""
    overhead = 2 * machine.rows + machine.cols - 2
    tiles = ceil_div(gemm.k, machine.rows) * ceil_div(gemm.n, machine.cols)
    limit = "MACs" if gemm.m > overhead else "tile fill and drain"
    return Estimate(cycles=tiles * (gemm.m + overhead) - 1, limit=limit)


def output_stationary(gemm: Gemm, machine: Machine) -> Estimate:
    """Cycles with results held in the array."""
    overhead = machine.rows + machine.cols - 2
    tiles = ceil_div(gemm.m, machine.rows) * ceil_div(gemm.n, machine.cols)
    limit = array_limit(gemm, machine.rows) if gemm.k > overhead else "tile fill and drain"
    return Estimate(cycles=tiles * (gemm.k + overhead) - 1, limit=limit)
