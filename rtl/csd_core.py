"""The sparse DSP chain without its streams: cells in a row, a store of activations at each product, reduction nodes."""

from amaranth import *
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.csd_chain import KEPT_BITS, LOW_BIAS, LOW_BITS, ROWS, SHORT_SUM, sum_bits
from mixflight.rtl.csd_cells import ACTIVATIONS, SHIFT_BITS, DotCell, PackedCell, both_rows
from mixflight.rtl.delay import delayed
from mixflight.rtl.dsp58 import P_BITS

SEGMENT_CODE = 2
"""Bits of a segment's code: N = 2 << code."""

BIAS_UNITS = LOW_BIAS >> KEPT_BITS

TRIM_CELL = 5
"""Of a sum of eight: where the bias is lowered; an odd number, as an even one's constant is what sums start at."""


def segment_code(products: int) -> int:
    """The code of segments of ``products``."""
    return products.bit_length() - 2


class OperandStore(wiring.Component):
    """Two banks of activations of both rows in LUT memory: written one entry a cycle, read by index.

    ``write`` is taken at the end of a cycle; ``a`` is what stands at ``address`` in the same cycle. There is no enable:
    what waits to be written while the chain stands still is written again and again. Reading by address is what makes
    a choice among 16 cheap: 32 entries of 16 bits are 12 LUTs, a multiplexer 64. They are 12 as primitives, a RAM32M16
    of 14 bits and a RAM32M of 2; ``inferred``, Yosys takes two RAM32M16.
    """

    def __init__(self, *, entries: int, inferred: bool = False):
        self.depth = 2 * entries
        self.inferred = inferred
        super().__init__({"write": In(store_write(entries)), "address": In(range(self.depth)), "a": Out(ACTIVATIONS)})

    def elaborate(self, platform):
        """One write port, one asynchronous read port."""
        m = Module()
        word = 8 * ROWS
        if not self.inferred:
            read = Signal(word)
            for low, high, kind, ports in ((0, 14, "RAM32M16", "ABCDEFGH"), (14, word, "RAM32M", "ABCD")):
                m.submodules[f"bits_{low}"] = lut_memory(
                    kind, ports, write=self.write.valid, at=self.write.address, data=self.write.a.as_value()[low:high],
                    address=self.address, read=read[low:high])
            # The operator makes one net of the primitives' eight, so that all stores and cells are one module.
            m.d.comb += self.a.as_value().eq(read | Const(0, word))
            return m
        m.submodules.memory = store = memory.Memory(shape=unsigned(word), depth=self.depth, init=[])
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [write.addr.eq(self.write.address), write.data.eq(self.write.a), write.en.eq(self.write.valid),
                     read.addr.eq(self.address), self.a.as_value().eq(read.data)]
        return m


def lut_memory(kind: str, ports: str, *, write, at, data, address, read) -> Instance:
    """A RAM32M16 or RAM32M (UG974) as 32 words of up to two bits for each port but the last, which writes."""
    pins = {"i_WCLK": ClockSignal(), "i_WE": write, f"i_ADDR{ports[-1]}": Cat(at, Const(0, 5 - len(at))),
            f"i_DI{ports[-1]}": Const(0, 2)}
    for number, port in enumerate(ports[:-1]):
        bits = slice(2 * number, 2 * number + 2)
        used = 2 * number < len(data)
        pins |= {f"i_ADDR{port}": Cat(address, Const(0, 5 - len(address))) if used else Const(0, 5),
                 f"i_DI{port}": data[bits] if used else Const(0, 2)}
        if used:
            pins[f"o_DO{port}"] = read[bits]
    return Instance(kind, **{f"p_INIT_{port}": Const(0, 64) for port in ports}, **pins)


def store_write(entries: int) -> data.StructLayout:
    """What is written to every store of a chain, a cell later in each."""
    return data.StructLayout({"valid": 1, "address": range(2 * entries), "a": ACTIVATIONS})


