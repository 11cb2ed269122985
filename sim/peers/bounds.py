"""Rooflines: a product takes the longer of its arithmetic at one MAC a PE and cycle and its DRAM bytes.

The lower bound and LLM-Viewer (hahnyuan/LLM-Viewer 472f71f) move each operand once. GenZ (genz-llm 0.0.16) moves
weights and the cache at DRAM's rate and then activations at the on-chip memory's, which is the array's edge here,
``cols`` bytes a cycle; it runs Q, K and V as one product and gate and up as another, and in decode adds a second pair
of attention products for the token itself.
"""

from mixflight.sim.peers.workload import HEAD, HEADS, HIDDEN, Estimate, Gemm, Machine, Phase, layer, slowest


def bound(gemm: Gemm, machine: Machine) -> Estimate:
    """The longer of arithmetic and DRAM."""
    return slowest({"MACs": gemm.macs / machine.pes, "DRAM": gemm.bytes_moved / machine.dram_bytes_per_cycle})


def _genz_product(gemm: Gemm, machine: Machine) -> Estimate:
    moving = gemm.k * gemm.n / machine.dram_bytes_per_cycle + gemm.m * (gemm.k + gemm.n) / machine.cols
    return slowest({"MACs": gemm.macs / machine.pes, "DRAM": moving})


def genz(gemm: Gemm, machine: Machine) -> Estimate:
    """GenZ's time; gate's is half of gate and up as one product."""
    if gemm.name != "gate":
        return _genz_product(gemm, machine)
    fused = _genz_product(Gemm(name="gate+up", m=gemm.m, n=2 * gemm.n, k=gemm.k), machine)
    return Estimate(cycles=fused.cycles / 2, limit=fused.limit)


def genz_layer(phase: Phase, machine: Machine) -> float:
    """GenZ's layer: fused Q, K and V, and the token's own attention in decode."""
    gemms = {gemm.name: gemm for gemm in layer(phase)}
    m = gemms["q"].m
    total = _genz_product(Gemm(name="qkv", m=m, n=3 * HIDDEN, k=HIDDEN), machine).cycles
    total += genz(gemms["q"], machine).cycles
    total += sum(gemms[name].uses * genz(gemms[name], machine).cycles for name in ("qk", "av", "gate", "down"))
    if phase == "decode":
        own = (Gemm(name="qk", m=1, n=1, k=HEAD), Gemm(name="av", m=1, n=HEAD, k=1))
        total += HEADS * sum(genz(gemm, machine).cycles for gemm in own)
    return total
