"""The shift-add PE on the centred code: at most two signed digits of the weight, so one adder makes the product."""

from amaranth import *

from mixflight.arch.errors import InputError
from mixflight.rtl.pe import ProcessingElement


def signed_digits(value: int, count: int) -> tuple[int, ...]:
    """The non-adjacent form of ``value``: ``count`` digits of -1, 0 and 1, lowest first, no two neighbours non-zero.

    It has the fewest non-zero digits of all such forms.
    """
    digits = []
    for _ in range(count):
        digit = 2 - value % 4 if value % 2 else 0
        digits.append(digit)
        value = (value - digit) // 2
    if value:
        raise InputError(f"a value must fit {count} signed digits, not leave {value}, in a recoding")
    return tuple(digits)


class CentredShiftAddPE(ProcessingElement):
    """A PE that adds ``(w - 8) * a``, the 4-bit code ``w`` unsigned, from the signed digits of ``w - 8``.

    In the non-adjacent form of -8..7 neither the two high nor the two low of its four digits are both
    non-zero: a high term of 0, ±4a or ±8a and a low term of 0, ±a or ±2a, each a selection, and one adder.
    On SmolLM2's codes 1.26 terms are non-zero, of the plain code's bits 2.00.

    The sum of a group is ``Ic = I - 8 R`` with I the sum over the plain codes and R the sum of the
    activations. What follows needs only R, which the array forms a row at a time for zero points anyway:

    - integer zero point z: ``I - z R = Ic - (z - 8) R``; ``z - 8`` is z with its top bit inverted, read as
      two's complement, so the lane's multiplier gets no wider
    - FP16 minimum: ``I = Ic + 8 R``, one addition more in the lane
    - constant offset 8 (Q4_0): ``I - 8 R = Ic``, no correction

    ``control.signed`` = 1 takes ``w`` as two's complement instead: the digits are of ``w`` itself. The high
    pass of ``two_pass`` with it adds ``16 w_high a``, so of an 8-bit two's complement weight too Ic = I - 8 R.
    Width: ``group_max`` products of at most ``2**(a_bits + 2)`` and a sign, 19 bits for 128 (23 in two
    passes).
    """

    def __init__(self, *, group_max: int = 128, w_bits: int = 4, a_bits: int = 8, two_pass: bool = False):
        if w_bits != 4:
            raise InputError(f"w_bits must be 4, not {w_bits}, in a centred PE")
        super().__init__(group_max=group_max, w_bits=w_bits, a_bits=a_bits, two_pass=two_pass)

    def bits_of_sum(self):
        """Of ``group_max`` products of the two most negative operands, in two passes those of both."""
        weight = 8 + (128 if self.two_pass else 0)
        return (self.group_max * weight << (self.a_bits - 1)).bit_length() + 1

    def product(self, m):
        """Select the two terms and add them; a negative term is inverted, its 1 enters as a carry."""
        code = Signal(4)
        m.d.comb += code.eq(self.w ^ Cat(Const(0, 3), ~self.control.signed))
        terms = []
        for name, low in (("low", 0), ("high", 2)):
            one = Signal(name=f"{name}_one")
            two = Signal(name=f"{name}_two")
            negative = Signal(name=f"{name}_negative")
            for signal, holds in ((one, lambda pair: pair[0] != 0), (two, lambda pair: pair[1] != 0),
                                  (negative, lambda pair: sum(pair) < 0)):
                table = 0
                for pattern in range(16):
                    value = pattern - 16 if pattern & 8 else pattern
                    table |= bool(holds(signed_digits(value, 4)[low:low + 2])) << pattern
                m.d.comb += signal.eq(Const(table, 16).bit_select(code, 1))
            selected = Signal(signed(self.a_bits + 1), name=f"{name}_selected")
            m.d.comb += selected.eq(Mux(one, self.a, Mux(two, self.a << 1, 0)) ^ negative.replicate(self.a_bits + 1))
            terms.append((selected, negative))
        (low, low_negative), (high, high_negative) = terms
        shape = signed(self.a_bits + 4)
        # -x is ~x + 1: the low term's 1 fits below the high term, the high term's is added with it.
        product = Signal(shape)
        m.d.comb += product.eq(low + Cat(low_negative, Const(0, 1), high).as_signed() + (high_negative << 2))
        return product
