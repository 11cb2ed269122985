"""Dequantising before or after the product: multiplies by each, in closed form and as the engine counts them.

Before: every weight once a pass of a weight tile, ``K N ceil(M / Mt)`` with Mt tokens a pass. After: every output once
a group, ``M N K / G``. They are equal at Mt = G, whatever the shape (M a multiple of Mt).
"""

import functools

import msgspec

from mixflight.arch.formats import format_named
from mixflight.mapping.compile import command_of
from mixflight.sim.engine import time_command
from mixflight.sim.mixpe_corrected.machines import GROUP, sized
from mixflight.workloads.operators import Operator

TOKENS = 512
EDGE = 4096
TILES = (1, 4, 16, 32, 64, 128, 256, 512)
_WEIGHT = "uint4-g128-z4"


class Multiplies(msgspec.Struct, frozen=True, kw_only=True):
    """Dequantising multiplies of one product by both placements."""

    before: float
    after: float

    @property
    def ratio(self) -> float:
        """Before over after: above 1 dequantising group sums is less work."""
        return self.before / self.after


def closed_form(tile_tokens: int, *, m: int = TOKENS, n: int = EDGE, k: int = EDGE, group: int = GROUP) -> Multiplies:
    """Of an [m, k] x [k, n] product with ``tile_tokens`` tokens a weight tile."""
    return Multiplies(before=float(k * n * -(-m // tile_tokens)), after=float(m * n * k // group))


@functools.cache
def counted(tile_tokens: int) -> Multiplies:
    """What the engine counts on an array of ``tile_tokens`` rows: weights that enter the array, and group sums that
    its lanes scale."""
    weight, act = format_named(_WEIGHT, "the crossover"), format_named("int8", "the crossover")
    weight_bits = EDGE * weight.row_bits(EDGE)
    operator = Operator(
        name="product", kind="linear", layers=(0,), m=TOKENS, n=EDGE, k=EDGE, weight=weight, act=act,
        weight_bytes=weight_bits // 8,
    )  # fmt: skip
    base = sized("mixpe-w4a8").accelerator(split=1)
    array = msgspec.structs.replace(base.array, rows=tile_tokens, lanes=base.array.cols)
    machine = msgspec.structs.replace(base, array=array)
    counts = time_command(command_of(operator, machine), machine).activity.counts
    entered = counts["sram.weight", "read_bit"] / (weight_bits / (EDGE * EDGE))
    return Multiplies(before=entered, after=counts["lanes", "fp32_mul"] / 2)
