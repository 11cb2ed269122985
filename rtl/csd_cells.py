"""One cell of the sparse DSP chain: products of two activation rows, added to the sums that come down the cascade.

**Packing.** Two rows share a weight: the multiplier takes ``row1 * 2**18 + row0`` through the pre-adder, so its product
is ``row1 * w * 2**18 + row0 * w`` and a cascade adds both rows' sums at once (the geometry of AMD's WP486). With signed
low sums the upper lane would be short of one whenever the lower is negative; here it never is. A sum starts at
``START_BIAS`` = 2**17 (the W multiplexer's constant RND, in the cycle in which Z is 0): up to four products, within
+-65,536, keep the lane in 0 ... 2**18 - 1. A sum of eight lies in [-8 * 127 * 128, 8 * 16384] = [-130,048, 131,072],
with -128 x -128 eight times, which does not fit 18 signed bits; its sixth cell takes 2**10 away (its own RND, beside
the cascade in Z), so the lane ends in 0 ... 261,120. Nothing is ever borrowed from or carried to the upper lane, which
is exact as it stands.
"""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from mixflight.arch.csd_chain import KEPT_BITS, LOW_BIAS, LOW_BITS, ROWS, START_BIAS
from mixflight.arch.errors import InputError
from mixflight.rtl.dsp48e2 import INMODE_D_PLUS_A2, dsp48e2, opmode
from mixflight.rtl.dsp58 import A_BITS, B_BITS, ELEMENTS, P_BITS, dsp58_dot


def both_rows(bits: int) -> data.StructLayout:
    """A signed number of each row. No array: Yosys 0.70 takes a wire ``x[0]`` for bit 0 of ``x``, and gives up."""
    return data.StructLayout({f"row{row}": signed(bits) for row in range(ROWS)})


ACTIVATIONS = both_rows(8)
"""One activation of each row."""

SHIFT_BITS = LOW_BITS - KEPT_BITS
"""Bits of ``shift``, in units of 2**10."""


