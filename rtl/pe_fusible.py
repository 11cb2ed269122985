"""A fusible unit after BitFusion: sixteen 2 x 2 bit multipliers that act as one, two or four multipliers."""

from amaranth import *
from amaranth.lib.wiring import In

from mixflight.rtl.pe import ProcessingElement

MODES = {"8x8": 0, "4x8": 1, "4x4": 2}
"""Weight bits x activation bits → the value of ``mode``."""


class FusiblePE(ProcessingElement):
    """A PE that adds the sum of one 8 x 8, two 4 x 8 (weight x activation) or four 4 x 4 bit products a step.

    ========  =====================================================================
    ``mode``  products
    ========  =====================================================================
    0 (8x8)   ``w[7:0] * a[7:0]``
    1 (4x8)   ``w[3:0] * a[7:0] + w[7:4] * a[15:8]``
    2 (4x4)   the sum of ``w[4i+3:4i] * a[4i+3:4i]`` over i = 0..3
    ========  =====================================================================

    3 gives no defined product. Weights are two's complement if ``control.signed``, activations if
    ``a_signed``, else unsigned. ``mode`` and ``a_signed`` are configuration, the same for the whole array:
    they must not change while steps are under way. ``a`` is read as 16 bits. A group has at most
    ``group_max`` steps. 24 bits of sum for 128 steps: 255 * 255 is the largest sum of a step.

    Bricks (i, j) multiply digit i of the weight by digit j of the activation, two bits each and a sign; four
    make a 4 x 4 product, and the shifts that join the quadrants are 0 or 4 by mode. After BitFusion (Sharma
    et al., ISCA 2018), whose bricks and modes of 2-bit operands go further; the circuit is ours.
    """

    def __init__(self, *, group_max: int = 128):
        super().__init__(group_max=group_max, w_bits=16, a_bits=16)

    def bits_of_sum(self):
        """Of ``group_max`` unsigned products 8 x 8."""
        return (self.group_max * 255 * 255).bit_length() + 1

    def further_ports(self):
        """The configuration."""
        return {"mode": In(2), "a_signed": In(1)}

    def product(self, m):
        """Bricks, quadrants, rows of quadrants, the whole."""
        wide_w, wide_a = Signal(), Signal()
        m.d.comb += [wide_w.eq(self.mode == MODES["8x8"]), wide_a.eq(self.mode != MODES["4x4"])]
        rows = []
        for high_w in range(2):
            quadrants = [self._quadrant(m, high_w, high_a, wide_w, wide_a) for high_a in range(2)]
            row = Signal(signed(14), name=f"row_{high_w}")
            m.d.comb += row.eq(quadrants[0] + Mux(wide_a, quadrants[1] << 4, quadrants[1]))
            rows.append(row)
        product = Signal(signed(18))
        m.d.comb += product.eq(rows[0] + Mux(wide_w, rows[1] << 4, rows[1]))
        return product

    def _quadrant(self, m, high_w, high_a, wide_w, wide_a):
        """A product of 4 x 4 bits, whatever it stands for in the mode."""
        product = 2 * high_w + high_a
        w_digits, a_digits = self._digits(self.w), self._digits(self.a)
        total = Signal(signed(10), name=f"quadrant_{high_w}_{high_a}")
        bricks = []
        for i in range(2):
            # Digits of a 4-bit operand of its own, or of the one that the quadrant's row or column shares.
            narrow_w = w_digits[2 * product + i]
            w_digit = Mux(wide_a, w_digits[2 * high_w + i], narrow_w)
            w_sign = self.control.signed & (~wide_w | high_w) if i else Const(0, 1)
            for j in range(2):
                a_digit = Mux(wide_a, Mux(wide_w, a_digits[2 * high_a + j], a_digits[4 * high_w + 2 * high_a + j]),
                              a_digits[2 * product + j])
                a_sign = self.a_signed & (~wide_a | high_a) if j else Const(0, 1)
                brick = Signal(signed(6), name=f"brick_{2 * high_w + i}_{2 * high_a + j}")
                m.d.comb += brick.eq(self._signed(w_digit, w_sign) * self._signed(a_digit, a_sign))
                bricks.append(brick << 2 * (i + j))
        m.d.comb += total.eq((bricks[0] + bricks[1]) + (bricks[2] + bricks[3]))
        return total

    @staticmethod
    def _digits(word):
        return [word[2 * k:2 * k + 2] for k in range(8)]

    @staticmethod
    def _signed(digit, sign):
        """Two bits and a sign: 0..3, or -2..1 if ``sign``."""
        return Cat(digit, digit[1] & sign).as_signed()
