"""The shift-add PE: four gated copies of the activation and an adder tree in place of a multiplier."""

from amaranth import *

from mixflight.rtl.pe import ProcessingElement


class ShiftAddPE(ProcessingElement):
    """A PE that adds copies of the activation: copy ``i`` gated by weight bit ``i`` and shifted by ``i``.

    The shifts are wires. The tree is balanced, and the copy of the top bit is subtracted when the weight is
    signed. Source: MixPE (arXiv 2411.16158) replaces the multiplier so; its schematic is unpublished, this
    one is ours.
    """

    def product(self, m):
        """Gated copies, added pairwise; the pair with the top bit adds or subtracts it."""
        shape = Shape(self.w_bits + self.a_bits, signed=True)
        copies = []
        for i in range(self.w_bits):
            copy = Signal(shape, name=f"copy_{i}")
            m.d.comb += copy.eq(Mux(self.w[i], self.a << i, 0))
            copies.append(copy)
        top = Signal(shape)
        subtract = self.control.signed
        m.d.comb += top.eq((copies[-1] ^ subtract.replicate(shape.width)) + subtract)
        terms = [*copies[:-1], top]
        level = 0
        while len(terms) > 1:
            pairs = []
            for i in range(0, len(terms) - 1, 2):
                pair = Signal(shape, name=f"sum_{level}_{i // 2}")
                m.d.comb += pair.eq(terms[i] + terms[i + 1])
                pairs.append(pair)
            terms = pairs + terms[len(pairs) * 2:]
            level += 1
        return terms[0]
