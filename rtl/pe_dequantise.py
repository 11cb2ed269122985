"""The PE that dequantises its weight to INT8 before it multiplies: what group dequantisation saves is its cost."""

from amaranth import *

from mixflight.rtl.pe import ProcessingElement

CODE_BITS = 4
SCALE_BITS = 8


class DequantisePE(ProcessingElement):
    """A PE of 4-bit codes with a second, integer level of scales: it adds ``int8((q - z) * s) * a``.

    ``w`` holds the code q (bits 3:0), the zero point z (7:4) and the unsigned group scale s (15:8). All three
    travel with the activations' skew, 12 registers more than a code alone; z and s change once a group.
    ``int8`` takes the low 8 bits as two's complement: whoever quantises must choose s so that nothing is lost
    (the protective range of two-level quantisation), and what does not fit wraps. ``control.signed`` and
    ``control.high`` are handed on and otherwise ignored. Both multiplications are in one step.

    Group sums are those of an INT8 PE, with one scale an output channel behind them in place of one a group,
    and need no correction: 23 bits for 128 products 8 x 8.
    """

    def __init__(self, *, group_max: int = 128, a_bits: int = 8):
        super().__init__(group_max=group_max, w_bits=2 * CODE_BITS + SCALE_BITS, a_bits=a_bits)

    def bits_of_sum(self):
        """Of ``group_max`` products of -128 and the most negative activation."""
        return (self.group_max << (7 + self.a_bits - 1)).bit_length() + 1

    def product(self, m):
        """Subtract, multiply, keep 8 bits, multiply."""
        code, zero, scale = self.w[:CODE_BITS], self.w[CODE_BITS:2 * CODE_BITS], self.w[2 * CODE_BITS:]
        distance = Signal(signed(CODE_BITS + 1))
        weight = Signal(signed(8))
        product = Signal(signed(8 + self.a_bits))
        m.d.comb += [
            distance.eq(code - zero),
            weight.eq((distance * scale)[:8]),
            product.eq(weight * self.a),
        ]
        return product
