# amaranth: UnusedElaboratable=no
"""Dot products of 16 codes for every column and row of a core's matrix engine: by shift and add, or on DSP chains."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.csd_chain import ROWS, sum_bits
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import CHAIN_GROUP, NARROW_BITS, SHIFT_ADD_STAGES, dots_latency
from mixflight.rtl.csd_chain import CsdChain
from mixflight.rtl.delay import delayed
from mixflight.rtl.placed_copy import place

PLANES = NARROW_BITS + 1


def dots_ports(columns: int, rows: int, width: int, own: bool) -> dict:
    """What every kind has: a step's operands and ``sum`` [row][column], a cycle's worth each.

    ``weights`` [column][k] and ``codes`` [row][k] are bytes, two's complement; with ``own`` every column has codes of
    its own, [row][column][k]. ``high`` and ``narrow`` only matter to kinds that take several passes. The sums of a step
    presented in cycle t are there in cycle t + ``latency``. What is presented without ``valid`` gives sums that mean
    nothing.
    """
    codes = data.ArrayLayout(8, K_BLOCK)
    return {
        "valid": In(1), "high": In(1), "narrow": In(1), "weights": In(data.ArrayLayout(codes, columns)),
        "codes": In(data.ArrayLayout(data.ArrayLayout(codes, columns) if own else codes, rows)),
        "sum": Out(data.ArrayLayout(data.ArrayLayout(signed(width), columns), rows)),
    }


class ShiftAddDots(wiring.Component):
    """MixPE's products: codes of four bits and a sign, by shift and add (arXiv 2411.16158, section 4).

    Every row has adders of its own.

    ``sum_k w_k a_k = sum_i 2**i sum_k w_k[i] a_k``: for every bit of a code the activations whose code has it are
    added, 16 of them in a tree, then the bits' sums are joined by shifts; the sign's counts -16.

    ``narrow``: the codes lie in -16 … 15 and one step is all: bits 3 … 0, and bit 7 as the sign. Otherwise a step
    with ``high`` = 0 takes bits 3 … 0 as they are, and one with ``high`` bits 7 … 4 with bit 7 as the sign: its sums
    count 16 times, which is the receiver's to do.
    """

    passes_of_wide = 2
    latency = SHIFT_ADD_STAGES
    sum_bits = 17
    """16 products of at most 16 x 128, and a sign."""

    def __init__(self, *, columns: int, rows: int = 1, own: bool = False):
        self.columns, self.rows, self.own = columns, rows, own
        super().__init__(dots_ports(columns, rows, self.sum_bits, own))

    def elaborate(self, platform):
        """A column of a row each, all alike."""
        m = Module()
        for row, (given, sums) in enumerate(zip(self.codes, self.sum, strict=True)):
            self._row(m, f"{row}_" if row else "", given, sums)
        return m

    def _row(self, m, prefix, given, sums):
        """One row of activations with every column."""
        for at, (column, total) in enumerate(zip(self.weights, sums, strict=True)):
            number = f"{prefix}{at}"
            codes = [code.as_signed() for code in (given[at] if self.own else given)]
            planes = [self._plane(m, number, bit, column, codes) for bit in range(PLANES)]
            joined = Signal(signed(self.sum_bits), name=f"joined_{number}", reset_less=True)
            low, high = planes[0] + (planes[1] << 1), planes[2] + (planes[3] << 1)
            m.d.sync += joined.eq((low + (high << 2)) - (planes[4] << NARROW_BITS))
            m.d.comb += total.eq(joined)

    def _plane(self, m, number, bit, column, codes):
        """The sum of the activations whose code has the bit, of two halves that are there a step later."""
        terms, counts = [], Signal(name=f"counts_{number}_{bit}")
        for k, (weight, code) in enumerate(zip(column, codes, strict=True)):
            chosen = weight[-1] if bit == NARROW_BITS else Mux(self.high, weight[NARROW_BITS + bit], weight[bit])
            term = Signal(signed(8), name=f"gated_{number}_{bit}_{k}")
            m.d.comb += term.eq(Mux(chosen, code, 0))
            terms.append(term)
        while len(terms) > 2:
            terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
        halves = [Signal(signed(11), name=f"half_{half}_{number}_{bit}", reset_less=True) for half in range(2)]
        m.d.comb += counts.eq(1 if bit < NARROW_BITS else self.high | self.narrow)
        with m.If(self.valid):
            m.d.sync += [half.eq(Mux(counts, term, 0)) for half, term in zip(halves, terms, strict=True)]
        return halves[0] + halves[1]


class ChainDots(wiring.Component):
    """FlightLLM's chains for a few rows: a chain of 16 DSPs a column for every two rows, which share its weights.

    With one row the other half of each DSP's products counts for nothing.
    """

    passes_of_wide = 1

    def __init__(self, *, columns: int, rows: int = 1, variant: str = "dsp48e2", own: bool = False):
        self.columns, self.rows, self.variant, self.own = columns, rows, variant, own
        self.latency = dots_latency(variant)
        self.sum_bits = sum_bits(K_BLOCK)
        super().__init__(dots_ports(columns, rows, self.sum_bits, own))

    def elaborate(self, platform):
        """Chains side by side; nothing ever holds them up."""
        m = Module()
        for first in range(0, self.rows, ROWS):
            rows = range(first, min(first + ROWS, self.rows))
            for number in range(self.columns):
                chain = CsdChain(length=K_BLOCK, group=CHAIN_GROUP, ratios="dense", variant=self.variant,
                                 select="direct")
                place(m, platform, f"chain_{first}_{number}", chain, like="chain_0_0")
                m.d.comb += [chain.wgt.valid.eq(self.valid), chain.wgt.p.segment.eq(3)]
                m.d.comb += [out.ready.eq(1) for out in chain.out]
                m.d.comb += [self.sum[row][number].eq(chain.out[-1].p.sum[row - first]) for row in rows]
                codes = [self.codes[row][number] if self.own else self.codes[row] for row in rows]
                for k in range(K_BLOCK):
                    m.d.comb += chain.wgt.p.w[k].eq(self.weights[number][k].as_signed())
                    m.d.comb += [chain.wgt.p.a[k][row - first].eq(given[k].as_signed())
                                 for row, given in zip(rows, codes, strict=True)]
        return m


def dots_named(kind: str, *, columns: int, rows: int = 1, own: bool = False):
    """The dot products of an engine: ``shift-add``, or the variant of a DSP chain."""
    if kind == "shift-add":
        return ShiftAddDots(columns=columns, rows=rows, own=own)
    if kind in ("dsp48e2", "generic", "dsp58"):
        return ChainDots(columns=columns, rows=rows, variant=kind, own=own)
    raise InputError(f"dots must be shift-add, dsp48e2, generic or dsp58, not {kind!r}, in a matrix engine")


def row_sum(m: Module, dots, codes, row: int):
    """The sum of a step's ``codes`` of ``row``, when its products come; 12 bits."""
    name = f"row_{row}" if row else "row"
    terms = [code.as_signed() for code in codes]
    while len(terms) > 1:
        terms = [left + right for left, right in zip(terms[::2], terms[1::2], strict=True)]
    total = Signal(signed(12), name=f"{name}_tree", reset_less=True)
    m.d.sync += total.eq(terms[0])
    return delayed(m, Const(1), total, dots.latency - 1, f"{name}_sum")
