"""The multiplier PE: a right-sized product, the honest baseline of the shift-add PE."""

from amaranth import *

from mixflight.rtl.pe import ProcessingElement


class MultiplyPE(ProcessingElement):
    """A PE whose product is a signed multiplication of the weight, widened by one bit, and the activation.

    The extra bit is the weight's sign: its top bit when the step's weights are signed, else 0.
    """

    def product(self, m):
        """``*`` of ``w_bits + 1`` and ``a_bits`` signed bits; ``w_bits + a_bits`` bits hold every result."""
        weight = Signal(signed(self.w_bits + 1))
        product = Signal(signed(self.w_bits + self.a_bits))
        m.d.comb += [
            weight.eq(Cat(self.w, self.w[-1] & self.control.signed)),
            product.eq(weight * self.a),
        ]
        return product
