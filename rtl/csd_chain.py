"""The configurable sparse DSP chain: packed INT8 dot products of two activation rows, dense or N:M."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.csd_chain import (
    INPUT_STAGES,
    RATIOS,
    ROWS,
    VARIANTS,
    node_latency,
    products_per_cell,
    segment_lengths,
    slab_entries,
    sum_bits,
)
from mixflight.arch.errors import InputError
from mixflight.rtl.csd_core import SEGMENT_CODE, CsdCore, store_write
from mixflight.rtl.delay import delayed

SELECTS = ("lutram", "direct")


class CsdChain(wiring.Component):
    """A chain of ``length`` DSPs: a step gives length / N sums of N products in each of two activation rows.

    Values are those of :mod:`mixflight.sim.golden.csd_chain`, unstalled cycles those of
    :mod:`mixflight.sim.csd_timing`, both exactly. All products are of two's complement INT8, **-128 x -128
    included**: in chains of packed operands eight of those overflow 18 signed bits (131,072), so the published rule
    that eight products never do is wrong there. Here they are handled, not excluded: see
    :mod:`mixflight.rtl.csd_cells` for eight, :class:`~mixflight.rtl.csd_core.CsdCore` for sixteen.

    **Parameters.** ``length`` L products, 2 to 16, a power of two; ``group`` products between reduction nodes, which
    divides L, at most the smallest N; ``ratios`` which of ``dense`` and N:M are taken, comma-separated; ``variant``
    ``dsp48e2`` (primitives), ``generic`` (the same arithmetic inferred) or ``dsp58`` (the INT8 dot product of Versal,
    two DSPs for two products of two rows); ``select`` how activations are chosen: ``lutram``, by index from LUT memory
    beside each product, or ``direct``, not here: they come chosen (from memories that the indices address).

    **Streams** (payload fields as they lie in Verilog, first at bit 0).

    ========  ========================================================================================================
    act       only ``lutram``: ``a`` 2 x 8 signed, an entry of both rows; ``last``, it ends the slab. A slab has at most
              as many entries as the largest M (all L with dense): the K neighbours that indices choose from
    wgt       ``w`` L x 8 signed; ``lutram``: ``index`` L x log2(entries), ``direct``: ``a`` L x 2 x 8; ``segment``:
              N = 2 << segment, one of the ratios'; ``lutram``: ``last``, the slab's last step
    out[g]    ``sum`` 2 x signed: both rows' sums of the segment that ends with product (g + 1) * group - 1
    ========  ========================================================================================================

    For 2:4 and 4:8 an index chooses within a slab of 4 or 8 entries, or within the product's own block of a longer
    slab; the hardware does not care. Such weights are 8:16 weights as well, where sums are longer and fewer.

    **Flow.** The chain advances in every cycle in which no node offers a sum that is not taken; else all stands
    still, and a sum that was taken is not offered again. An entry is taken whenever a bank is free, a step whenever
    its slab is complete; neither ready depends on a valid. While one slab is used the next is loaded: with as many
    steps as entries or more there is a step in every cycle, so all DSPs multiply in both lanes. In MV mode there is
    one row: ``a[1]`` is 0 and half of the lanes' products count. A step taken in cycle t (advancing cycles) is offered
    by node g in t + ``latency[g]``: each node ``group`` cells after the one before.

    **Skew.** Product i meets the sum of its predecessors when that arrives, so weight and index of cell j wait j
    cycles more than cell 0's: L (L - 1) / 2 words of shift register, the larger part of a chain's own LUTs. Chains that
    see the same weights share them by sharing this part (:class:`~mixflight.rtl.csd_core.CsdCore` has none).
    """

    def __init__(self, *, length: int = 16, group: int = 2, ratios: str = ",".join(RATIOS), variant: str = "dsp48e2",
                 select: str = "lutram"):
        for name, value, names in (("variant", variant, VARIANTS), ("select", select, SELECTS)):
            if value not in names:
                raise InputError(f"{name} must be one of {', '.join(names)}, not {value!r}, in a DSP chain")
        names = tuple(ratios.split(","))
        if length not in (2, 4, 8, 16):
            raise InputError(f"length must be 2, 4, 8 or 16, not {length}, in a DSP chain")
        self.segments = segment_lengths(length=length, ratios=names)
        if group < 2 or group & (group - 1) or group > self.segments[0]:
            raise InputError("group must be a power of two from 2 to the shortest segment "
                             f"{self.segments[0]}, not {group}, in a DSP chain")
        self.length, self.group, self.ratios, self.variant, self.select = length, group, ratios, variant, select
        self.entries = slab_entries(length=length, ratios=names)
        self.sum_bits = sum_bits(max(self.segments))
        self.latency = tuple(node_latency(node=g, group=group, variant=variant) for g in range(length // group))
        entry = data.ArrayLayout(signed(8), ROWS)
        weights = {"w": data.ArrayLayout(signed(8), length)}
        if select == "lutram":
            weights |= {"index": data.ArrayLayout(range(self.entries), length), "segment": SEGMENT_CODE, "last": 1}
        else:
            weights |= {"a": data.ArrayLayout(entry, length), "segment": SEGMENT_CODE}
        act = {"act": In(stream.Signature(data.StructLayout({"a": entry, "last": 1})))} if select == "lutram" else {}
        sums = data.StructLayout({"sum": data.ArrayLayout(signed(self.sum_bits), ROWS)})
        super().__init__({**act, "wgt": In(stream.Signature(data.StructLayout(weights))),
                          "out": Out(stream.Signature(sums)).array(len(self.latency))})

    def elaborate(self, platform):
        """Handshakes, skew, core."""
        m = Module()
        m.submodules.core = core = CsdCore(
            length=self.length, group=self.group, segments=self.segments, entries=self.entries, variant=self.variant,
            select=self.select)
        advance, bank = Signal(), Signal()
        m.d.comb += core.en.eq(advance)
        if self.select == "lutram":
            m.d.comb += self._load(m, core, advance, bank)
        else:
            m.d.comb += self.wgt.ready.eq(advance)
        step = self.wgt.valid & self.wgt.ready
        m.d.comb += [core.step.eq(delayed(m, advance, step, INPUT_STAGES, "step", reset=True)),
                     core.segment.eq(delayed(m, advance, self.wgt.p.segment, INPUT_STAGES, "segment"))]
        self._skew(m, core, advance, bank)
        held = []
        for out, node in zip(self.out, core.node, strict=True):
            sent = Signal(name=f"sent_{len(held)}")     # taken already, while another node's sum was not
            m.d.sync += sent.eq(~advance & (sent | out.valid & out.ready))
            m.d.comb += [out.valid.eq(node.valid & ~sent), out.p.sum.eq(node.sum.as_value())]
            held.append(out.valid & ~out.ready)
        m.d.comb += advance.eq(~Cat(held).any())
        return m

    def _load(self, m, core, advance, bank):
        """Two banks: one is filled while the other is read. Returns the readies; ``bank`` is what steps read."""
        full, filling = Signal(2), Signal()
        slot = Signal(range(self.entries))
        entry, step = self.act.valid & self.act.ready, self.wgt.valid & self.wgt.ready
        ends = self.act.p.last | (slot == self.entries - 1)
        with m.If(entry):
            m.d.sync += slot.eq(slot + 1)
            with m.If(ends):
                m.d.sync += [slot.eq(0), filling.eq(~filling), full.bit_select(filling, 1).eq(1)]
        with m.If(step & self.wgt.p.last):      # never the bank that is being filled: that one is not full
            m.d.sync += [bank.eq(~bank), full.bit_select(bank, 1).eq(0)]
        write = Signal(store_write(self.entries))
        m.d.comb += [write.valid.eq(entry), write.address.eq(Cat(slot, filling)), write.a.as_value().eq(self.act.p.a)]
        m.d.comb += core.write.eq(delayed(m, advance, write, INPUT_STAGES, "write", reset=True))
        return [self.act.ready.eq(advance & ~full.bit_select(filling, 1)),
                self.wgt.ready.eq(advance & full.bit_select(bank, 1))]

    def _skew(self, m, core, advance, bank):
        """Operands of cell j wait j cycles, those of cell 0 only in the input's register."""
        products = products_per_cell(self.variant)
        for i, operand in enumerate(core.operand):
            wait = INPUT_STAGES + i // products
            m.d.comb += operand.w.eq(delayed(m, advance, self.wgt.p.w[i], wait, f"w_{i}"))
            if self.select == "direct":
                m.d.comb += operand.a.as_value().eq(delayed(m, advance, self.wgt.p.a[i].as_value(), wait, f"a_{i}"))
                continue
            if i % products == 0:       # the bank hops from cell to cell instead of waiting beside every index
                bank = delayed(m, advance, bank, INPUT_STAGES if i == 0 else 1, f"bank_{i}")
            index = delayed(m, advance, self.wgt.p.index[i], wait, f"index_{i}")
            m.d.comb += operand.address.eq(Cat(index, bank))
