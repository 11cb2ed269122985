"""The common workload: one layer of LLaMA2-7B in INT8 as five distinct products, on an array with DRAM and buffers."""

from collections.abc import Callable
from typing import Literal

import msgspec

from mixflight.arch.errors import InputError

Phase = Literal["prefill", "decode"]
PHASES: tuple[Phase, ...] = ("prefill", "decode")

HIDDEN, FFN, HEADS, HEAD = 4096, 11008, 32, 128
PREFILL_TOKENS, DECODE_CONTEXT = 512, 1024


NO_TILE = "no tile fits the buffers"


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """An INT8 array of ``rows`` x ``cols`` PEs, one MAC a PE and cycle, and three buffers of ``buffer_kib``.

    Which dimension lies along the rows is each tool's own choice.
    """

    rows: int = 32
    cols: int = 32
    dram_bytes_per_cycle: int = 64
    buffer_kib: int = 128

    def __post_init__(self) -> None:
        for field in ("rows", "cols"):
            if not 1 <= getattr(self, field) <= 1024:
                raise InputError(f"--array must have 1 to 1024 rows and columns, not {self.rows}x{self.cols}")
        if self.dram_bytes_per_cycle < 1:
            raise InputError(f"--dram-bytes-per-cycle must be at least 1, not {self.dram_bytes_per_cycle}")
        if self.buffer_kib < 1:
            raise InputError(f"--buffer-kib must be at least 1, not {self.buffer_kib}")

    @property
    def pes(self) -> int:
        """PEs, and MACs a cycle."""
        return self.rows * self.cols

    @property
    def shape(self) -> str:
        """``ROWSxCOLS``."""
        return f"{self.rows}x{self.cols}"


BASE = Machine()
BIG = Machine(rows=128, cols=128, dram_bytes_per_cycle=256, buffer_kib=1024)


class Gemm(msgspec.Struct, frozen=True, kw_only=True):
    """[m, k] x [k, n]; ``uses`` of it stand in a layer, as ``heads`` of one attention operator where that is not 1."""

    name: str
    m: int
    n: int
    k: int
    uses: int = 1
    heads: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one use."""
        return self.m * self.n * self.k

    @property
    def bytes_moved(self) -> int:
        """Bytes with each operand moved once."""
        return self.k * self.n + self.m * (self.k + self.n)


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Cycles of one use of a product, and what set them."""

    cycles: float
    limit: str


Model = Callable[[Gemm, Machine], Estimate]


def layer(phase: Phase) -> tuple[Gemm, ...]:
    """The products of a layer: q stands for Q, K, V and O, gate for gate and up, qk and av for one head each."""
    m = PREFILL_TOKENS if phase == "prefill" else 1
    context = PREFILL_TOKENS if phase == "prefill" else DECODE_CONTEXT
    return (
        Gemm(name="q", m=m, n=HIDDEN, k=HIDDEN, uses=4),
        Gemm(name="qk", m=m, n=context, k=HEAD, uses=HEADS, heads=HEADS),
        Gemm(name="av", m=m, n=HEAD, k=context, uses=HEADS, heads=HEADS),
        Gemm(name="gate", m=m, n=FFN, k=HIDDEN, uses=2),
        Gemm(name="down", m=m, n=HIDDEN, k=FFN),
    )


def ceil_div(a: int, b: int) -> int:
    """a / b rounded up."""
    return -(-a // b)


def slowest(candidates: dict[str, float]) -> Estimate:
    """The longest of several times, named."""
    limit = max(candidates, key=lambda name: candidates[name])
    return Estimate(cycles=candidates[limit], limit=limit)


def array_limit(gemm: Gemm, rows: int) -> str:
    """What an output-stationary array is short of: MACs, or tokens to fill its ``rows``."""
    return "idle rows" if 2 * gemm.m <= rows else "MACs"