class ReductionNode(wiring.Component):
    """The two exact sums at the end of a group, from what the cascade holds there. Combinational.

    The upper sum stands above the lower, of which the bias is taken away: ``START_BIAS`` by inverting a bit. Where
    ``longest`` is 8, sums of 8 can end too: with ``long`` the bias is ``LOW_BIAS``, 2**10 less. Where it is 16,
    ``above`` is added to the lower sum from 2**10 up.
    """

    def __init__(self, *, bits: int, longest: int):
        self.bits = bits
        self.longest = longest
        further = {} if longest < SHORT_SUM else {"long": In(1)} if longest == SHORT_SUM else {
            "above": In(signed(SHIFT_BITS + 1))}
        super().__init__({"partial": In(48), "sum": Out(both_rows(bits)), **further})

    def elaborate(self, platform):
        """Split, and correct the lower sum."""
        m = Module()
        upper = self.partial[KEPT_BITS:LOW_BITS]
        high = Signal(signed(SHIFT_BITS + 2))
        if self.longest > SHORT_SUM:
            m.d.comb += high.eq(upper + self.above)
        else:
            m.d.comb += high.eq(Cat(upper[:-1], ~upper[-1]).as_signed())
            if self.longest == SHORT_SUM:
                m.d.comb += high.eq(_increased(upper, self.long))
        m.d.comb += [
            self.sum.row0.eq(Cat(self.partial[:KEPT_BITS], high).as_signed()),
            self.sum.row1.eq(self.partial[LOW_BITS:LOW_BITS + self.bits].as_signed()),
        ]
        return m


def _increased(upper, carry):
    """``upper`` - 2**(bits - 1) + ``carry`` as gates: six inputs to a LUT, where a carry chain would take one a bit."""
    bits = []
    for bit in upper[:-1]:
        bits.append(bit ^ carry)
        carry = bit & carry
    top = upper[-1]
    return Cat(*bits, ~(top ^ carry), ~(top | carry)).as_signed()


