# amaranth: UnusedElaboratable=no
"""Processing elements that add several products a step: registers, control and accumulator serve all of them."""

from amaranth import *

from mixflight.arch.errors import InputError
from mixflight.rtl.pe import ProcessingElement


class DotPE(ProcessingElement):
    """A PE that adds the products of ``products`` pairs of consecutive k a step, by shift and add.

    Pair i is ``a[act_bits * i:][:act_bits]``, two's complement, and ``w[code_bits * i:][:code_bits]``; ``a`` and ``w``
    are words. A group has at most ``group_max`` steps. ``control.signed`` and ``control.high`` are handed on and
    otherwise ignored: codes are two's complement if ``code_signed``, else unsigned.

    ``sum_k w_k a_k = sum_i 2**i sum_k w_k[i] a_k``: the gated activations of one bit are added before any shift, in
    adders as narrow as can be, and the shifts join the ``code_bits`` sums of a step instead of the terms of each
    product. One carry-propagate adder of the accumulator's width, one group sum and one set of control bits serve a
    step, whatever the number of products.
    """

    def __init__(self, *, products: int, group_max: int, code_bits: int, act_bits: int, code_signed: bool):
        if products < 1 or products & (products - 1):
            raise InputError(f"products must be a power of two, not {products}, in a PE")
        self.products = products
        self.code_bits = code_bits
        self.act_bits = act_bits
        self.code_signed = code_signed
        super().__init__(group_max=group_max, w_bits=products * code_bits, a_bits=products * act_bits)

    def bits_of_sum(self):
        """Of ``group_max`` steps of products of the largest magnitude, and a sign."""
        code = 1 << (self.code_bits - 1) if self.code_signed else (1 << self.code_bits) - 1
        return (self.group_max * self.products * code << (self.act_bits - 1)).bit_length() + 1

    def product(self, m):
        """The planes of all bits, joined in pairs; the top one is subtracted where codes are signed."""
        terms = [self._plane(m, bit) for bit in range(self.code_bits)]
        wide, shift = len(terms[0]), 1
        while len(terms) > 1:
            joined = []
            for i, (low, high) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
                pair = Signal(signed(wide + 2 * shift), name=f"joined_{shift}_{i}")
                subtract = self.code_signed and shift == 1 and 2 * i + 2 == len(terms)
                m.d.comb += pair.eq(low - (high << 1) if subtract else low + (high << shift))
                joined.append(pair)
            terms = joined
            shift *= 2
        return terms[0]

    def _plane(self, m: Module, bit: int) -> Signal:
        """The sum of the activations whose codes have ``bit`` set, a balanced tree."""
        terms = []
        for pair in range(self.products):
            gated = Signal(signed(self.act_bits), name=f"gated_{bit}_{pair}")
            activation = self.a[self.act_bits * pair:][:self.act_bits].as_signed()
            m.d.comb += gated.eq(Mux(self.w[self.code_bits * pair + bit], activation, 0))
            terms.append(gated)
        while len(terms) > 1:
            pairs = []
            for i, (left, right) in enumerate(zip(terms[::2], terms[1::2], strict=True)):
                total = Signal(signed(len(left) + 1), name=f"plane_{bit}_{len(terms) // 2}_{i}")
                m.d.comb += total.eq(left + right)
                pairs.append(total)
            terms = pairs
        return terms[0]


def dot_w4a8_pe(*, products: int = 4, group_max: int = 32) -> DotPE:
    """Unsigned 4-bit codes and INT8 activations.

    Signed or offset codes enter with their offset as an integer zero point, which the lane subtracts as any other:
    ``sum (q - z) a = I - z R``. So no PE carries logic for signs.
    """
    return DotPE(products=products, group_max=group_max, code_bits=4, act_bits=8, code_signed=False)


def dot_w4a16_pe(*, products: int = 4, group_max: int = 32, extra_bits: int = 2) -> DotPE:
    """The same for FP16 activations that ``fp16-align`` made integers of ``12 + extra_bits`` bits."""
    return DotPE(products=products, group_max=group_max, code_bits=4, act_bits=12 + extra_bits, code_signed=False)


def dot_int8_pe(*, products: int = 4, group_max: int = 32) -> DotPE:
    """Both operands INT8: what the other two must be compared with. Smaller so than with ``*`` for each pair."""
    return DotPE(products=products, group_max=group_max, code_bits=8, act_bits=8, code_signed=True)
