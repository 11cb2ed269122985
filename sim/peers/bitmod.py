"""The simulator of BitMoD (abdelfattah-lab/BitMoD-HPCA-25 e445a5f): the longer of compute and DRAM with refetch.

Outputs lie along the rows and tokens along the columns of the array, and every tile takes K / ``per_step`` steps of
``ceil(bits / 2)`` cycles (bit-serial) or one (an INT8 PE). Of inputs and weights, whichever is cheaper is fetched once
for every 512 KiB, the buffers fixed in the tool, of the other. Attention's heads are one operator.
"""

import math

import msgspec

from mixflight.sim.peers.workload import Estimate, Gemm, Machine, ceil_div

BUFFER_BYTES = 512 * 1024


class Bits(msgspec.Struct, frozen=True, kw_only=True):
    """Stored bits of weights (scales included), activations and cached values, and what a PE does in a cycle."""

    weight: float = 8
    act: int = 8
    cache: int = 8
    per_step: int = 1
    serial: bool = False


def compute(gemm: Gemm, machine: Machine, bits: Bits) -> int:
    """Compute cycles of all heads."""
    stored = bits.weight if gemm.heads == 1 else bits.cache
    cycles = ceil_div(math.floor(stored), 2) if bits.serial else 1
    tiles = ceil_div(gemm.n, machine.rows) * ceil_div(gemm.m, machine.cols)
    return gemm.heads * tiles * ceil_div(gemm.k, bits.per_step) * cycles


def dram(gemm: Gemm, machine: Machine, bits: Bits) -> float:
    """DRAM cycles of all heads."""
    stored = bits.weight if gemm.heads == 1 else bits.cache
    weights = gemm.heads * gemm.k * gemm.n * stored / 8
    inputs, outputs = (gemm.heads * gemm.m * length * bits.act / 8 for length in (gemm.k, gemm.n))
    weights_again = math.ceil(inputs / BUFFER_BYTES) * weights + inputs
    inputs_again = math.ceil(weights / BUFFER_BYTES) * inputs + weights
    return (min(weights_again, inputs_again) + outputs) / machine.dram_bytes_per_cycle


def bitmod(gemm: Gemm, machine: Machine, bits: Bits | None = None) -> Estimate:
    """The longer of the two, for one head."""
    bits = bits or Bits()
    computing, moving = compute(gemm, machine, bits), dram(gemm, machine, bits)
    if moving > computing:
        return Estimate(cycles=moving / gemm.heads, limit="DRAM")
    limit = "idle columns" if 2 * gemm.m <= machine.cols else "MACs"
    return Estimate(cycles=computing / gemm.heads, limit=limit)