class PackedCell(wiring.Component):
    """One DSP48E2, one product a step in each row.

    ``a`` and ``w`` of a step are given in cycle t (cycles with ``en`` count, in others nothing changes), ``restart``,
    ``trim``, ``adjust`` and ``shift`` of the same step in t + 2; ``partial`` shows the step's sums in t + 4, and
    ``cascade`` is looked at in t + 3. The sums are the cascade's, or ``START_BIAS`` with ``restart``, plus the
    products; plus ``LOW_BIAS - START_BIAS`` with ``trim``, plus ``shift * 2**10`` with ``adjust``. A cell has at most
    one of the three. The lower row's sum is in bits 0 ... 17, the upper's from bit 18 on.

    ``inferred`` makes it of registers and operators, with equal values and timing.
    """

    products = 1
    cascade_bits = 48

    def __init__(self, *, restarts: bool = False, trims: bool = False, adjusts: bool = False, inferred: bool = False):
        if restarts + trims + adjusts > 1:
            raise InputError("a cell must restart, trim or adjust, not do two of them, in a DSP chain")
        self.inferred = inferred
        super().__init__({
            "en": In(1), "a": In(ACTIVATIONS).array(self.products), "w": In(signed(8)).array(self.products),
            "cascade": In(48), "partial": Out(48), "cascade_next": Out(48),
            **({"restart": In(1)} if restarts else {}), **({"trim": In(1)} if trims else {}),
            **({"adjust": In(1), "shift": In(signed(SHIFT_BITS))} if adjusts else {}),
        })

    def elaborate(self, platform):
        """The primitive, or its arithmetic written out."""
        m = Module()
        a, d, b = Signal(signed(30)), Signal(signed(27)), Signal(signed(18))
        c = Signal(signed(48))
        m.d.comb += [a.eq(self.a[0].row0), d.eq(self.a[0].row1 << LOW_BITS), b.eq(self.w[0])]
        if hasattr(self, "shift"):
            m.d.comb += c.eq(self.shift << KEPT_BITS)
        (self._inferred if self.inferred else self._primitive)(m, a, d, b, c)
        return m

    def _primitive(self, m, a, d, b, c):
        mode = Signal(9)
        m.d.comb += mode.eq(opmode(z="PCIN"))
        if hasattr(self, "restart"):
            with m.If(self.restart):
                m.d.comb += mode.eq(opmode(w="RND", z="0"))
        if hasattr(self, "trim"):
            with m.If(self.trim):
                m.d.comb += mode.eq(opmode(w="RND", z="PCIN"))
        if hasattr(self, "adjust"):
            with m.If(self.adjust):
                m.d.comb += mode.eq(opmode(w="C", z="PCIN"))
        constant = LOW_BIAS - START_BIAS if hasattr(self, "trim") else START_BIAS
        # Two registers on B beside those of D and of the pre-adder; INMODE and ALUMODE never change.
        m.submodules.dsp = dsp48e2(
            enable=self.en, p=self.partial, pcout=self.cascade_next,
            inputs={"a": a, "b": b, "c": c, "d": d, "pcin": self.cascade, "opmode": mode,
                    "inmode": Const(INMODE_D_PLUS_A2, 5)},
            attributes={"AMULTSEL": "AD", "BREG": 2, "RND": Const(constant, 48)})

    def _inferred(self, m, a, d, b, c):
        a_1, d_1, ad_2 = (Signal(signed(27), reset_less=True) for _ in range(3))
        b_1, b_2 = (Signal(signed(18), reset_less=True) for _ in range(2))
        product = Signal(signed(45), reset_less=True)
        base, c_1 = Signal(signed(48)), Signal(signed(48), reset_less=True)
        m.d.comb += base.eq(self.cascade)
        with m.If(self.en):
            m.d.sync += [a_1.eq(a), d_1.eq(d), ad_2.eq(a_1 + d_1), b_1.eq(b), b_2.eq(b_1), product.eq(ad_2 * b_2),
                         self.partial.eq(base + product), c_1.eq(c)]
        for name, changed in (("restart", START_BIAS), ("trim", self.cascade.as_signed() + (LOW_BIAS - START_BIAS)),
                              ("adjust", self.cascade.as_signed() + c_1)):
            if hasattr(self, name):
                chosen = Signal(name=f"{name}_1")
                with m.If(self.en):
                    m.d.sync += chosen.eq(getattr(self, name))
                with m.If(chosen):
                    m.d.comb += base.eq(changed)
        m.d.comb += self.cascade_next.eq(self.partial)


class DotCell(wiring.Component):
    """Two DSP58 in INT8 mode, one a row: two products a step in each row, with a cascade each and nothing packed.

    Ports and times are those of :class:`PackedCell`; ``partial`` has the rows' sums in bits 0 ... 57 and from bit 58
    on. Of the three products that a DSP58 takes two are used: segments are of 2, 4, 8 or 16.
    """

    products = 2
    cascade_bits = ROWS * P_BITS

    def __init__(self, *, restarts: bool = False):
        super().__init__({
            "en": In(1), "a": In(ACTIVATIONS).array(self.products), "w": In(signed(8)).array(self.products),
            "cascade": In(self.cascade_bits), "partial": Out(self.cascade_bits), "cascade_next": Out(self.cascade_bits),
            **({"restart": In(1)} if restarts else {}),
        })

    def elaborate(self, platform):
        """A dot product unit a row; the third element is 0."""
        m = Module()
        mode = Signal(9)
        m.d.comb += mode.eq(opmode(z="PCIN"))
        if hasattr(self, "restart"):
            with m.If(self.restart):
                m.d.comb += mode.eq(opmode(z="0"))
        idle = ELEMENTS - self.products
        for row in range(ROWS):
            a = Signal(A_BITS * ELEMENTS, name=f"a_{row}")
            b = Signal(B_BITS * ELEMENTS, name=f"b_{row}")
            wide = [Cat(both[f"row{row}"], both[f"row{row}"][-1]) for both in self.a]
            m.d.comb += [a.eq(Cat(*wide, Const(0, A_BITS * idle))),
                         b.eq(Cat(*self.w, Const(0, B_BITS * idle)))]
            here = slice(row * P_BITS, (row + 1) * P_BITS)
            m.submodules[f"dsp_{row}"] = dsp58_dot(
                enable=self.en, a=a, b=b, opmode=mode, pcin=self.cascade[here], p=self.partial[here],
                pcout=self.cascade_next[here])
        return m
