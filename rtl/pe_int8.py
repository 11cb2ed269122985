"""The INT8 PE: a full multiplier, the machine that narrower weights are compared with."""

from amaranth import *

from mixflight.rtl.pe import ProcessingElement


class Int8PE(ProcessingElement):
    """A PE whose weights are always two's complement, so that the multiplier is exactly ``w_bits`` x ``a_bits``.

    ``control.signed`` and ``control.high`` are handed on and otherwise ignored. ``group_max`` products of at
    most ``2**(w_bits + a_bits - 2)`` and a sign: 23 bits for 128 products 8 x 8, 32 bits for 65,536.
    """

    def __init__(self, *, group_max: int = 128, w_bits: int = 8, a_bits: int = 8):
        super().__init__(group_max=group_max, w_bits=w_bits, a_bits=a_bits)

    def bits_of_sum(self):
        """Of ``group_max`` products of the two most negative operands."""
        return (self.group_max << (self.w_bits + self.a_bits - 2)).bit_length() + 1

    def product(self, m):
        """``*`` of two signed operands."""
        product = Signal(signed(self.w_bits + self.a_bits))
        m.d.comb += product.eq(self.w.as_signed() * self.a)
        return product
