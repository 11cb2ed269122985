"""AccelForge (accelforge 1.0.467): the best mapping of a weight-stationary array, as long as its slowest component.

Components are the PEs (K along the rows, N along the columns), DRAM with each operand moved once, and the edge through
which weights enter: one row of the array, ``cols`` bytes, a cycle, double-buffered. There is no fill and no drain. The
tool cuts a dimension into equal parts only, so that as many rows are busy as the largest divisor of K allows, and
columns by N: of 300 columns' worth of N an array of 8 columns uses 6.

A slow test runs the tool (Python 3.12 or later: on 3.11 it is a syntax error and its ``hwcomponents`` has no release).
With tokens and results in a level of buffers above the weights' it meets the formula to the cycle on 43 of 44 random
products and machines and is 0.8 % above it on the last. Limited by DRAM it loads operands again where tokens and
results do not fit that level. With three levels, one a tensor, it does so in any case: 0.2 to 4 % more on most shapes,
20 % where K and N have few divisors.
"""

from mixflight.sim.peers.workload import Estimate, Gemm, Machine, slowest


def components(gemm: Gemm, machine: Machine) -> dict[str, float]:
    """Cycles of each component."""
    rows, columns = _busy(gemm.k, machine.rows), _busy(gemm.n, machine.cols)
    return {
        "MACs": gemm.macs / (rows * columns),
        "array edge": gemm.k * gemm.n / machine.cols,
        "DRAM": gemm.bytes_moved / machine.dram_bytes_per_cycle,
    }


def accelforge(gemm: Gemm, machine: Machine) -> Estimate:
    """The slowest component."""
    return slowest(components(gemm, machine))


def _busy(size: int, lanes: int) -> int:
    """The most of ``lanes`` over which ``size`` is cut into equal parts."""
    return max(parts for parts in range(1, min(size, lanes) + 1) if size % parts == 0)