class CsdCore(wiring.Component):
    """``length`` products of two rows in a row of cells; every operand arrives when its cell is due.

    Cycles with ``en`` count; in others nothing changes. Of a step, ``step`` and ``segment`` are given in cycle t, and
    ``operand[i]`` of product i, which is in cell j = i / products-per-cell, in t + j (``w`` and the store's
    ``address``, or with ``select`` = ``direct`` the activations themselves). A write is given in the cycle in which
    it reaches the first cell and hops on with the steps. ``node[g]`` shows the step's sum in cycle
    t + (cells up to its end) + 3, valid if ``segment`` ends there: products i..i + N - 1 of every segment of
    N = 2 << ``segment``. Only the ``segments`` that the core was built for have a meaning.

    **Long sums** (16 products, packed cells). After product 8 the lower sum's bits from 2**10 up leave the cascade:
    cell 9's C port takes them away (W = C) and gives the bias back, eight cycles later they are added in the last
    node. Cell 8 has no need to know: 48 bits of addition commute.
    """

    def __init__(self, *, length: int, group: int, segments: tuple[int, ...], entries: int, variant: str, select: str):
        self.length, self.group, self.segments, self.entries = length, group, segments, entries
        self.variant, self.select = variant, select
        self.cell_type = DotCell if variant == "dsp58" else PackedCell
        self.cells = length // self.cell_type.products
        self.nodes = length // group
        self.sum_bits = sum_bits(max(segments))
        chosen = ({"address": range(2 * entries)} if select == "lutram" else {"a": ACTIVATIONS})
        super().__init__({
            "en": In(1), "step": In(1), "segment": In(SEGMENT_CODE),
            "operand": In(data.StructLayout({"w": signed(8), **chosen})).array(length),
            **({"write": In(store_write(entries))} if select == "lutram" else {}),
            "node": Out(data.StructLayout({"sum": both_rows(self.sum_bits), "valid": 1})).array(self.nodes),
        })

    @property
    def long_sums(self) -> bool:
        """Whether sums of more products than a lower lane holds occur."""
        return self.cell_type is PackedCell and max(self.segments) > SHORT_SUM

    def elaborate(self, platform):
        """Cells with their control, then the nodes."""
        m = Module()
        activations = self._stores(m) if self.select == "lutram" else [operand.a for operand in self.operand]
        step = delayed(m, self.en, self.step, 2, "step", reset=True)
        segment = delayed(m, self.en, self.segment, 2, "segment")
        products = self.cell_type.products
        cascade, partials, segments = Const(0, self.cell_type.cascade_bits), [], []
        for j in range(self.cells):
            if j:
                step = delayed(m, self.en, step, 1, f"step_{j}", reset=True)
                segment = delayed(m, self.en, segment, 1, f"segment_{j}")
            first, behind = j * products, (j + 1) * products
            cell = self._cell(j)
            m.submodules[f"cell_{j}"] = cell
            m.d.comb += [cell.en.eq(self.en), cell.cascade.eq(cascade),
                         *(cell.a[i].eq(activations[first + i]) for i in range(products)),
                         *(cell.w[i].eq(self.operand[first + i].w) for i in range(products))]
            if hasattr(cell, "restart"):
                m.d.comb += cell.restart.eq(self._cut(segment, first))
            if hasattr(cell, "trim"):
                m.d.comb += cell.trim.eq(Cat(segment == segment_code(n) for n in self._trimmed(j)).any())
            if hasattr(cell, "adjust"):
                msp = partials[SHORT_SUM - 1][KEPT_BITS:LOW_BITS]
                m.d.comb += [cell.adjust.eq(segment == segment_code(2 * SHORT_SUM)),
                             cell.shift.eq(Cat(~msp[:-1], msp[-1]).as_signed())]       # BIAS_UNITS - msp
            cascade = Signal(len(cell.cascade_next), name=f"cascade_{j}")
            m.d.comb += cascade.eq(cell.cascade_next)
            partials.append(cell.partial)
            segments.append(segment)
            if behind % self.group == 0:
                self._node(m, behind // self.group - 1, partials, step, segments)
        return m

    def _cell(self, j):
        """The cell number j: whether a segment can start or the long sum be adjusted in it is fixed."""
        restarts = j * self.cell_type.products % self.group == 0
        if self.cell_type is DotCell:
            return DotCell(restarts=restarts)
        return PackedCell(restarts=restarts, trims=bool(self._trimmed(j)), inferred=self.variant == "generic",
                          adjusts=self.long_sums and j == SHORT_SUM + 1)

    def _trimmed(self, j):
        """The segments of 8 products or more whose sixth cell j is."""
        start = j - TRIM_CELL
        return [n for n in self.segments if n >= SHORT_SUM and start % SHORT_SUM == 0 and start % n == 0]

    def _cut(self, segment, product):
        """Whether a segment of this code starts at ``product``, or one ends before it."""
        if product % self.length == 0:
            return Const(1, 1)
        return Cat(segment == segment_code(n) for n in self.segments if product % n == 0).any()

    def _node(self, m, g, partials, step, segments):
        """Node g reads the last cell so far; ``valid`` comes with the sum, two cycles after the cell's control.

        ``segments``: the code as each cell so far sees it.
        """
        out = self.node[g]
        valid = Signal(name=f"ends_{g}")
        m.d.comb += valid.eq(step & self._cut(segments[-1], (g + 1) * self.group))
        m.d.comb += out.valid.eq(delayed(m, self.en, valid, 2, f"valid_{g}", reset=True))
        if self.cell_type is DotCell:
            m.d.comb += [out.sum[f"row{row}"].eq(partials[-1][row * P_BITS:row * P_BITS + self.sum_bits].as_signed())
                         for row in range(ROWS)]
            return
        ends = [n for n in self.segments if (g + 1) * self.group % n == 0]
        node = ReductionNode(bits=self.sum_bits, longest=max(ends, default=self.group))
        m.submodules[f"node_{g}"] = node
        m.d.comb += [node.partial.eq(partials[-1]), out.sum.eq(node.sum)]
        if hasattr(node, "long"):
            long = segments[-1] == segment_code(SHORT_SUM)
            m.d.comb += node.long.eq(delayed(m, self.en, long, 2, f"long_{g}"))
        if hasattr(node, "above"):
            m.d.comb += node.above.eq(self._above(m, partials[SHORT_SUM - 1], segments[SHORT_SUM - 1]))

    def _above(self, m, middle, segment):
        """What the last node adds to the lower sum from 2**10 up, in time for the last cell's sum.

        That is less the bias, of which a sum of 16 has had two.
        """
        code = delayed(m, self.en, segment, 2, "middle")
        above = Signal(signed(SHIFT_BITS + 1))
        m.d.comb += above.eq(-(BIAS_UNITS + 1))
        with m.If(code == segment_code(SHORT_SUM)):
            m.d.comb += above.eq(-BIAS_UNITS)
        with m.If(code == segment_code(2 * SHORT_SUM)):
            m.d.comb += above.eq(middle[KEPT_BITS:LOW_BITS] - 2 * BIAS_UNITS)
        return delayed(m, self.en, above, self.length - SHORT_SUM, "above")

    def _stores(self, m):
        """The activations that the indices choose, and the hops of what is written."""
        write, chosen = self.write, []
        for i in range(self.length):
            if i and i % self.cell_type.products == 0:
                hop = Signal(store_write(self.entries), name=f"write_{i}")
                with m.If(self.en):
                    m.d.sync += hop.eq(write)
                write = hop
            store = OperandStore(entries=self.entries, inferred=self.variant == "generic")
            m.submodules[f"store_{i}"] = store
            m.d.comb += [store.write.eq(write), store.address.eq(self.operand[i].address)]
            chosen.append(store.a)
        return chosen
