"""What number formats cost in quality: the recorded errors and perplexities of SmolLM2, one row a design point.

``quality.toml`` is written by ``python -m mixflight.sim.mixpe_corrected.record_quality``.

    POINTS            weights, activations and the PE that runs them
    quality_table     the recorded rows
    score             one point on the real file: what is recorded
"""

import dataclasses
import functools
from pathlib import Path

import msgspec
import numpy as np

from mixflight.arch.errors import InputError
from mixflight.arch.formats import format_named
from mixflight.arch.strict_toml import convert, read_toml
from mixflight.sim.evaluation.prepare import operators
from mixflight.sim.evaluation.score import Losses, Perplexity, golden, losses
from mixflight.sim.golden.linear import GroupedWeight
from mixflight.sim.golden.llama import Llama
from mixflight.sim.golden.numerics import Activation, Numerics
from mixflight.sim.mixpe_corrected.quantised import in_format, noise_ratio

QUALITY = Path(__file__).with_name("quality.toml")


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of the blocks in format ``weight``, activations in ``act``, on the PE ``pe`` of ``hardware.toml``.

    ``kv`` is INT8 with INT8 activations and FP16 with FP16 ones. The head stays as the file has it (Q8_0).
    """

    weight: str
    act: str
    pe: str

    @property
    def name(self) -> str:
        """As in ``quality.toml``."""
        return f"{self.weight}/{self.act}"


_NARROW, _WIDE, _ALIGNED, _FLOAT = "mixpe-w4a8-pe", "int8-pe", "mixpe-w4a16-aligned-pe", "fp16-pe"
POINTS = (
    *(Point(weight=weight, act="int8-g32", pe=_NARROW) for weight in (
        "int4", "int4-g64", "int4-g32", "uint4-z4", "uint4-g192-z4", "uint4-g64-z4", "uint4-g32-z4", "q4_1")),
    Point(weight="uint4-g64-z4", act="int8", pe=_NARROW),
    *(Point(weight=weight, act="int8-g32", pe=_WIDE) for weight in ("mxfp4", "iq4_nl", "int8", "q8_0")),
    *(Point(weight=weight, act="f16", pe=_ALIGNED) for weight in ("uint4-g64-z4", "q4_1")),
    *(Point(weight=weight, act="f16", pe=_FLOAT) for weight in ("fp4-g64", "nf4-g64", "f16")),
)  # fmt: skip
"""128 does not divide SmolLM2's 576: groups of 32, 64 and 192, and whole rows."""


class Quality(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One point, measured.

    ``snr_blocks_db``  of all linears of the blocks against their stored values, which are 4-bit codes already (Q4_1):
                       None where nothing changes
    ``snr_head_db``    of the LM head, which the file stores in 8 bits, quantised to the same format: what the format
                       costs a tensor that was not rounded to 4 bits before
    ``ratio``          perplexity over that of the FP32 forward pass on the stored values; ``_low``, ``_high`` its 95 %
                       interval, block by block on the same text
    """

    name: str
    pe: str
    bits_per_weight: float
    snr_blocks_db: float | None = None
    snr_head_db: float | None = None
    perplexity: float
    perplexity_low: float
    perplexity_high: float
    ratio: float
    ratio_low: float
    ratio_high: float


class QualityTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows and what they were measured on."""

    model_sha256: str
    text_sha256: str
    text_tokens: int
    unquantised_perplexity: float
    rows: list[Quality]


@functools.cache
def quality_table() -> QualityTable:
    """The recorded table."""
    table: QualityTable = convert(read_toml(QUALITY), QualityTable, QUALITY.name)
    return table


def blocks(llama: Llama) -> dict[str, str]:
    """Names in the file of the linears that the points quantise."""
    return {name: file for name, file in operators(llama).items() if name != "head"}


def errors(llama: Llama, point: Point) -> tuple[dict[str, GroupedWeight], float | None, float | None]:
    """The blocks' linears at ``point``, and the two SNRs in dB."""
    wanted = format_named(point.weight, "a design point")
    names = list(blocks(llama).values())
    before = {name: llama.linears[name] for name in names}
    after = {name: in_format(weight, wanted, name) for name, weight in before.items()}
    head = llama.linears[llama.head_name]
    stored = point.weight == "q4_1"  # exactly as in the file
    return (
        before if stored else after,
        None if stored else noise_ratio(list(before.values()), list(after.values())),
        noise_ratio([head], [in_format(head, wanted, "head")]),
    )


def score(llama: Llama, point: Point, tokens: list[int], reference: Losses) -> Quality:
    """Measure ``point`` on ``tokens``; ``reference`` are the losses of the unquantised forward pass on them."""
    linears, snr_blocks, snr_head = errors(llama, point)
    kv = "f16" if point.act == "f16" else "int8"
    numerics = Numerics(activations=dict.fromkeys(llama.linears, Activation.named(point.act)), k=kv, v=kv)
    changed = dataclasses.replace(llama, linears={**llama.linears, **linears})
    found = losses(tokens, golden(changed, numerics))
    if not np.isfinite(found).all():
        raise InputError(f"losses must be finite, not so at {point.name}")
    wanted = format_named(point.weight, "a design point")
    sizes = [(weight.n, weight.k) for weight in linears.values()]
    stored = sum(n * wanted.row_bits(k) for n, k in sizes)
    value, ratio = Perplexity.of(found), Perplexity.ratio(found, reference)
    return Quality(
        name=point.name, pe=point.pe, bits_per_weight=stored / sum(n * k for n, k in sizes),
        snr_blocks_db=snr_blocks, snr_head_db=snr_head, perplexity=value.value, perplexity_low=value.low,
        perplexity_high=value.high, ratio=ratio[0], ratio_low=ratio[1], ratio_high=ratio[2],
    )  # fmt: skip
