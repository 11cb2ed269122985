"""The sparse DSP chain as data: how it is cut, what its sums are and when they come.

``mixflight.rtl.csd_chain`` is built from these numbers, ``mixflight.sim.csd_timing`` derives cycles from them and
``mixflight.sim.golden.csd_chain`` says the values.

A chain of L products is cut into segments of N: each segment gives one sum of N products in each of two activation
rows. Dense weights take one segment of L. N:M weights (N of every M neighbours kept, as in FlightLLM, arXiv 2401.03868,
section 4.1) take L / N segments, each for an output channel of its own, and each product names by an index which of the
slab's activations it takes.
"""

from collections.abc import Sequence

from mixflight.arch.errors import InputError

LOW_BITS = 18
"""Bits of the lower of two sums packed in one 48-bit cascade."""

SHORT_SUM = 8
"""Most products that one lower lane holds."""

START_BIAS = 1 << (LOW_BITS - 1)
"""What a lower sum starts at: up to 4 products keep it in 0 ... 2**18 - 1, and it is taken away by inverting a bit."""

LOW_BIAS = SHORT_SUM * 127 * 128
"""What it is lowered to within a sum of 8: 130,048 = 127 * 2**10 keeps that in 0 ... 261,120 < 2**18."""

KEPT_BITS = 10
"""Of a sum of 8 products that 8 more follow, the low bits stay in the cascade and the others leave it. The second half
then ends in 0 ... (2**10 - 1) + 131,072 + LOW_BIAS = 2**18 - 1: not one bit to spare, and none missing."""

INPUT_STAGES = 1
"""Registers between the chain's streams and its first cell."""

PRODUCT_STAGES = 4
"""Registers of a cell from its operands to the cascade's sum: operand, pre-adder, product, sum."""

RATIOS: dict[str, tuple[int, int]] = {
    "dense": (16, 16), "2:16": (2, 16), "4:16": (4, 16), "8:16": (8, 16), "2:4": (2, 4), "4:8": (4, 8)}
"""Name → (N, M) of what a chain of 16 can take; dense is N = L."""

VARIANTS = ("dsp48e2", "generic", "dsp58")
"""How the products and their cascade are made."""

ROWS = 2
"""Activation rows that share a weight."""


def products_per_cell(variant: str) -> int:
    """Products of each row in one cell: a DSP48E2 does one of both rows, two DSP58 do two of one row each."""
    return 2 if variant == "dsp58" else 1


def segment_lengths(*, length: int, ratios: Sequence[str]) -> tuple[int, ...]:
    """The distinct N of ``ratios`` on a chain of ``length``, ascending; dense is the whole chain."""
    for name in ratios:
        if name not in RATIOS:
            raise InputError(f"ratios must be among {', '.join(RATIOS)}, not {name!r}, in a DSP chain")
    lengths = {length if name == "dense" else RATIOS[name][0] for name in ratios}
    if not lengths or max(lengths) > length:
        raise InputError(f"every segment must fit the chain: {', '.join(ratios)} needs {max(lengths, default=0)} of "
                         f"{length} products")
    return tuple(sorted(lengths))


def slab_entries(*, length: int, ratios: Sequence[str]) -> int:
    """Activations that a product can choose from: the largest M, and all of a dense chain's."""
    return max(length if name == "dense" else RATIOS[name][1] for name in ratios)


def sum_bits(length: int) -> int:
    """Bits of the signed sum of ``length`` products of two INT8, -128 x -128 included."""
    return (length << 14).bit_length() + 1


def node_latency(*, node: int, group: int, variant: str) -> int:
    """Advancing cycles from taking a step to offering the sum that ends in reduction node ``node``."""
    cells = (node + 1) * group // products_per_cell(variant)
    return INPUT_STAGES + cells - 1 + PRODUCT_STAGES
