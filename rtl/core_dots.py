# amaranth: UnusedElaboratable=no
"""Dot products of 16 codes for every column and row of a core's matrix engine: by shift and add, or on DSP chains."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.compact import K_BLOCK
from mixflight.arch.csd_chain import INPUT_STAGES, ROWS, products_per_cell, sum_bits
from mixflight.arch.errors import InputError
from mixflight.arch.mv_pipeline import CHAIN_GROUP, NARROW_BITS, SHIFT_ADD_STAGES, dots_latency
from mixflight.rtl.csd_core import CsdCore, segment_code
from mixflight.rtl.delay import delayed
from mixflight.rtl.placed_copy import place

ALWAYS = Const(1)
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
    added, 16 of them in a tree, then the bits' sums are joined by shifts; the sign's counts -16. Two codes have one,
    the other, both or none of their activations: what both are together is added once for all bits and columns, and a
    LUT a bit chooses, which is what the first adders of every tree would be.

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
        """Rows side by side."""
        m = Module()
        for row, (given, sums) in enumerate(zip(self.codes, self.sum, strict=True)):
            self._row(m, f"{row}_" if row else "", given, sums)
        return m

    def _row(self, m, prefix, given, sums):
        """One row of activations with every column: the halves of every bit's sum, and what they join to."""
        planes, columns = self.columns * PLANES, range(self.columns)
        m.submodules[f"{prefix}halves"] = halves = Sums(count=2 * planes, width=10)
        m.submodules[f"{prefix}nibbles"] = nibbles = Sums(count=2 * self.columns, width=12, shift=1)
        shared = None if self.own else _pairs(m, f"pair_{prefix}", given)
        for at, column in enumerate(self.weights):
            pairs = _pairs(m, f"pair_{prefix}{at}_", given[at]) if shared is None else shared
            for bit in range(PLANES):
                terms = self._terms(m, f"{prefix}{at}_{bit}", bit, column, pairs)
                for half in range(2):
                    adder, first = 2 * (PLANES * at + bit) + half, 4 * half
                    m.d.comb += [halves.left[adder].eq(terms[first] + terms[first + 1]),
                                 halves.right[adder].eq(terms[first + 2] + terms[first + 3])]  # fmt: skip
        kept = [Signal.like(total, name=f"half_{prefix}{at}", reset_less=True) for at, total in enumerate(halves.sum)]
        with m.If(self.valid):
            m.d.sync += [half.eq(total) for half, total in zip(kept, halves.sum, strict=True)]
        plane = [kept[2 * at] + kept[2 * at + 1] for at in range(planes)]
        for at in columns:
            own = plane[PLANES * at : PLANES * (at + 1)]
            for half in range(2):
                m.d.comb += [nibbles.left[2 * at + half].eq(own[2 * half]),
                             nibbles.right[2 * at + half].eq(own[2 * half + 1])]  # fmt: skip
            joined = Signal(signed(self.sum_bits), name=f"joined_{prefix}{at}", reset_less=True)
            low, high = nibbles.sum[2 * at], nibbles.sum[2 * at + 1]
            m.d.sync += joined.eq(low + (high << 2) - (own[-1] << NARROW_BITS))
            m.d.comb += sums[at].eq(joined)

    def _terms(self, m, number, bit, column, pairs):
        """Of each pair what the codes that have the bit leave of it."""
        has = Signal(K_BLOCK, name=f"has_{number}")
        if bit < NARROW_BITS:
            m.d.comb += has.eq(Mux(self.high, Cat(weight[NARROW_BITS + bit] for weight in column),
                                   Cat(weight[bit] for weight in column)))  # fmt: skip
        else:
            m.d.comb += has.eq(Mux(self.high | self.narrow, Cat(weight[-1] for weight in column), 0))
        terms = []
        for at, (left, right, both) in enumerate(pairs):
            term = Signal(both.shape(), name=f"term_{number}_{at}")
            m.d.comb += term.eq(Mux(has[2 * at + 1], Mux(has[2 * at], both, right), Mux(has[2 * at], left, 0)))
            terms.append(term)
        return terms


class Sums(wiring.Component):
    """``count`` sums ``left + (right << shift)`` of signed numbers of ``width`` bits; combinational.

    A component, since additions that Yosys sees nothing else between become one tree of full adders, which takes
    twice the LUTs of adders on carry chains and as many levels.
    """

    def __init__(self, *, count: int, width: int, shift: int = 0):
        self.shift = shift
        super().__init__({
            "left": In(signed(width)).array(count), "right": In(signed(width)).array(count),
            "sum": Out(signed(width + shift + 1)).array(count),
        })  # fmt: skip

    def elaborate(self, platform):
        """Side by side."""
        m = Module()
        m.d.comb += [total.eq(left + (right << self.shift))
                     for left, right, total in zip(self.left, self.right, self.sum, strict=True)]  # fmt: skip
        return m


def _pairs(m, name, codes):
    """Of every two of the activations: one, the other, both together."""
    found = []
    for at in range(0, K_BLOCK, 2):
        left, right = codes[at].as_signed(), codes[at + 1].as_signed()
        both = Signal(signed(9), name=f"{name}{at // 2}")
        m.d.comb += both.eq(left + right)
        found.append((left, right, both))
    return found


class ChainDots(wiring.Component):
    """FlightLLM's chains for a few rows: a chain of 16 DSPs a column for every two rows, which share its weights.

    With one row the other half of each DSP's products counts for nothing. An operand waits until its product is due
    once for all chains that see it: a weight for all rows, an activation, where columns have none of their own, for
    all columns.
    """

    passes_of_wide = 1

    def __init__(self, *, columns: int, rows: int = 1, variant: str = "dsp48e2", own: bool = False):
        self.columns, self.rows, self.variant, self.own = columns, rows, variant, own
        self.latency = dots_latency(variant)
        self.sum_bits = sum_bits(K_BLOCK)
        super().__init__(dots_ports(columns, rows, self.sum_bits, own))

    def elaborate(self, platform):
        """Chains without their registers, side by side."""
        m = Module()
        step = delayed(m, ALWAYS, self.valid, INPUT_STAGES, "step", reset=True)
        weights = [self._due(m, column, f"w_{number}") for number, column in enumerate(self.weights)]
        codes = [[self._due(m, given, f"a_{row}_{number}") for number, given in enumerate(own)]
                 for row, own in enumerate(self.codes if self.own else [[given] for given in self.codes])]
        for first in range(0, self.rows, ROWS):
            rows = range(first, min(first + ROWS, self.rows))
            for number in range(self.columns):
                chain = CsdCore(length=K_BLOCK, group=CHAIN_GROUP, segments=(K_BLOCK,), entries=K_BLOCK,
                                variant=self.variant, select="direct")
                place(m, platform, f"chain_{first}_{number}", chain, like="chain_0_0")
                m.d.comb += [chain.en.eq(1), chain.step.eq(step), chain.segment.eq(segment_code(K_BLOCK))]
                both = chain.node[-1].sum
                m.d.comb += [self.sum[row][number].eq((both.row0, both.row1)[row - first]) for row in rows]
                for k, operand in enumerate(chain.operand):
                    given = Cat(codes[row][number if self.own else 0][k] for row in rows)
                    m.d.comb += [operand.w.eq(weights[number][k]), operand.a.as_value().eq(given)]
        return m

    def _due(self, m, codes, name):
        """The 16 codes, each when its product's cell is due."""
        products = products_per_cell(self.variant)
        return [delayed(m, ALWAYS, Value.cast(code), INPUT_STAGES + k // products, f"{name}_{k}")
                for k, code in enumerate(codes)]


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
