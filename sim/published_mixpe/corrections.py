"""What is left of the published speed-up over INT8 as the array is corrected one step at a time.

One OPT-6.7B layer (four products, no dequantisation), M tokens, in the published model: same buffers, same search.
"""

from collections.abc import Iterator

import msgspec

from mixflight.sim.published_mixpe.machines import Machine
from mixflight.sim.published_mixpe.run import Search
from mixflight.sim.published_mixpe.workloads import Gemm, layer_shapes

TOKENS = (1, 16, 64, 256, 2048)
MODEL = "opt-6.7b"


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A machine and the bits that its activations and weights are given."""

    name: str
    machine: Machine
    act_bits: int
    weight_bits: int


def variants(search: Search) -> tuple[Variant, ...]:
    """From MixPE-W4A8 as published to one 4x8 MAC a PE on INT8's array; ANT for comparison."""
    mixpe = search.given.machine("mixpe-w4a8")
    honest = msgspec.structs.replace(mixpe, one_mac_per_pe=True)
    return (
        Variant(name="artifact", machine=mixpe, act_bits=4, weight_bits=4),
        Variant(name="a8w4-two-macs", machine=mixpe, act_bits=8, weight_bits=4),
        Variant(name="64x64-one-mac", machine=honest, act_bits=8, weight_bits=4),
        Variant(name="32x48-one-mac", machine=_sized(honest, 32, 48), act_bits=8, weight_bits=4),
        Variant(name="32x32-one-mac", machine=_sized(honest, 32, 32), act_bits=8, weight_bits=4),
        Variant(name="ant", machine=search.given.machine("ant"), act_bits=4, weight_bits=4),
    )


def layer_cycles(search: Search, machine: Machine, tokens: int, act_bits: int, weight_bits: int) -> int:
    """Cycles of the four products of a layer for ``tokens`` rows."""
    hidden = next(item.hidden for item in search.given.model if item.name == MODEL)
    return sum(
        search.schedule(
            Gemm(batch=tokens, inputs=inputs, outputs=outputs, act_bits=act_bits, weight_bits=weight_bits), machine
        ).cycles
        for inputs, outputs in layer_shapes(hidden).values()
    )  # fmt: skip


def int8_cycles(search: Search) -> dict[int, int]:
    """Tokens to cycles of the INT8 array, all operands 8 bits."""
    return {tokens: layer_cycles(search, search.given.machine("int8"), tokens, 8, 8) for tokens in TOKENS}


def speedups(search: Search, baseline: dict[int, int]) -> Iterator[tuple[str, int, float]]:
    """(variant, tokens, speed-up over ``baseline``)."""
    for variant in variants(search):
        for tokens in TOKENS:
            cycles = layer_cycles(search, variant.machine, tokens, variant.act_bits, variant.weight_bits)
            yield variant.name, tokens, baseline[tokens] / cycles


def _sized(machine: Machine, rows: int, cols: int) -> Machine:
    return msgspec.structs.replace(machine, rows=rows, cols=cols)
